"""Claims: the declared file and its errors, the verdicts, and the table on synthetic and on committed evidence."""

import copy
import inspect
from datetime import date

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import synthetic_evidence
from conftest import ROOT
from oodcert.config.load import read_configs
from oodcert.config.models import ImportSpec
from oodcert.errors import InputError
from oodcert.evidence.store import read_evaluations
from oodcert.reporting import tables
from oodcert.reporting.claims import (
    CLAIMS,
    DIFFERENCES,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    REPRODUCED,
    SETTINGS,
    VALUES,
    VERDICTS,
    border,
    decide,
    interval,
    read_claims,
)
from oodcert.reporting.reported_values import reported_value
from oodcert.reporting.tables.claims import judge
from oodcert.reporting.tables.measures import QUANTITIES, Measures
from oodcert.reporting.tables.setting import Setting, lacking, setting_of
from oodcert.runtime.keyed_noise import derive_seed
from oodcert.statistics.bootstrap import detection_metrics, drawn, with_added

CLAIM = {
    "id": "T1",
    "declared": "2026-11-23",
    "statement": "One is better than the other.",
    "source": "a paper, Table 1",
    "reported_value": {"says": "better"},
    "measure": {"quantity": "accuracy", "method": "oe", "minus": {"method": "plain"}},
    "expected": {"direction": "above", "value": 0, "tolerance": 0},
}
CLEAN = {"quantity": "detection", "method": "oe", "protocol": "clean", "metric": "auc"}


@pytest.fixture(scope="module")
def config():
    return synthetic_evidence.config()


@pytest.fixture(scope="module")
def evidence(config):
    return synthetic_evidence.evidence(config)


def claim(**changes):
    return copy.deepcopy(CLAIM) | changes


def expected(direction="above", value=0, tolerance=0):
    return {"direction": direction, "value": value, "tolerance": tolerance}


def images(accuracies, config, count=100):
    """Evidence of clean accuracies: of each method, the first so many of the images are right."""
    frames = [
        pd.DataFrame(
            {"method": name, "set": "id", "sample": range(count), "label": 0, "prediction": np.arange(count) >= right}
        )
        for name, right in accuracies.items()
    ]
    return Measures({"clean": pd.concat(frames, ignore_index=True)}, config)


def scores(shifts, config, count=60):
    """Evidence of clean scores: ID images around `shift` of a method, OOD images of every set around 0, same noise."""
    noise = np.random.default_rng(0).normal(size=(1 + len(config.data.ood), count))
    frames = [
        pd.DataFrame({"method": name, "set": one, "sample": range(count), "score": row + shift * (one == "id")})
        for name, shift in shifts.items()
        for one, row in zip(["id", *config.data.ood], noise, strict=True)
    ]
    return Measures({"clean": pd.concat(frames, ignore_index=True)}, config)


# the verdict


@settings(max_examples=100, deadline=None)
@given(low=st.floats(-50, 50), width=st.floats(0, 50), value=st.floats(-50, 50), tolerance=st.floats(0, 20))
def test_a_verdict_needs_the_whole_interval_on_one_side(low, width, value, tolerance):
    high, bottom, top = low + width, value - tolerance, value + tolerance
    found = decide(low, high, value, tolerance)
    assert (found == REPRODUCED) == (low > bottom) and (found == NOT_REPRODUCED) == (high < bottom)
    near = decide(low, high, value, tolerance, near=True)
    assert (near == REPRODUCED) == (bottom < low and high < top)
    assert (near == NOT_REPRODUCED) == (high < bottom or low > top)


@pytest.mark.parametrize(
    ("possible", "measured"), [(VALUES, 0), (VALUES, 100), (DIFFERENCES, -100), (DIFFERENCES, 100)]
)
def test_ends_lie_within_what_is_possible(possible, measured):
    known = np.ones(1, bool)
    for values in (np.full((1, 50), float(measured)), measured + np.linspace(-20, 20, 51)[None]):
        values[:, 0] = measured
        _, low, high = interval(values, known, known, 10, possible)
        assert possible[0] <= low <= measured <= high <= possible[1] and high > low


def test_single_values_of_perfect_methods_are_not_above_100(config):
    for direction, verdict in (("above", REPRODUCED), ("below", NOT_REPRODUCED)):
        found = judge(claim(measure=CLEAN, expected=expected(direction, 50)), scores({"oe": 50.0}, config), config)
        assert found.verdict == verdict and 0 < found.lower < found.measured == found.upper == 100
    found = judge(
        claim(measure=CLEAN | {"minus": {"method": "plain"}}), scores({"oe": 50, "plain": -50}, config), config
    )
    assert found.verdict == REPRODUCED and found.lower < found.measured == found.upper == 100


@settings(max_examples=40, deadline=None)
@given(shift=st.floats(5, 30), several=st.integers(1, 8), seed=st.integers(0, 1000))
def test_a_far_effect_is_settled_and_none_is_not(shift, several, seed):
    noise = np.random.default_rng(seed).normal(size=(several, 1001))
    noise[:, 0] = 0

    def ends(values):
        known = np.full(len(values), True)
        measured, low, high = interval(values, known, known, 100)
        assert low <= measured <= high and measured == values[:, 0].min()
        return low, high

    assert decide(*ends(noise + shift), 0, 0) == REPRODUCED
    assert decide(*ends(noise - shift), 0, 0) == NOT_REPRODUCED
    assert decide(*ends(noise), 0, 0) == NOT_TESTABLE
    assert decide(*ends(np.concatenate([noise + shift, noise[:1] - shift])), 0, 0) == NOT_REPRODUCED


def test_the_interval_of_the_least_is_wider_for_many():
    values = np.random.default_rng(0).normal(size=(8, 2001))
    values[:, 0] = 0
    known = np.full(8, True)
    one, all_of_them = interval(values[:1], known[:1], known[:1], 100), interval(values, known, known, 100)
    assert one[1:] == pytest.approx((-1.96, 1.96), abs=0.15)
    assert all_of_them[1] <= one[1] and all_of_them[2] > one[2]


def test_an_interval_without_spread_is_widened_by_what_so_few_images_can_hide():
    known = np.array([True])
    assert interval(np.full((1, 50), 80.0), known, known, 100)[1:] == pytest.approx((76.38, 83.62), abs=0.01)
    assert interval(np.full((1, 50), 80.0), known, known, 1000)[1:] == pytest.approx((79.63, 80.37), abs=0.01)


def test_an_end_that_rests_on_a_failed_attack_is_unknown():
    values, known, unknown = np.random.default_rng(0).normal(size=(1, 99)), np.array([True]), np.array([False])
    assert interval(values, unknown, known, 100)[1] == -np.inf
    assert interval(values, known, unknown, 100)[2] == np.inf
    assert decide(-np.inf, 5, 0, 0) == NOT_TESTABLE and decide(-np.inf, -5, 0, 0) == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("right", "verdict"),
    [
        ({"plain": 50, "oe": 90}, REPRODUCED),
        ({"plain": 90, "oe": 50}, NOT_REPRODUCED),
        ({"plain": 80, "oe": 80}, NOT_TESTABLE),
        ({"plain": 100, "oe": 100}, NOT_TESTABLE),
        ({"plain": 96, "oe": 100}, NOT_TESTABLE),  # four images, all of one sign, can be chance
    ],
)
def test_accuracies_are_compared_image_by_image(right, verdict, config):
    found = judge(claim(), images(right, config), config)
    assert found.verdict == verdict and found.measured == right["oe"] - right["plain"]
    mirrored = claim(measure={"quantity": "accuracy", "method": "plain", "minus": {"method": "oe"}})
    below = judge(mirrored | {"expected": expected("below")}, images(right, config), config)
    assert below.verdict == verdict and below.measured == -found.measured
    assert (below.lower, below.upper) == pytest.approx((-found.upper, -found.lower), abs=1.5)


@pytest.mark.parametrize("separation", [0.5, 3.0])
@pytest.mark.parametrize("of_scores", [True, False])
def test_methods_that_are_equal_in_truth_are_rarely_told_apart(separation, of_scores):
    """Correlated detectors, equally good, on many samples of 40 images: 2.5 % of the verdicts on either side."""
    generator, known, found = np.random.default_rng(0), np.array([True]), []
    id_drawn, ood_drawn = (
        drawn(40, derive_seed(0, "bootstrap", "id", 40))[:501],
        drawn(40, derive_seed(0, "bootstrap", "far", 40))[:501],
    )
    for _ in range(150):
        inside, outside = (generator.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=40).T for _ in range(2))
        inside += separation
        if of_scores:
            values = [
                detection_metrics(*with_added(*pair, favoured), id_drawn, ood_drawn)["auc"]
                for *pair, favoured in zip(inside, outside, (True, False), strict=True)
            ]
        else:
            right = np.append(inside > 0, [[True, False], [False, True]], axis=1)
            values = right.astype(int) @ id_drawn.T / id_drawn.sum(axis=1)
        found.append(decide(*interval(100 * (values[0] - values[1])[None], known, known, 40)[1:], 0, 0))
    assert found.count(REPRODUCED) <= 0.05 * len(found) and found.count(NOT_REPRODUCED) <= 0.05 * len(found)


@pytest.mark.parametrize("tolerance", [0, 1])
def test_perfect_accuracies_of_few_images_are_not_certainly_alike(tolerance, config):
    one = claim(expected=expected(tolerance=tolerance))
    assert judge(one, images({"plain": 40, "oe": 40}, config, count=40), config).verdict == NOT_TESTABLE


def test_scores_are_compared_image_by_image(config):
    measure = CLEAN | {"minus": {"method": "plain"}}
    for shifts, verdict in (
        ({"plain": 0.5, "oe": 2.5}, REPRODUCED),
        ({"plain": 2.5, "oe": 0.5}, NOT_REPRODUCED),
        ({"plain": 1.0, "oe": 1.0}, NOT_TESTABLE),
    ):
        assert judge(claim(measure=measure), scores(shifts, config), config).verdict == verdict
    found = judge(claim(measure=measure), scores({"plain": 1.0, "oe": 1.2}, config), config)
    assert found.upper - found.lower < 12  # unpaired it would be twice as wide


def test_a_changed_tolerance_changes_the_verdict(config):
    measures = images({"plain": 70, "oe": 60}, config)
    verdicts = [judge(claim(expected=expected(tolerance=t)), measures, config).verdict for t in (0, 10, 30)]
    assert verdicts == [NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED]


def test_a_claim_against_several_must_hold_against_each(config):
    right = {"plain": 20, "prood": 85, "oe": 90}
    both = claim(measure={"quantity": "accuracy", "method": "oe", "minus": {"method": ["plain", "prood"]}})
    found = judge(both, images(right, config), config)
    assert found.verdict == NOT_TESTABLE and found.measured == 5 and found.why.startswith("against ProoD: undecided")
    each = claim(measure={"quantity": "accuracy", "method": ["plain", "oe"]}, expected=expected(value=50))
    found = judge(each, images(right, config), config)
    assert found.verdict == NOT_REPRODUCED and found.measured == 20 and found.why.startswith("Plain: none")


def test_relative_differences_are_in_percent_of_what_is_subtracted(config):
    measure = {"quantity": "accuracy", "method": "oe", "minus": {"method": "plain"}, "relative": True}
    found = judge(
        claim(measure=measure, expected=expected("near", 100, 60)), images({"plain": 40, "oe": 80}, config), config
    )
    assert found.measured == 100 and found.verdict == REPRODUCED


def test_a_method_whose_attack_fails_supports_no_claim(evidence, config):
    """Its adversarial value may be lower: it may refute, or be what is beaten."""
    plain = evidence["sanity"]["method"] == "plain"
    lowered = evidence["sanity"].assign(attacked=lambda rows: rows["attacked"].mask(plain & (rows["epsilon"] == 1), 0))
    broken = Measures(evidence | {"sanity": lowered}, config)
    measure = CLEAN | {"protocol": "adversarial", "method": "plain"}
    weak = claim(measure=measure, expected=expected(value=5))
    assert judge(weak, Measures(evidence, config), config).verdict == REPRODUCED
    found = judge(weak, broken, config)
    assert found.verdict == NOT_TESTABLE and found.lower == -np.inf and "fails a sanity check" in found.why
    assert judge(claim(measure=measure, expected=expected(value=99.9)), broken, config).verdict == NOT_REPRODUCED
    ahead = claim(measure=measure | {"minus": {"method": "oe"}}, expected=expected(value=-99))
    assert judge(ahead, broken, config).verdict == NOT_TESTABLE
    clean = claim(measure=measure | {"protocol": "clean"}, expected=expected(value=5))
    assert judge(clean, broken, config).verdict == REPRODUCED


# what a run lacks


def test_the_setting_decides_what_is_testable(config):
    assert setting_of(config, "oe") == Setting(id_set="digits", network="cnn", epochs=40, images=40)
    assert lacking({}, config, ["oe"]) == []
    assert lacking({"id_set": "digits", "network": "cnn", "epochs": 40, "images": 40}, config, ["oe"]) == []
    needs = {"id_set": "cifar10", "network": "resnet18", "epochs": 100, "images": 1000}
    texts = ["digits instead of CIFAR-10", "CNN instead of ResNet-18", "40 epochs instead of 100"]
    assert lacking(needs, config, ["oe", "plain"]) == [*texts, "40 images instead of 1000"]
    found = judge(claim(needs=needs), images({"plain": 1, "oe": 99}, config), config)
    assert found.verdict == NOT_TESTABLE and np.isnan(found.measured) and found.why.startswith(texts[0])


def test_epochs_count_from_the_component_that_training_starts_from(config):
    changed = config.changed(training={"oe": {"start_from": "plain", "epochs": 2}})
    assert setting_of(changed, "oe").epochs == 42


def test_imported_networks(config):
    own = config.changed(imports={"oe": ImportSpec(network="a:b", weights="c")})
    assert lacking({"network": "resnet18", "epochs": 100}, own, ["oe"]) == [
        "own instead of ResNet-18",
        "unknown epochs instead of 100",
    ]
    released = config.changed(weights="released", data={"id": "cifar10"})
    assert lacking({"network": "resnet18", "epochs": 100}, released, ["oe"]) == []


@pytest.mark.parametrize(
    ("measure", "why"),
    [
        ({"quantity": "accuracy", "method": "good"}, "no GOOD in this run"),
        ({"quantity": "accuracy", "method": "oe", "minus": {"method": ["acet", "plain"]}}, "no ACET in this run"),
        ({"quantity": "certified_accuracy", "method": "oe", "sigma": 0.3, "radius": 0.25}, "no σ = 0.3 in this run"),
        ({"quantity": "certified_accuracy", "method": "oe", "sigma": 0.25, "radius": 0.1}, "no R = 0.1 in this run"),
        ({"quantity": "adversarial_accuracy", "method": "oe", "epsilon": 0.1}, "no ε = 0.1 in this run"),
        (
            {"quantity": "guaranteed_l2", "method": "vos", "bound": "cdf", "sigma": 0.25, "radius": 0.25},
            "no cdf bound for VOS",
        ),
    ],
)
def test_what_a_run_does_not_evaluate_is_said(measure, why, evidence, config):
    found = judge(claim(measure=measure), Measures(evidence, config), config)
    assert (found.verdict, found.why) == (NOT_TESTABLE, why)


def test_adaptive_sampling_tests_no_claim_on_an_auc_in_l2_balls(evidence, config):
    measure = {"quantity": "guaranteed_l2", "method": "oe", "bound": "percentile", "sigma": 0.25, "radius": 0.25}
    assert np.isfinite(judge(claim(measure=measure), Measures(evidence, config), config).measured)
    config = config.changed(evaluation={"certify_l2": {"sampling": "adaptive"}})
    found = judge(claim(measure=measure), Measures(evidence, config), config)
    assert (found.verdict, found.why) == (NOT_TESTABLE, "no AUC in ℓ₂ balls: adaptive sampling settles FPR95 alone")


def test_missing_evidence_and_unlike_images_are_errors(evidence, config):
    measure = claim(measure=CLEAN | {"minus": {"method": "plain"}})
    clean = evidence["clean"]
    with pytest.raises(InputError, match="no clean evidence of method 'oe'"):
        judge(measure, Measures({"clean": clean[clean["method"] != "oe"]}, config), config)
    others = clean.assign(sample=clean["sample"] + (clean["method"] == "oe"))
    with pytest.raises(InputError, match="not of the same images of 'id'"):
        judge(measure, Measures({"clean": others}, config), config)
    with pytest.raises(InputError, match=r"are NaN"):
        judge(
            measure, Measures({"clean": clean.assign(score=clean["score"].where(clean["set"] != "id"))}, config), config
        )


# the quantities are the tables' numbers


def test_every_quantity_takes_the_settings_that_a_claim_gives():
    for name, quantity in QUANTITIES.items():
        assert set(inspect.signature(quantity).parameters) == SETTINGS[name] | {"self", "method", "favoured"}


def test_measured_values_are_those_of_the_tables(evidence, config):
    measures = Measures(evidence, config)

    def measured(quantity, **arguments):
        values = measures.value(quantity, True, **arguments)
        assert np.isfinite(values).all() and abs(np.median(values) - values[0]) < 8
        return values[0] / 100

    ood = tables.ood_table(evidence, config).set_index(["method", "set", "protocol"])
    inside = tables.id_table(evidence, config).set_index("method")
    headline = tables.headline_table(evidence, config).set_index("method")
    l2 = tables.guaranteed_l2_table(evidence, config).query("set == 'average' and sigma == 0.25 and radius == 0.25")
    l2 = l2.set_index(["method", "bound"])["auc"]
    for name in config.methods:
        for protocol in ("clean", "guaranteed", "adversarial"):
            for metric in ("auc", "aupr"):
                value = measured("detection", method=name, protocol=protocol, metric=metric)
                assert value == pytest.approx(ood.loc[(name, "average", protocol), metric])
        assert measured("headline", method=name) == pytest.approx(headline.loc[name, "mean"])
        assert measured("accuracy", method=name) == inside.loc[name, "clean_accuracy"]
        column = "adversarial_accuracy_linf_0.03137"
        assert measured("adversarial_accuracy", method=name, epsilon=0.03137) == inside.loc[name, column]
        column = "certified_accuracy_sigma_0.25_l2_0.25"
        assert measured("certified_accuracy", method=name, sigma=0.25, radius=0.25) == inside.loc[name, column]
        for bound in l2[name].index:
            value = measured("guaranteed_l2", method=name, bound=bound, sigma=0.25, radius=0.25)
            assert value == pytest.approx(l2[name, bound])


# the file


def test_the_declared_claims_are_valid_and_dated():
    claims = read_claims()
    assert {"C1a", "C2a", "C3a", "C4a"} <= {one["id"] for one in claims}
    assert all(date.fromisoformat(one["declared"]) >= date(2026, 11, 23) for one in claims)
    assert all(reported_value(one["reported_value"]) for one in claims)
    assert isinstance(yaml.safe_load(CLAIMS.read_text())["version"], int)


def test_expectations_as_text():
    assert border(expected(tolerance=1)) == "above −1"
    assert border(expected("below", 2, 0.5)) == "below 2.5"
    assert border(expected("near", 13, 3)) == "from 10 to 16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "reproduced"}, r"claim T1: .*'verdict' was unexpected"),
        ({"declared": "yesterday"}, r"claim T1, declared: 'yesterday' does not match"),
        ({"expected": {"direction": "above", "value": 0}}, r"claim T1, expected: 'tolerance' is a required"),
        ({"expected": expected(tolerance=-1)}, r"claim T1, expected.tolerance: -1 is less than the minimum"),
        ({"expected": expected("beyond")}, r"claim T1, expected.direction: 'beyond' is not one of"),
        ({"needs": {"gpu": "yes"}}, r"claim T1, needs: .*'gpu' was unexpected"),
        ({"measure": CLEAN | {"metric": "fpr95"}}, r"claim T1, measure.metric: 'fpr95' is not one of"),
        (
            {"measure": {"quantity": "detection", "method": "oe"}},
            r"claim T1, measure: metric, protocol; detection takes",
        ),
        ({"measure": CLEAN | {"sigma": 0.25}}, r"claim T1, measure: sigma; detection takes metric, protocol"),
        ({"measure": CLEAN | {"minus": {"radius": 1}}}, r"claim T1, measure.minus: radius; detection takes"),
        ({"measure": CLEAN | {"relative": True}}, r"claim T1, measure: 'minus' is a dependency of 'relative'"),
    ],
)
def test_errors_name_the_claim_and_the_key(changes, message, tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "claims": [claim(), claim(id="T2")]}))
    assert [one["id"] for one in read_claims(path)] == ["T1", "T2"]
    path.write_text(yaml.safe_dump({"version": 1, "claims": [claim(id="T0"), claim(**changes)]}))
    with pytest.raises(InputError, match=message):
        read_claims(path)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "claims.yaml"
    for content, message in (
        ("claims: [", "not a readable YAML file"),
        ("claims: []", "the top level: 'version' is a required"),
        (yaml.safe_dump({"version": 1, "claims": [claim(), claim()]}), "claim T1 is declared 2 times"),
        (yaml.safe_dump({"version": 1, "claims": ["T1"]}), "claim 0: 'T1' is not of type 'object'"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=rf"claims\.yaml.*{message}"):
            read_claims(path)
    with pytest.raises(InputError, match=r"nowhere\.yaml is not a readable"):
        read_claims(tmp_path / "nowhere.yaml")


# the tables


def test_the_table_holds_every_claim_and_is_deterministic(evidence, config):
    claims = [one for one in read_claims() if one["measure"]["quantity"] != "guaranteed_l2"][:8]
    table = tables.claims_table(evidence, config, claims)
    assert table["id"].tolist() == [one["id"] for one in claims] and set(table["verdict"]) <= set(VERDICTS)
    assert (table[["reported_value", "expected", "why", "source"]] != "").all(axis=None)
    shuffled = {name: frame.sample(frac=1, random_state=0) for name, frame in evidence.items() if name != "denoised"}
    pd.testing.assert_frame_equal(tables.claims_table(shuffled, config, claims), table)
    shown = tables.readable("claims", table, config)
    assert (shown.loc[table["measured"].isna().to_numpy(), "Measured"] == "–").all()


@pytest.mark.parametrize(("profile", "name"), [("digits", "config.yaml"), ("cifar-lite", "cifar-lite.yaml")])
def test_verdicts_on_the_committed_evidence(profile, name):
    """What no rounding on another machine may change: effects far beyond their borders, and what needs more."""
    rows = read_evaluations(sorted((ROOT / "results/reference" / profile / "evidence").glob("*/*.parquet")))
    config = read_configs([ROOT / "config" / name])
    kept = ("C1a", "C2b", "C4b", "Carlini1", "GOOD2", "Plain1")
    table = tables.claims_table(rows, config, [one for one in read_claims() if one["id"] in kept]).set_index("id")
    assert table.loc["Carlini1", "verdict"] == REPRODUCED
    assert table.loc["C1a" if profile == "digits" else "GOOD2", "verdict"] == REPRODUCED
    assert table.loc[["C4b", "Plain1"], "verdict"].tolist() == [NOT_TESTABLE] * 2
    assert table.loc["C2b", "verdict"] == (NOT_TESTABLE if profile == "digits" else REPRODUCED)
    measured = table["measured"].dropna()
    assert (table["lower"][measured.index] <= measured).all() and (measured <= table["upper"][measured.index]).all()


def test_reported_numbers_stand_beside_the_tables(evidence, config):
    table = tables.reported_table(evidence, config)
    assert set(table["method"]) == {*config.methods} - {"prood"}
    assert table["setting"].str.contains("here ").all() and table["difference"].notna().all()
    assert np.allclose(table["difference"], table["measured"] - table["reported"])
    assert (table["differences"] >= 1).all()  # none is of digits
    ood = tables.ood_table(evidence, config).set_index(["method", "set", "protocol"])
    row = table.query("paper.str.startswith('ATOM') and id_set == 'cifar10' and method == 'oe' and metric == 'fpr95'")
    assert row["measured"].item() == pytest.approx(100 * ood.loc[("oe", "average", "clean"), "fpr95"])
    assert row["setting"].item() == (
        "digits instead of CIFAR-10; average of 4 OOD sets instead of the paper's; here CNN, 40 epochs, 40 images"
    )
    row = table.query("id_set == 'mnist' and ood_set == 'fashion_mnist' and method == 'plain' and radius == 0.3")
    assert row["setting"].iloc[0] == (
        "digits instead of MNIST; average of 4 OOD sets instead of FashionMNIST; ε = 0.05 instead of 0.3; "
        "here CNN, 40 epochs, 40 images, 100 APGD iterations"
    )
    headline = tables.headline_table(evidence, config).set_index("method")["mean"]
    best = headline.drop("distro").max()
    increase = table.query("metric == 'headline_increase' and id_set == 'cifar10'")
    assert increase["measured"].item() == pytest.approx(100 * (headline["distro"] / best - 1))
    shown = tables.readable("reported", table, config)
    assert len(shown) == 40 and (shown["Setting"] != "").all()


def test_reported_numbers_of_the_same_sets_differ_in_fewer_settings(evidence):
    """With the ID set, an OOD set and the radius of a paper, only what is measured here is said."""
    config = synthetic_evidence.config(
        data={"id": "cifar10", "ood": ("svhn", "uniform_noise")},
        evaluation={"epsilon": 0.01, "sanity": {"epsilons": (0.01, 0.05, 1.0)}},
    )
    table = tables.reported_table(synthetic_evidence.evidence(config), config)
    same = table.query("differences == 0 and ood_set == 'svhn'")
    assert set(same["metric"]) == {"auc", "adversarial_auc", "guaranteed_auc"} and set(same["method"]) == {
        "plain",
        "oe",
    }
    assert same["setting"].str.startswith("here CNN").all() and set(same["id_set"]) == {"cifar10"}


def test_numbers_without_a_counterpart_are_left_out(evidence, tmp_path):
    for methods in (["prood"], ["distro"]):
        config = synthetic_evidence.config(methods=methods)
        frame = tables.reported_table(evidence, config)
        assert frame.empty
        shown = tables.readable("reported", frame, config)
        tables.write_table(frame, tables.caption("reported", evidence, config), tmp_path / "reported", shown)
        assert "| Paper" in (tmp_path / "reported.md").read_text()
