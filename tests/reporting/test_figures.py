"""Figures: what is drawn, against cases worked out by hand, and how it is saved."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import synthetic_evidence
from oodcert.certification.roc_bounds import Statement, certified_curve, roc_curve_bounds
from oodcert.errors import InputError
from oodcert.reporting import figures, tables
from oodcert.reporting.figures.id_certified import certified_steps

TEN = list(synthetic_evidence.TEN)


@pytest.fixture(scope="module")
def config():
    return synthetic_evidence.config()


@pytest.fixture(scope="module")
def evidence(config):
    return synthetic_evidence.evidence(config)


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize("name", figures.FIGURES)
def test_same_bytes_at_every_call(name, evidence, config, tmp_path):
    for stem in ("first", "second"):
        figures.save(figures.FIGURES[name](evidence, config), tmp_path / stem, dpi=50)
    for kind in ("pdf", "png"):
        first, second = (tmp_path / f"{stem}.{kind}" for stem in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    assert len(list(tmp_path.iterdir())) == 4
    assert b"CreationDate" not in (tmp_path / "first.pdf").read_bytes()
    assert imread(tmp_path / "first.png").std() > 0.01


@pytest.fixture(scope="module", params=[1, 7, 10])
def several(request):
    """The evidence and the config of so many methods, on two sets."""
    config = synthetic_evidence.config(methods=TEN[-request.param :], ood=["held_out_digits", "uniform_noise"])
    return synthetic_evidence.evidence(config, images=20), config


@pytest.mark.parametrize("name", figures.FIGURES)
def test_nothing_is_cut_off(name, several, tmp_path):
    figures.FIGURES[name](*several).savefig(tmp_path / "drawn.png", dpi=80)
    pixels = imread(tmp_path / "drawn.png")[..., :3]
    for border in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (border == 1).all()


def test_colours_belong_to_methods_and_stay_visible():
    config = synthetic_evidence.config(methods=TEN)
    colours = figures.colours(config.methods, config.figures)
    assert list(colours) == TEN
    assert len(set(colours.values())) == 10
    assert all(0.2126 * r**2.2 + 0.7152 * g**2.2 + 0.0722 * b**2.2 <= 0.5 + 1e-9 for r, g, b in colours.values())


@pytest.mark.parametrize("palette", ["colorblind", "Set2"])
def test_more_methods_than_colours_take_darker_shades(palette):
    settings = synthetic_evidence.BASE.figures.changed(palette=palette)
    few, many = figures.colours(TEN[:8], settings), figures.colours([*TEN[:8], *range(15)], settings)
    assert len(set(many.values())) == 23 and many.items() >= few.items()


def test_an_unknown_palette_is_refused():
    with pytest.raises(InputError, match=r"figures\.palette.*no palette"):
        figures.colours(TEN, synthetic_evidence.BASE.figures.changed(palette="no_such"))


def test_the_context_scales_fonts_and_figure_together(evidence, config):
    small = figures.headline(evidence, config)
    large = figures.headline(evidence, synthetic_evidence.config(figures={"context": "poster"}))
    ratio = large.get_size_inches() / small.get_size_inches()
    label = [figure.axes[0].xaxis.label.get_fontsize() for figure in (small, large)]
    assert ratio == pytest.approx(label[1] / label[0], rel=0.01)


def test_scores_panels_and_threshold(evidence, config):
    figure = figures.scores(evidence, config)
    assert [axes.get_title() for axes in figure.axes] == ["Plain", "OE", "VOS", "ProoD", "DISTRO"]
    clean = evidence["clean"].query("method == 'prood' and set == 'id'")["score"]
    threshold = figure.axes[3].lines[0].get_xdata()[0]
    assert (clean >= threshold).mean() >= 0.95
    assert (clean > threshold).mean() < 0.95
    assert {"ID", "held-out digits", "gaussian noise"} <= set(texts(figure))
    lowest = evidence["clean"].query("method == 'plain' and set == 'gaussian_noise'")["score"]
    heights, edges, _ = figure.axes[0].patches[0].get_data()
    assert edges[[0, -1]] == pytest.approx([1 / 8, 1])
    counts, _ = np.histogram(lowest, edges)
    np.testing.assert_allclose(heights, 0.88 * counts / counts.max())


def test_every_score_has_its_own_axis():
    config = synthetic_evidence.config(methods=["plain", "vos", "atom"])
    evidence = synthetic_evidence.evidence(config)
    figure = figures.scores(evidence, config)
    assert [axes.get_xlabel() for axes in figure.axes] == ["MSP", "energy", "−log p(outlier)"]
    for axes, method in zip(figure.axes, config.methods, strict=True):
        scores = evidence["clean"].query("method == @method")["score"]
        edges = [edge for patch in axes.patches for edge in patch.get_data().edges[[0, -1]]]
        assert (min(edges), max(edges)) == ((1 / 8, 1) if method == "plain" else (scores.min(), scores.max()))
        low, high = axes.get_xlim()
        assert low <= scores.min() and scores.max() <= high


@pytest.mark.parametrize(("sampling", "metric", "luck"), [("fixed", "auc", 0.5), ("adaptive", "fpr95", 0.95)])
def test_l2_bracket_draws_the_tables_at_the_first_sigma_of_the_attack(sampling, metric, luck):
    evaluation = {"certify_l2": {"sampling": sampling}, "attack_l2": {"sigmas": (0.5, 0.25)}}
    config = synthetic_evidence.config(evaluation=evaluation)
    evidence = synthetic_evidence.evidence(config)
    figure = figures.l2_bracket(evidence, config)
    l2 = tables.l2_table(evidence, config).query("set == 'average' and sigma == 0.5")
    assert "σ = 0.5)" in figure.get_supxlabel() and metric.upper() in figure.get_supylabel()
    for axes, method in zip(figure.axes, config.methods, strict=True):
        *lines, chance = axes.lines
        bounds = config.methods[method].admitted_bounds(config.evaluation.certify_l2.bounds)
        assert len(bounds) == (1 if method == "vos" else 4)
        for line, bound in zip(lines, ["attack", *bounds], strict=True):
            rows = l2[(l2["method"] == method) & (l2["bound"] == bound)]
            np.testing.assert_allclose(line.get_xydata(), rows[["radius", metric]])
        assert len({line.get_linestyle() for line in lines[1:]}) == len(bounds)
        assert len({line.get_marker() for line in lines}) == 1 + len(bounds)
        assert chance.get_ydata()[0] == luck
        assert axes.collections[0].get_datalim(axes.transData).x1 == pytest.approx(1.0)


def test_certified_steps_by_hand():
    rows = pd.DataFrame(
        {
            "prediction": [0, 1, -1, 2, 3],
            "correct": [True, True, False, False, True],
            "radius": [0.2, 0.5, 0.0, 0.9, 0.5],
        }
    )
    radii, shares = certified_steps(rows, end=1.0)
    np.testing.assert_allclose(radii, [0, 0.2, 0.5, 1])
    np.testing.assert_allclose(shares, [0.6, 0.6, 0.4, 0])
    radii, shares = certified_steps(rows.assign(correct=False), end=1.0)
    np.testing.assert_allclose(shares, 0)


def test_certified_curves_agree_with_the_table(evidence, config):
    figure, table = figures.id_certified(evidence, config), tables.id_table(evidence, config)
    for axes, sigma in zip(figure.axes, [0.12, 0.25, 0.5], strict=True):
        assert axes.get_title() == f"σ = {sigma}"
        largest = evidence["certify_id"].query("sigma == @sigma")["radius"].max()
        assert axes.get_xlim() == pytest.approx((0, 1.05 * largest))
        for line, method in zip(axes.lines, config.methods, strict=True):
            radii, shares = line.get_data()
            for radius in (0.0, 0.25, 0.5):
                if radius > radii[-1]:
                    continue
                expected = table.set_index("method").loc[method, f"certified_accuracy_sigma_{sigma:g}_l2_{radius:g}"]
                assert shares[np.searchsorted(radii, radius)] == pytest.approx(expected)


def test_headline_prints_the_table(evidence, config):
    table = 100 * tables.headline_table(evidence, config).set_index("method").drop(columns=["lead", "reliable"])
    figure = figures.headline(evidence, config)
    bars = figure.axes[0].patches
    assert len(bars) == 5 * 4
    for row, method in enumerate(config.methods):
        parts = [table.loc[method].filter(like=protocol).mean() for protocol in ("clean", "guaranteed", "adversarial")]
        expected = [table.loc[method, "mean"], *parts]
        assert [bar.get_width() for bar in bars[4 * row : 4 * row + 4]] == pytest.approx(expected)
        printed = [text.get_text() for text in figure.axes[0].texts[4 * row : 4 * row + 4]]
        assert printed == [f"{value:.1f}" for value in expected]


@pytest.mark.parametrize("channels", [1, 3])
def test_denoised_grid(channels, config):
    images = synthetic_evidence.denoised(config, np.random.default_rng(0), channels)
    figure = figures.denoised({"denoised": images}, config)
    assert len(figure.axes) == 7 * 10
    shown = figure.axes[10].images[0].get_array()
    np.testing.assert_allclose(shown, np.clip(np.moveaxis(images["noisy"][0, 0], 0, -1), 0, 1).squeeze())
    assert [axes.get_title() for axes in figure.axes[:4]] == ["ID", "", "held-out digits", ""]
    assert figure.axes[10].get_ylabel() == "σ = 0.12\nnoisy"


def test_unreadable_examples_are_named(config, tmp_path):
    path, images = tmp_path / "denoised.npz", synthetic_evidence.denoised(config, np.random.default_rng(0))
    np.savez_compressed(path, **images)
    for name, array in figures.read_examples(path).items():
        np.testing.assert_array_equal(array, images[name])
    whole = path.read_bytes()
    np.savez_compressed(path, clean=images["clean"])
    incomplete = path.read_bytes()
    for broken in (b"", b"not a zip", whole[: len(whole) // 2], incomplete):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"denoised.npz is not a readable.*delete it and run again"):
            figures.read_examples(path)
    path.unlink()
    with pytest.raises(InputError, match=r"denoised.npz is not a readable"):
        figures.read_examples(path)


def test_training_draws_the_terms_of_every_component():
    config = synthetic_evidence.config(methods=["plain", "vos", "acet", "prood"])
    curves = synthetic_evidence.training(config)
    figure = figures.training({"training": curves}, config)
    titles = ["Plain", "VOS", "ACET", "discriminator", "ProoD", "denoiser"]
    assert [axes.get_title() for axes in figure.axes] == titles
    for axes, component in zip(figure.axes, curves["component"].unique(), strict=True):
        drawn = [line.get_xydata() for line in axes.lines if len(line.get_xdata())]
        rows = curves[(curves["component"] == component) & ~curves["term"].isin(["total", "learning_rate"])]
        expected = [term[["epoch", "value"]].to_numpy() for _, term in rows.groupby("term", sort=False)]
        assert len(drawn) == len(expected)
        for line, points in zip(drawn, expected, strict=True):
            np.testing.assert_array_equal(line, points)
        low, high = axes.get_ylim()
        assert low <= min(0, rows["value"].min()) and high >= rows["value"].max()
    assert {"ID", "outliers", "noise"} <= set(texts(figure)) and "total" not in texts(figure)


def test_missing_evidence_is_named(evidence, config):
    with pytest.raises(InputError, match="no learning curves"):
        figures.training({}, config)
    with pytest.raises(InputError, match="no denoised examples"):
        figures.denoised({}, config)
    needs = {
        "scores": ("clean",),
        "l2_bracket": ("certify_l2", "attack_l2"),
        "id_certified": ("certify_id",),
        "headline": ("clean", "guarantee_linf", "attack_linf", "sanity"),
    }
    for name, evaluations in needs.items():
        for evaluation in evaluations:
            frame = evidence[evaluation]
            with pytest.raises(InputError, match=f"{evaluation} evidence of method 'oe'"):
                figures.FIGURES[name](evidence | {evaluation: frame[frame["method"] != "oe"]}, config)


def test_certified_roc_draws_no_point_left_of_what_is_certified(evidence, config):
    figure = figures.FIGURES["certified_roc"](evidence, config)
    settings = config.evaluation.one_pass
    axes = figure.axes[config.data.ood.index("photo_crops")]
    line = axes.lines[list(config.methods).index("oe")]
    rows = evidence["one_pass"].query("method == 'oe' and sigma == @settings.sigmas[0]")
    known, strange = (
        rows[rows["set"] == name].pivot(index="sample", columns="draw", values="score").to_numpy()
        for name in ("id", "photo_crops")
    )
    statement = Statement(1 - (1 - settings.confidence) / len(config.data.ood))
    curve = certified_curve(roc_curve_bounds(known, strange, statement), 0.25 / settings.sigmas[0], statement)
    assert line.get_drawstyle() == "steps-pre"  # between two thresholds the higher one's TPR, which is lower
    assert line.get_xdata().tolist() == [1, *curve["fpr"]] and line.get_ydata().tolist() == [1, *curve["tpr"]]
