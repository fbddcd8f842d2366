"""Tables: values against cases worked out by hand, captions, and the files written."""

import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined

import synthetic_evidence
from conftest import read_config
from oodcert.certification.roc_bounds import Statement, certified_metrics, certified_threshold, roc_curve_bounds
from oodcert.config.models import ImportSpec
from oodcert.errors import InputError
from oodcert.reporting import tables
from oodcert.reporting.figures import FIGURES
from oodcert.reporting.tables.one_pass import one_pass_check
from oodcert.reporting.tables.values import certified_column
from oodcert.reporting.tables.writing import tex

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "workflow" / "report"
CAPTIONS = ["workflow", *(f"figure_{name}" for name in FIGURES)]


@pytest.fixture(scope="module")
def config():
    return synthetic_evidence.config()


@pytest.fixture(scope="module")
def evidence(config):
    return synthetic_evidence.evidence(config)


def one_method(method="distro", ood=("far", "near")):
    """A config of one method and two sets, with one sigma, and radii 0 and 0.5."""
    certify = {"sigmas": (0.25,), "radii": (0.0, 0.5)}
    evaluation = {
        "epsilon": 0.1,
        "sanity": {"images": 2, "epsilons": (0.1, 1.0)},
        "certify_l2": certify | {"bounds": ("percentile",)},
        "attack_l2": {"sigmas": (0.25,), "n": 100},
        "certify_id": certify,
        "attack_id": {"epsilons": (0.02,)},
    }
    return synthetic_evidence.config(methods=[method], ood=ood, evaluation=evaluation)


def evaluated(**changes):
    """The config with changes of its evaluations' settings."""
    return synthetic_evidence.config(evaluation=changes)


def rows(method, **columns):
    return pd.DataFrame({"method": method, **columns})


FULL = {"apgd_iterations": 500, "apgd_restarts": 5, "pgd_iterations": 200, "pgd_restarts": 3}
FULL |= {"queries": 5000, "draws": 20}


def hand_made():
    """Four ID images at 0.9, two of the set `far` at 0.2 and two of the set `near` at 0.9, not told apart."""
    sets, scores = ["id"] * 4 + ["far"] * 2 + ["near"] * 2, [0.9] * 4 + [0.2] * 2 + [0.9] * 2
    labels, sample = [0, 1, 2, 3, -1, -1, -1, -1], [0, 1, 2, 3, 0, 1, 0, 1]
    ood = {"set": sets[4:], "sample": sample[4:], "epsilon": 0.1}
    certified = {"sigma": 0.25, "bound": "percentile", "n": 100, "alpha": 0.01}
    smoothed = [
        rows("distro", set="id", sample=range(4), radius=0.0, estimate=[0.9, 0.8, 0.7, 0.6], lower=0.5, upper=1.0),
        rows("distro", set="far", sample=[0, 1], radius=0.0, estimate=0.2, lower=0.1, upper=0.3),
        rows("distro", set="far", sample=[0, 1], radius=0.5, estimate=0.2, lower=-np.inf, upper=[0.3, np.inf]),
        rows("distro", set="near", sample=[0, 1], radius=0.0, estimate=0.5, lower=0.1, upper=0.5),
        rows("distro", set="near", sample=[0, 1], radius=0.5, estimate=0.5, lower=0.1, upper=np.inf),
    ]
    autoattack = {"apgd-ce": [True, True, True, False], "apgd-dlr": [True, False, True, False]}
    autoattack["worst-case"] = [True, False, False, False]
    sanity = {"set": sets[4:], "sample": sample[4:], "clean": scores[4:]}
    return {
        "clean": rows("distro", set=sets, sample=sample, label=labels, prediction=0, score=scores, draws=64),
        "guarantee_linf": rows("distro", **ood, upper=[0.3, 0.3, 1.0, 1.0], vacuous=[False, False, True, True]),
        "attack_linf": rows(
            "distro",
            **ood,
            clean=scores[4:],
            attacked=[0.2, 0.95, 0.9, 0.95],
            attack=["clean", "apgd", "apgd", "decontrast"],
            white_box=[0.2, 0.95, 0.9, 0.95],
            square=[0.2, 0.95, 0.9, 0.95],
            standard_error=0.0,
            **FULL,
        ),
        "sanity": pd.concat(
            [
                rows("distro", **sanity, epsilon=epsilon, share=share, attacked=1.0, white_box=1.0, square=1.0)
                for epsilon, share in ((0.1, 1.0), (1.0, 1.0), (0.1, 0.25))
            ],
            ignore_index=True,
        ),
        "attack_linear": rows(
            "linear", **ood, clean=[0.0, 1.0, -1.0, 0.0], attacked=[1.0, 2.0, 1.0, 1.99], maximum=2.0
        ).assign(maximum=[1.0, 2.0, 1.0, 2.0]),
        "certify_l2": pd.concat(smoothed, ignore_index=True).assign(**certified),
        "attack_l2": rows(
            "distro", set=["far", "far", "near", "near"], sample=[0, 1, 0, 1], sigma=0.25, radius=[0.0, 0.0, 0.5, 0.5]
        ).assign(median=[0.5, 0.65, 0.95, 0.75], n=100, iterations=100, restarts=1, draws=20),
        "certify_id": rows(
            "distro",
            set="id",
            sample=range(4),
            sigma=0.25,
            label=[0, 1, 2, 3],
            prediction=[0, -1, 2, 0],
            radius=[0.5, 0.0, 0.2, 0.9],
            correct=[True, False, True, False],
            n0=100,
            n=1000,
            alpha=0.001,
        ),
        "attack_id": pd.concat(
            [
                rows(
                    "distro",
                    set="id",
                    sample=range(4),
                    label=[0, 1, 2, 3],
                    epsilon=0.02,
                    attack=attack,
                    version="rand",
                    iterations=100,
                    queries=0,
                    eot=20,
                    clean_correct=[True, True, True, False],
                    correct=correct,
                )
                for attack, correct in autoattack.items()
            ],
            ignore_index=True,
        ),
    }


def test_id_accuracies_by_hand():
    row = tables.id_table(hand_made(), one_method()).iloc[0]
    assert row["images"] == 4
    assert row["clean_accuracy"] == 0.25
    assert row["adversarial_accuracy_linf_0.02"] == 0.25  # the worst case over the attacks
    # the abstention is not correct at radius 0; a radius of exactly R counts; a wrong image never does
    assert row[certified_column(0.25, 0.0)] == 0.5
    assert row[certified_column(0.25, 0.5)] == 0.25


def test_abstention_does_not_count_even_if_marked_correct():
    evidence = hand_made()
    evidence["certify_id"].loc[1, "correct"] = True
    assert tables.id_table(evidence, one_method()).iloc[0][certified_column(0.25, 0.0)] == 0.5


def test_autoattack_accuracies_by_hand():
    table = tables.autoattack_table(hand_made(), one_method())
    assert table["attack"].tolist() == ["apgd-ce", "apgd-dlr", "worst-case"]
    assert table["accuracy"].tolist() == [0.75, 0.5, 0.25]
    assert (table["method"] == "distro").all() and (table["epsilon"] == 0.02).all()


def test_autoattack_shows_a_dash_for_attacks_of_the_other_version(evidence, config):
    table = tables.autoattack_table(evidence, config)
    shown = tables.readable("autoattack", table, config)
    attacks = ["APGD-CE", "APGD-DLR", "APGD-T", "FAB-T", "Square", "worst-case"]
    assert list(shown.columns) == ["Method", "ε", *attacks]
    assert shown["Method"].tolist() == ["Plain", "", "OE", "", "VOS", "", "ProoD", "", "DISTRO", ""]
    assert shown["ε"].tolist() == ["0.00784", "0.03137"] * 5
    dashes = {name: 10 - shown[name].tolist().count("–") for name in attacks}
    assert dashes == dict(zip(attacks, (10, 2, 8, 8, 8, 10), strict=True))
    assert (shown.loc[:7, "APGD-DLR"] == "–").all()
    assert (shown.loc[8:, ["APGD-T", "FAB-T", "Square"]] == "–").all(axis=None)
    worst = table.query("method == 'vos' and epsilon == 0.03137 and attack == 'worst-case'")["accuracy"].iloc[0]
    assert shown.loc[5, "worst-case"] == f"{100 * worst:.1f}"
    alone = table[table["attack"] != "worst-case"].groupby(["method", "epsilon"])["accuracy"].min()
    together = table[table["attack"] == "worst-case"].set_index(["method", "epsilon"])["accuracy"]
    assert (together <= alone.loc[together.index]).all()
    caption = tables.caption("autoattack", evidence, config)
    assert (
        "A dash: the version of AutoAttack that the method is attacked with lacks this attack." in caption
        and "Images: 40." in caption
    )
    assert "Plain, OE, VOS and ProoD: standard, 100 iterations, 1000 Square queries [reduced" in caption


def test_ood_metrics_by_hand():
    table = tables.ood_table(hand_made(), one_method()).set_index(["set", "protocol"])
    assert table.index.is_unique
    assert len(table) == 9
    perfect, tied = {"auc": 1.0, "aupr": 1.0, "fpr95": 0.0}, {"auc": 0.5, "aupr": 4 / 6, "fpr95": 1.0}
    for metric in ("auc", "aupr", "fpr95"):
        assert table.loc[("far", "clean"), metric] == pytest.approx(perfect[metric])
        assert table.loc[("near", "clean"), metric] == pytest.approx(tied[metric])
        assert table.loc[("average", "clean"), metric] == pytest.approx((perfect[metric] + tied[metric]) / 2)
    assert table.loc[("far", "guaranteed"), "auc"] == 1.0
    # one of the two attacked images passes all ID images
    assert table.loc[("far", "adversarial"), "auc"] == 0.5
    assert table.loc[("far", "adversarial"), "fpr95"] == 0.5


def test_vacuous_bound_guarantees_nothing_even_against_scores_of_one():
    evidence = hand_made()
    evidence["clean"]["score"] = 1.0
    table = tables.ood_table(evidence, one_method()).set_index(["set", "protocol"])
    assert table.loc[("near", "clean"), "auc"] == 0.5
    assert table.loc[("near", "guaranteed"), "auc"] == 0.0
    assert table.loc[("near", "guaranteed"), "fpr95"] == 1.0


def test_l2_guarantee_by_hand():
    by_image = tables.guaranteed_l2_table(hand_made(), one_method(), confidence=None).set_index(["set", "radius"])
    assert (by_image["bound"] == "percentile").all() and (by_image["per_image_alpha"] == 0.01).all()
    assert by_image.loc[("far", 0.0), "auc"] == 1.0
    # the sample without a certificate is worse than every ID image
    assert by_image.loc[("far", 0.5), "auc"] == 0.5
    assert by_image.loc[("far", 0.5), "fpr95"] == 0.5
    assert by_image.loc[("near", 0.0), "auc"] == 0.5
    assert by_image.loc[("near", 0.5), "auc"] == 0.0
    assert by_image.loc[("average", 0.5), "auc"] == 0.25


def test_l2_guarantee_with_confidence_by_hand():
    """At alpha = 0.01 one of the four ID bounds and one of the two OOD bounds of a set may fail, in 1 % of the runs."""
    table = tables.guaranteed_l2_table(hand_made(), one_method()).set_index(["set", "radius"])
    assert (table["confidence"] == 0.99).all()
    assert table.loc[("far", 0.0), "auc"] == 3 / 4 * 1 / 2 and table.loc[("near", 0.0), "auc"] == 3 / 4 * 1 / 4
    assert table.loc[("average", 0.0), "auc"] == (3 / 8 + 3 / 16) / 2 and (table["fpr95"] == 1).all()
    assert table.loc[("far", 0.5), "auc"] == 0
    stated = "hold with a confidence of 99 %, those of all sets and their average at once"
    assert stated in tables.caption("l2", hand_made(), one_method())
    assert "takes its worst value, 1 of each set" in tables.caption("l2", hand_made(), one_method())


def test_attacked_l2_by_hand():
    table = tables.attacked_l2_table(hand_made(), one_method()).set_index(["set", "radius"])
    # ID estimates 0.9, 0.8, 0.7, 0.6: 0.5 loses to all, 0.65 to three of them, 0.95 to none and 0.75 to two
    assert table.loc[("far", 0.0), "auc"] == pytest.approx(7 / 8)
    assert table.loc[("near", 0.5), "auc"] == pytest.approx(2 / 8)


def test_l2_table_holds_both_ends_of_the_bracket():
    config = evaluated(attack_l2={"sigmas": (0.25, 0.5)})
    evidence = synthetic_evidence.evidence(config)
    assert "achieved on the median at σ = 0.25 and 0.5" in tables.caption("l2", evidence, config)
    table = tables.l2_table(evidence, config)
    attack = table[table["bound"] == "attack"]
    assert set(attack["sigma"]) == {0.25, 0.5} and set(attack["radius"]) == set(table["radius"])
    attacked = tables.attacked_l2_table(evidence, config)
    pd.testing.assert_frame_equal(attack[attacked.columns].reset_index(drop=True), attacked)
    guaranteed = tables.guaranteed_l2_table(evidence, config)
    pd.testing.assert_frame_equal(table[~table["bound"].isin(["attack", "one pass", "one pass attack"])], guaranteed)


def test_l2_table_holds_the_certified_roc_of_one_pass(evidence, config):
    table = tables.l2_table(evidence, config).query("bound == 'one pass'")
    assert set(table["sigma"]) == {0.25} and set(table["confidence"]) == {0.99}
    draws = evidence["one_pass"].query("method == 'vos' and sigma == 0.25")
    known, strange = (
        draws[draws["set"] == name].pivot(index="sample", columns="draw", values="score").to_numpy()
        for name in ("id", "photo_crops")
    )
    statement = Statement(1 - 0.01 / 4)
    curve = roc_curve_bounds(known, strange, statement)
    row = table.query("method == 'vos' and radius == 0.5 and set == 'photo_crops'").iloc[0]
    expected = certified_metrics(known, strange, curve, 2.0, statement)
    assert row[["auc", "aupr", "fpr95"]].to_dict() == {key: expected[key] for key in ("auc", "aupr", "fpr95")}
    without = config.changed(evaluation={"one_pass": None})
    assert "one pass" not in set(tables.l2_table(evidence, without)["bound"])


def test_l2_table_holds_the_attack_on_one_pass(evidence, config):
    table = tables.l2_table(evidence, config).query("bound == 'one pass attack'")
    assert set(table["sigma"]) == {0.25} and table["confidence"].isna().all()
    draws = evidence["one_pass"].query("method == 'vos' and sigma == 0.25 and set == 'id'")["score"].to_numpy()
    cell = "method == 'vos' and radius == 0.5 and set == 'photo_crops'"
    single = evidence["attack_l2"].query(f"{cell} and sigma == 0.25")["one_pass_score"].to_numpy()
    row = table.query(cell).iloc[0]
    won = (draws[:, None] > single) + 0.5 * (draws[:, None] == single)
    assert row["auc"] == pytest.approx(won.mean())
    threshold = certified_threshold(draws[:, None], 0.0, Statement(1 - 0.01 / 4))
    assert row["fpr95"] == np.mean(single >= threshold)


def test_evidence_without_the_attack_on_one_pass_is_named(evidence, config):
    lacking = evidence | {"attack_l2": evidence["attack_l2"].drop(columns="one_pass_score")}
    with pytest.raises(InputError, match="attack_l2 evidence of method 'plain' has no column one_pass_score"):
        tables.l2_table(lacking, config)


@pytest.mark.parametrize(("share", "violations"), [(0.0, 0), (1.0, 1)])
def test_more_accepted_attacked_images_than_certified_are_a_violation(evidence, config, share, violations):
    """The certified FPR95 of one cell allows any number only where it is near 1."""
    attack = evidence["attack_l2"].copy()
    one = attack.eval("method == 'oe' and sigma == 0.25 and radius == 0 and set == 'gaussian_noise'")
    attack.loc[one, "one_pass_score"] = share
    before, (check,) = one_pass_check(evidence, config), one_pass_check(evidence | {"attack_l2": attack}, config)
    assert before[0]["violations"] == 0 and check["violations"] == violations
    assert check["compared"] == 5 * 4 * 5  # methods, sets, radii


def test_headline_is_the_mean_of_nine(evidence, config):
    table = tables.headline_table(evidence, config).set_index("method")
    ood = tables.ood_table(evidence, config)
    for method in config.methods:
        average = ood[(ood["method"] == method) & (ood["set"] == "average")]
        assert len(average) == 3
        ingredients = [*average["auc"], *average["aupr"], *(1 - average["fpr95"])]
        assert table.loc[method, "mean"] == pytest.approx(np.mean(ingredients))
        assert table.loc[method, "lead"] == pytest.approx(table.loc[method, "mean"] - table["mean"].drop(method).max())
    assert list(table.index) == list(config.methods)
    assert table.shape[1] == 12
    lead = f"{100 * table.loc['distro', 'lead']:+.2f}".replace("-", "−")
    best = tables.label(table["mean"].drop("distro").idxmax())
    stated = f"DISTRO minus the best method without a denoiser ({best}): {lead}"
    assert stated in tables.caption("headline", evidence, config)


def test_headline_of_a_perfect_and_a_constant_detector():
    config = one_method(ood=["far"]).changed(methods={name: synthetic_evidence.TEN[name] for name in ("oe", "distro")})
    evidence = hand_made()
    far = {name: frame[frame["set"].isin(["id", "far"])] for name, frame in evidence.items()}
    far["attack_linf"] = far["attack_linf"].assign(attacked=0.25)
    constant = {name: frame.assign(method="oe") for name, frame in far.items()}
    constant["clean"] = constant["clean"].assign(score=0.5)
    constant["guarantee_linf"] = constant["guarantee_linf"].assign(upper=0.5)
    constant["attack_linf"] = constant["attack_linf"].assign(attacked=0.5)
    both = {name: pd.concat([constant[name], far[name]], ignore_index=True) for name in far}
    table = tables.headline_table(both, config).set_index("method")
    assert table.loc["distro", "mean"] == 1.0
    worst = np.mean([1 / 3, 2 / 4, 3 / 5, 4 / 6])  # guaranteed AUPR counts ties against the detector
    assert table.loc["oe", "mean"] == pytest.approx((3 * 0.5 + 2 * 4 / 6 + worst + 0) / 9)
    assert table.loc["distro", "lead"] == pytest.approx(1 - table.loc["oe", "mean"])
    assert table.loc["oe", "lead"] == pytest.approx(table.loc["oe", "mean"] - 1)


def test_headline_without_distro_or_without_others(evidence, config):
    for methods in (["plain", "oe"], ["distro"]):
        text = tables.caption("headline", evidence, synthetic_evidence.config(methods=methods))
        assert "DISTRO minus" not in text
    assert tables.headline_table(evidence, synthetic_evidence.config(methods=["distro"]))["lead"].isna().all()


def test_order_and_coverage(evidence, config):
    ood, l2 = tables.ood_table(evidence, config), tables.l2_table(evidence, config)
    assert list(ood["method"].unique()) == list(l2["method"].unique()) == list(config.methods)
    assert list(ood["set"].unique()) == list(l2["set"].unique()) == [*config.data.ood, "average"]
    assert len(ood) == 5 * 5 * 3
    assert len(l2) == (4 * 4 + 1) * 3 * 5 * 5 + 3 * 5 * 5 * 5  # of the unbounded score, the percentile bound alone
    wide = ood.pivot(index=["method", "set"], columns="protocol", values="auc")
    assert (wide["guaranteed"] <= wide["adversarial"]).all()
    assert (wide["adversarial"] <= wide["clean"]).all()


@pytest.mark.parametrize(
    ("kind", "needs"),
    [
        ("id", ("clean", "attack_id", "certify_id")),
        ("autoattack", ("attack_id",)),
        ("ood", ("clean", "guarantee_linf", "attack_linf", "sanity")),
        ("l2", ("certify_l2", "attack_l2")),
        ("sanity", ("clean", "sanity")),
        ("headline", ("clean", "guarantee_linf", "attack_linf", "sanity")),
    ],
)
def test_missing_evidence_is_named(kind, needs, evidence, config):
    for evaluation in needs:
        frame = evidence[evaluation]
        for broken in ({evaluation: frame[frame["method"] != "oe"]}, {}):
            rest = {name: rows for name, rows in evidence.items() if name != evaluation}
            with pytest.raises(InputError, match=rf"{evaluation} evidence of method '(oe|plain)'"):
                tables.TABLES[kind](rest | broken, config)


def test_missing_set_sigma_epsilon_and_bound_are_named(evidence, config):
    clean = evidence["clean"]
    with pytest.raises(InputError, match="no rows of the set 'photo_crops'"):
        tables.ood_table(evidence | {"clean": clean[clean["set"] != "photo_crops"]}, config)
    with pytest.raises(InputError, match=r"epsilon = \[0.05\], not 0.3 as configured"):
        tables.ood_table(evidence, evaluated(epsilon=0.3))
    with pytest.raises(InputError, match=r"not 2.0 as configured"):
        tables.l2_table(evidence, evaluated(certify_l2={"sigmas": (2.0,)}))
    with pytest.raises(InputError, match=r"not 'vote' as configured"):
        tables.l2_table(evidence, evaluated(certify_l2={"sigmas": (0.25,), "bounds": ("vote",)}))
    with pytest.raises(InputError, match=r"attack_l2.* sigma = \[0.25\], not 0.5 as configured"):
        tables.l2_table(evidence, evaluated(attack_l2={"sigmas": (0.25, 0.5)}))


def test_nan_scores_name_method_and_set(evidence, config):
    clean = evidence["clean"].copy()
    clean.loc[(clean["method"] == "prood") & (clean["set"] == "photo_crops"), "score"] = np.nan
    with pytest.raises(InputError, match=r"clean scores of prood on photo_crops.*NaN"):
        tables.ood_table(evidence | {"clean": clean}, config)


def test_captions_state_the_settings(evidence, config):
    texts = {kind: tables.caption(kind, evidence, config) for kind in tables.TABLES}
    assert all(text.endswith("Seed 7.") for text in texts.values())
    for kind in ("ood", "headline"):
        assert "40 ID and 40 of each OOD set, ID:OOD = 1:1" in texts[kind]
        assert "ε = 0.05" in texts[kind]
        assert "on 100 % of the OOD images for Plain, OE and VOS" in texts[kind]
        assert "(Plain, OE, VOS and ProoD: 100 APGD iterations [reduced from 500], 1 APGD restart [red" in texts[kind]
        assert "200 monotone PGD iterations, 3 PGD restarts, 1000 Square queries [reduced from 5000];" in texts[kind]
        assert "queries [reduced from 5000], 8 noise draws [reduced from 20])" in texts[kind]
        assert "DISTRO over 64 noise draws" in texts[kind]
        assert "σ = 0.12" in texts[kind]
        assert "deterministic upper bounds (no n, no α)" in texts[kind]
        assert "DISTRO's attacked scores have a Monte-Carlo standard error of at most 0.01." in texts[kind]
        assert texts[kind].count("standard error") == 1
    assert "n = 1000 draws, α = 0.01" in texts["l2"]
    assert "(10 iterations [reduced from 100], 1 restart, 8 noise draws [reduced from 20])" in texts["l2"]
    assert "n = 500 fresh draws" in texts["l2"]
    assert "The scores of VOS have no range. Of these bounds they admit the percentile bound alone." in texts["l2"]
    assert "which the attack never saw" in texts["id"]
    assert "n₀ = 100, n = 1000, α = 0.001" in texts["id"]
    assert "standard, 100 iterations, 1000 Square queries [reduced from 5000]" in texts["id"]
    assert "DISTRO: rand, 30 iterations [reduced from 100], 8 EOT draws [reduced from 20]" in texts["id"]
    assert "40 clean, 40 attacked, 40 certified" in texts["id"]
    assert "probability ≥ 1 − α" in texts["id"] and "probability ≥ 1 − α" in texts["l2"]


@pytest.mark.parametrize("kind", ["l2", "id"])
def test_captions_say_where_networks_ran_in_bfloat16(kind, evidence):
    assert "bfloat16" not in tables.caption(kind, evidence, synthetic_evidence.config())
    config = evaluated(**{f"certify_{kind}": {"precision": "bfloat16"}})
    assert "of the networks in bfloat16" in tables.caption(kind, evidence, config)


def test_captions_say_what_adaptive_sampling_decides(evidence):
    config, evidence = synthetic_evidence.config(), dict(evidence)
    for kind in ("l2", "id"):
        rows = evidence[f"certify_{kind}"]
        evidence[f"certify_{kind}"] = rows.assign(n=np.where(rows["sample"] == 0, 128, 1000))
        assert "adaptive" not in tables.caption(kind, evidence, config)
    config = evaluated(certify_l2={"sampling": "adaptive"}, certify_id={"sampling": "adaptive"})
    decided = "n = 128 to 1000 draws (adaptive: until it is decided on which side of the FPR95 threshold an OOD bound"
    caption = tables.caption("l2", evidence, config)
    assert f"{decided} lies), α = 0.01: each bound" in caption
    assert caption.startswith("FPR95, in %") and "AUC and AUPR far worse" in caption and "the lower end" in caption
    decided = "n = 128 to 1000 (adaptive: until it is decided which R an image reaches), α = 0.001: each image"
    assert decided in tables.caption("id", evidence, config)


def test_full_attacks_and_unequal_sets_are_stated():
    evidence, config = hand_made(), one_method()
    assert "reduced" not in tables.caption("id", evidence, config)
    assert "reduced" not in tables.caption("ood", evidence, config)
    assert "reduced" not in tables.caption("l2", evidence, config)
    assert "standard error" not in tables.caption("ood", evidence, config)
    assert "which counts as the worst value. That is so on 50 % of the OOD" in tables.caption("ood", evidence, config)
    assert "percentile 37.5 %" in tables.caption("l2", evidence, config)
    assert "no range" not in tables.caption("l2", evidence, config)
    strongest = "The highest score came from APGD on 50 %, clean on 25 % and decontrast on 25 % of the images"
    assert strongest in tables.caption("ood", evidence, config)
    evidence["clean"] = evidence["clean"].iloc[:-1]
    assert "4 ID; far 2 (1:0.5), near 1 (1:0.25)" in tables.caption("ood", evidence, config)


def test_bounds_that_say_nothing_are_counted_by_what_they_bound():
    evidence, config = hand_made(), one_method()
    certified = evidence["certify_l2"]
    certified.loc[certified["upper"] == np.inf, "upper"] = 1.0
    assert "percentile 0 %" in tables.caption("l2", evidence, config)
    evidence["certify_l2"] = certified.assign(bound="gaussian")
    assert "gaussian 37.5 %" in tables.caption("l2", evidence, config)


def test_standard_errors_are_rounded_up():
    evidence = hand_made()
    evidence["attack_linf"]["standard_error"] = [0.0, 0.0211, 0.0, 0.0]
    assert "standard error of at most 0.022." in tables.caption("ood", evidence, one_method())


def test_methods_on_different_images_cannot_be_compared(evidence, config):
    clean = evidence["clean"]
    fewer = clean[(clean["method"] != "oe") | (clean["set"] != "photo_crops") | (clean["sample"] < 30)]
    with pytest.raises(InputError, match=r"different numbers of photo_crops images in clean: .*'oe': 30"):
        tables.caption("ood", evidence | {"clean": fewer}, config)


@pytest.mark.parametrize("kind", tables.TABLES)
def test_files(kind, evidence, config, tmp_path):
    frame = tables.TABLES[kind](evidence, config)
    shown = tables.readable(kind, frame, config)
    caption = tables.caption(kind, evidence, config)
    tables.write_table(frame, caption, tmp_path / "sub" / f"table.{kind}", shown)
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == [
        f"table.{kind}.{suffix}" for suffix in ("csv", "md", "tex")
    ]
    back = pd.read_csv(tmp_path / "sub" / f"table.{kind}.csv")
    pd.testing.assert_frame_equal(back, frame, check_dtype=False, atol=1e-6, rtol=0)
    markdown = (tmp_path / "sub" / f"table.{kind}.md").read_text()
    assert markdown.startswith(caption + "\n\n|")
    assert len(markdown.splitlines()) == len(shown) + 4
    latex = (tmp_path / "sub" / f"table.{kind}.tex").read_text()
    assert all(text in latex for text in (r"\toprule", r"\midrule", r"\bottomrule", rf"\label{{tab:table.{kind}}}"))
    assert latex.isascii()
    assert latex.count("_") == latex.count("n_0") + latex.count(r"\ell_")
    assert latex.count("%") == latex.count(r"\%")


def test_readable_cells_are_percentages(evidence, config):
    ood = tables.ood_table(evidence, config)
    shown = tables.readable("ood", ood, config)
    assert shown.shape == (5 * 5, 2 + 9)
    best = ood.set_index(["set", "method", "protocol"]).loc[("average", "distro", "guaranteed"), "aupr"]
    assert shown.loc[4, ("Guaranteed", "AUPR")] == f"{100 * best:.1f}"
    l2 = tables.l2_table(evidence, config)
    cell = l2.query("method == 'oe' and sigma == 0.5 and bound == 'gaussian' and radius == 0.25 and set == 'average'")
    shown = tables.readable("l2", l2, config)
    assert shown.shape == (4 * (3 * 4 + 3) + 3 + 3, 3 + 5)
    bounds = ["percentile", "cdf", "gaussian", "lipschitz"]
    assert list(shown.loc[15:29, "Bound"]) == [*bounds * 2, "one pass", "attack", "one pass attack", *bounds]
    assert list(shown.loc[15:29, "σ"]) == ["0.12", "", "", "", "0.25", "", "", "", "", "", "", "0.5", "", "", ""]
    assert shown.loc[28, "R = 0.25"] == f"{100 * cell['auc'].iloc[0]:.1f}"
    adaptive = evaluated(certify_l2={"sampling": "adaptive"})
    assert tables.readable("l2", l2, adaptive).loc[28, "R = 0.25"] == f"{100 * cell['fpr95'].iloc[0]:.1f}"
    rows = {method: 6 if method == "vos" else 15 for method in config.methods}
    assert list(shown["Method"]) == [name for m in rows for name in [tables.label(m)] + [""] * (rows[m] - 1)]
    assert list(shown.loc[30:34, "Bound"]) == ["percentile", "percentile", "one pass", "attack", "one pass attack"]


def test_long_tables_break_over_pages(tmp_path):
    frame = pd.DataFrame({"method": ["a_b"] * 60, "auc": 0.5})
    tables.write_table(frame, "100 % of α", tmp_path / "long")
    latex = (tmp_path / "long.tex").read_text()
    assert r"\begin{longtable}{lr}" in latex
    assert r"\caption{100 \% of $\alpha$}" in latex
    assert r"a\_b & 0.500" in latex


def test_nothing_half_written(tmp_path):
    frame = pd.DataFrame({"method": ["a"], "auc": [0.5]})
    with pytest.raises(TypeError):
        tables.write_table(frame, None, tmp_path / "broken")
    assert not list(tmp_path.iterdir())


def test_tex_escapes():
    assert tex(r"a_b & 5 % {x} \ ~^#$") == (
        r"a\_b \& 5 \% \{x\} \textbackslash{} \textasciitilde{}\textasciicircum{}\#\$"
    )
    assert tex("ℓ∞, ℓ₂, σ ≥ 1 − α") == r"$\ell_\infty$, $\ell_2$, $\sigma$ $\geq$ 1 $-$ $\alpha$"


def test_labels():
    assert [tables.label(name) for name in ("prood", "oe", "held_out_digits", "some_new_set")] == [
        "ProoD",
        "OE",
        "held-out digits",
        "some new set",
    ]


def rendered(name, config, folder=None):
    """A caption of `snakemake --report`; folder: of the tables."""
    template = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        (REPORT / f"{name}.rst").read_text()
    )
    return template.render(snakemake=SimpleNamespace(config=config, params=SimpleNamespace(folder=folder)))


def as_html(rst):
    return publish_parts(rst, writer="html", settings_overrides={"halt_level": 2, "report_level": 2})["body"]


@pytest.mark.parametrize("name", CAPTIONS)
def test_report_captions_render_from_the_config(name):
    config = read_config()
    text = rendered(name, config)
    as_html(text)
    assert f"eed {config['seed']}" in text or f"seed {config['seed']}" in text
    assert not re.search(r"[\[\]{}]|None", text.replace("[0, 1]", ""))


def test_report_captions_follow_the_config():
    config = read_config()
    config["seed"], config["data"]["test_images"] = 98, 765
    config["evaluation"]["certify_l2"] |= {"sigmas": [0.777], "n": 4321, "alpha": 0.0123, "sampling": "fixed"}
    config["evaluation"]["attack_l2"] |= {"sigmas": [0.333, 0.444]}
    text = rendered("figure_l2_bracket", config)
    for stated in ("Seed 98", "765:765", "σ = 0.333.", "n = 4321", "α = 0.0123"):
        assert stated in text
    config["evaluation"]["certify_l2"] |= {"sampling": "adaptive"}
    config["evaluation"]["certify_id"] |= {"sampling": "adaptive", "n": 5678}
    for name in ("figure_l2_bracket", "workflow"):
        assert "n ≤ 4321" in rendered(name, config)
    for name in ("figure_id_certified", "workflow"):
        assert "n ≤ 5678" in rendered(name, config)


@pytest.mark.parametrize("kind", tables.TABLES)
def test_the_report_shows_the_captions_of_the_tables(kind, evidence, config, tmp_path):
    """There is one wording: whatever characters it holds, the report has it from the table's Markdown file."""
    caption = tables.caption(kind, evidence, config) + " *a* |b| c_ `d` <e> {{f}}"
    tables.write_table(pd.DataFrame({"method": ["oe"], "auc": 0.5}), caption, tmp_path / kind)
    shown = as_html(rendered(f"table_{kind}", {}, tmp_path))
    assert unescape(shown.strip().removeprefix("<p>").removesuffix("</p>")) == caption


def test_unavailable_sets_are_in_the_tables(evidence, config):
    lacking = synthetic_evidence.config(data={"unavailable": {"lsun_crop": "the link is dead"}})
    frame = tables.TABLES["ood"](evidence, lacking)
    rows = frame[frame["set"] == "lsun_crop"]
    assert len(rows) == 3 * len(config.methods) and rows[["auc", "aupr", "fpr95"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(frame[: -len(rows)], tables.TABLES["ood"](evidence, config))
    shown = tables.readable("ood", frame, lacking).to_numpy()[-1]
    assert list(shown) == ["LSUN crop", "unavailable", *["–"] * 9]
    for kind in ("ood", "headline", "l2", "sanity"):
        assert "no average: LSUN crop (the link is dead)." in tables.caption(kind, evidence, lacking)
        assert "Unavailable" not in tables.caption(kind, evidence, config)


@pytest.mark.parametrize("kind", tables.TABLES)
def test_captions_say_what_was_done_to_the_images(kind, evidence, config):
    coded = synthetic_evidence.config(data={"jpeg_quality": 75})
    assert "All images went through JPEG of quality 75." in tables.caption(kind, evidence, coded)
    assert "JPEG" not in tables.caption(kind, evidence, config)


def test_captions_say_what_was_not_trained_here(evidence, config):
    own = synthetic_evidence.config(imports={"plain": ImportSpec(network="a:b", weights="c")})
    assert "Imported, not trained here: Plain." in tables.caption("ood", evidence, own)
    released = synthetic_evidence.config(weights="released", data={"id": "cifar100"})
    caption = tables.caption("id", evidence, released)
    assert "Released weights, not trained here: Plain, OE, ProoD and discriminator." in caption
    assert "not trained here" not in tables.caption("ood", evidence, config)


def test_accuracy_on_more_images_than_are_attacked(evidence, config):
    clean = evidence["clean"]
    more = clean[(clean["set"] == "id") & clean["method"].isin(["plain", "oe"])][::-1].assign(set="id_more")
    more = more.assign(sample=more["sample"] + 1000, prediction=more["label"])
    found = {**evidence, "clean": pd.concat([clean, more], ignore_index=True)}
    before, after = (tables.TABLES["id"](one, config).set_index("method") for one in (evidence, found))
    assert after.loc["plain", "images"] == 2 * before.loc["plain", "images"]
    assert after.loc["plain", "clean_accuracy"] == pytest.approx((before.loc["plain", "clean_accuracy"] + 1) / 2)
    assert after.loc["distro"].equals(before.loc["distro"])
    assert "The clean accuracy of Plain and OE is of 80 images." in tables.caption("id", found, config)
    for kind in ("ood", "headline", "sanity"):
        pd.testing.assert_frame_equal(tables.TABLES[kind](found, config), tables.TABLES[kind](evidence, config))
