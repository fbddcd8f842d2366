"""The authors' code as a whole: corrected in all it is the main evaluation; a flag changes what it says it touches."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import synthetic_evidence
from conftest import ROOT
from oodcert.authors_code import networks
from oodcert.authors_code.bounds import linf_bound
from oodcert.authors_code.flags import ALL, AUTHORS_CODE, FLAGS, SOUND, case_of, protocol, touches
from oodcert.certification.linf_bounds import linf_score_upper_bound
from oodcert.errors import InputError
from oodcert.models.composition import deployed_network, smoothed_network
from oodcert.models.detector import Detector
from oodcert.models.wrappers import noisy_modules, replayed_logits
from oodcert.reporting import figures, tables
from oodcert.reporting.tables.ablation import shown
from oodcert.reporting.tables.authors_code import measured
from untrained_runs import computed, evaluation, image_sets

IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
METHODS = ("plain", "vos", "atom", "good", "prood", "diffusion", "distro")


@pytest.fixture(scope="module")
def config():
    return synthetic_evidence.config(methods=[*METHODS])


@pytest.fixture(scope="module")
def evidence(config):
    return synthetic_evidence.evidence(config)


def values(evidence, config, corrected_flag=""):
    return measured(evidence, config, corrected_flag).set_index(["method", "measure"])["value"]


@pytest.mark.parametrize("method", METHODS)
def test_the_sound_network_is_the_main_one(method):
    one = evaluation("authors_code", method)
    method_spec, components, noise = one.settings.method_spec, one.components, torch.randn(2, *IMAGES.shape)
    for builder, noisy in ((deployed_network, True), (smoothed_network, False)):
        ours = networks.network(method_spec, components, 0.25, 8, SOUND, noisy)
        main = builder(method_spec, components, 0.25, 8)
        assert len(noisy_modules(ours)) == len(noisy_modules(main))
        if noisy_modules(main):
            assert torch.equal(replayed_logits(ours, IMAGES, noise), replayed_logits(main, IMAGES, noise))
        else:
            assert torch.equal(ours(IMAGES), main(IMAGES))
    detectors = networks.detector(ours, method_spec.score, SOUND), Detector(ours, method_spec.score)
    assert torch.equal(*(detector.score(IMAGES) for detector in detectors))
    components = {name: component.double().eval() for name, component in components.items()}
    main = deployed_network(method_spec, components, 0.25, 8)
    ours = linf_bound(method_spec, components, IMAGES.double(), 0.01, 8, SOUND)
    assert torch.equal(ours, linf_score_upper_bound(main, method_spec.score, IMAGES.double(), 0.01))
    assert networks.deployed_sigma(0.25, components, SOUND) == 0.25
    assert networks.label_sigma(0.25, 0.1, (1, 8, 8), components, SOUND) == 0.25


def test_sound_values_are_those_of_the_main_tables():
    config = synthetic_evidence.config(methods=[*METHODS])
    config = config.changed(evaluation={"authors_code": {"images": config.data.test_images}})
    evidence = synthetic_evidence.evidence(config)
    sound = values(evidence, config, ALL)
    headline = tables.headline_table(evidence, config).set_index("method")
    l2 = tables.guaranteed_l2_table(evidence, config, confidence=None).query("set == 'average' and sigma == 0.12")
    l2 = l2.set_index(["method", "bound", "radius"])["auc"]
    labels = tables.id_table(evidence, config).set_index("method")
    for method in METHODS:
        assert sound[method, "headline"] == pytest.approx(headline.loc[method, "mean"])
        for kind in ("clean", "guaranteed", "adversarial"):
            assert sound[method, f"{kind}_auc"] == pytest.approx(headline.loc[method, f"{kind}_auc"])
        bound = "percentile" if method in ("vos", "atom") else "lipschitz"
        for radius in (0.0, 0.25, 1.0):
            assert sound[method, f"l2_auc_{radius:g}"] == pytest.approx(l2[method, bound, radius])
            certified = labels.loc[method, f"certified_accuracy_sigma_0.12_l2_{radius:g}"]
            assert sound[method, f"id_certified_{radius:g}"] == certified
        assert sound[method, "id_accuracy"] == labels.loc[method, "clean_accuracy"]
        assert sound[method, "violations"] == 0
    assert sound["distro", "id_adversarial"] == labels.loc["distro", "adversarial_accuracy_linf_0.03137"]


def test_sound_values_are_of_the_same_images(evidence, config):
    few = {
        name: rows[rows["sample"] < 18] if name in ("clean", "guarantee_linf", "attack_linf") else rows
        for name, rows in evidence.items()
    }
    expected = tables.headline_table(few, config).set_index("method")["mean"]
    sound = values(evidence, config, ALL)
    assert sound[:, "headline"].to_dict() == pytest.approx(expected.to_dict())


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_changes_what_it_touches_and_nothing_else(flag, evidence, config):
    before, after = values(evidence, config), values(evidence, config, flag)
    moved = {key for key in before.index if not np.isclose(before[key], after[key], rtol=0, atol=1e-12, equal_nan=True)}
    acting = {method for method in METHODS if FLAGS[flag].idle(case_of(method, config)) is None}
    assert {method for method, _ in moved} <= acting
    assert all(touches(flag, measure) for _, measure in moved)
    assert bool(moved) == bool(acting) or flag == "D11"


def test_flags_that_do_not_act_say_why(evidence, config):
    table = tables.ablation_table(evidence, config)
    idle = table[table["measure"] == "–"].set_index(["method", "flag"])["note"]
    assert idle["plain", "D1"] == "no effect here: no denoiser"
    assert idle["good", "D10"] == idle["distro", "D10"] == "no effect here: a bound of its own"
    assert idle["plain", "D20"] == "no effect here: 18 images are one batch of 128 at most"
    assert idle["plain", "D7"] == "no effect here: the config's α are these"
    assert idle["plain", "D22"] == "no effect here: the score is no energy" and ("vos", "D22") not in idle
    ten = config.changed(data={"num_classes": 10})
    assert FLAGS["D13"].idle(case_of("prood", ten)) == "K = 10" and ("prood", "D13") not in idle
    whole = config.changed(data={"test_images": 18})
    assert FLAGS["D6"].idle(case_of("plain", whole)) == "all images are evaluated"
    acting = table[(table["measure"] != "–") & (table["flag"] != ALL)]
    assert (acting["note"] == acting["flag"].map(lambda flag: FLAGS[flag].title)).all()
    caption = tables.caption("ablation", evidence, config)
    assert "No effect here: D7 (the config's α are these), D23 (" in caption and "D24 (no computation" in caption


def test_the_table_holds_both_values_and_their_difference(evidence, config):
    table = tables.ablation_table(evidence, config)
    before, after = values(evidence, config), values(evidence, config, "D4")
    rows = table[table["flag"] == "D4"].set_index(["method", "measure"])
    assert rows["authors_code"].to_dict() == pytest.approx(before[rows.index].to_dict(), nan_ok=True)
    assert rows["sound"].to_dict() == pytest.approx(after[rows.index].to_dict(), nan_ok=True)
    assert rows["effect"].to_dict() == pytest.approx((after - before)[rows.index].to_dict(), nan_ok=True)
    last = table[table["flag"] == ALL].set_index(["method", "measure"])["sound"]
    assert last.to_dict() == pytest.approx(values(evidence, config, ALL)[last.index].to_dict(), nan_ok=True)
    assert set(table["flag"]) == {*FLAGS, ALL} and list(table["method"].unique()) == [*METHODS]


def test_the_figure_draws_the_rows_that_the_table_shows(evidence, config):
    rows = shown(tables.ablation_table(evidence, config))
    assert list(rows["flag"]) == [*sorted(set(rows["flag"]) - {ALL}, key=[*FLAGS].index), *[ALL] * len(METHODS)]
    axes = figures.ablation(evidence, config).axes[0]
    hollow, filled = axes.lines[1 : 3 * len(rows) : 3], axes.lines[2 : 3 * len(rows) : 3]
    for lines, side in ((hollow, "authors_code"), (filled, "sound")):
        drawn = [float(line.get_xdata()[0]) for line in lines]
        assert drawn == pytest.approx((100 * rows[side]).tolist(), nan_ok=True)


def test_the_config_chooses_what_ood_and_headline_report(evidence, config):
    theirs = config.changed(protocol="authors_code")
    for kind in ("ood", "headline"):
        sound = tables.TABLES[kind](evidence, config)
        assert sound.equals({"ood": tables.ood_table, "headline": tables.headline_table}[kind](evidence, config))
        reported = tables.TABLES[kind](evidence, theirs)
        assert list(reported.columns) == list(sound.columns) and len(reported) == len(sound)
        assert not reported["reliable"].any()
        caption = tables.caption(kind, evidence, theirs)
        assert "AUTHORS' CODE" in caption and "not sound" in caption and "Images: 18 of every set" in caption
        assert "AUTHORS' CODE" not in tables.caption(kind, evidence, config)
    headline = tables.TABLES["headline"](evidence, theirs).set_index("method")["mean"]
    expected = values(evidence, config)[:, "headline"]
    assert headline.to_dict() == pytest.approx(expected.to_dict())


def test_missing_evidence_is_named(evidence, config):
    rows = evidence["authors_code"]
    with pytest.raises(InputError, match="authors_code evidence of method 'plain'"):
        tables.ablation_table(evidence | {"authors_code": rows[rows["method"] != "plain"]}, config)
    lacking = rows[(rows["set"] != "photo_crops") | (rows["quantity"] != "attacked")]
    with pytest.raises(InputError, match="'plain' has no attacked of the set 'photo_crops'"):
        tables.ablation_table(evidence | {"authors_code": lacking}, config)


def test_the_evidence_is_the_same_at_every_run_and_whatever_the_order_of_sets():
    def run(sets):
        rows = computed("authors_code", "distro", sets=sets)
        return rows.sort_values([*rows.columns], ignore_index=True)

    first = run(image_sets())
    pd.testing.assert_frame_equal(first, run(image_sets()))
    pd.testing.assert_frame_equal(first, run(dict(reversed(image_sets().items()))))
    assert set(first["corrected_flag"]) == {"", "D1", "D6", "D8", "D9", "D12", "D13", "D14", "D17", "D18", "D19"}


def test_a_denoiser_without_a_schedule_is_refused():
    with pytest.raises(InputError, match=r"Identity has no noise schedule.*evaluation\.authors_code to null"):
        networks.deployed_sigma(0.12, {"denoiser": nn.Identity()}, AUTHORS_CODE)


def test_protocols():
    assert protocol("") == AUTHORS_CODE == frozenset(FLAGS) and protocol(ALL) == SOUND == frozenset()
    assert protocol("D4") == AUTHORS_CODE - {"D4"}
    assert list(FLAGS) == [f"D{number}" for number in range(1, 25) if number not in (15, 16)]


def test_the_page_names_every_flag_and_a_test_of_it():
    page, tests = (
        (ROOT / "docs" / "defects.md").read_text(),
        (ROOT / "tests" / "authors_code" / "test_defects.py").read_text(),
    )
    for flag, one in FLAGS.items():
        (row,) = re.findall(rf"^\| {flag} \|.*$", page, re.MULTILINE)
        assert one.name in row
        for name in re.findall(r"`(test_\w+)`", row):
            assert f"def {name}(" in tests and name.startswith(f"test_{flag.lower()}_")
        assert f"`test_{flag.lower()}_" in row
