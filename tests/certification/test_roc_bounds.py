"""Certified ROC metrics from draws: each holds at its confidence for fixed images and for populations."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri

from oodcert.certification.roc_bounds import (
    Statement,
    certified_auc,
    certified_aupr,
    certified_curve,
    certified_fpr95,
    certified_metrics,
    roc_curve_bounds,
)

CONFIDENCE, RUNS = 0.8, 100
LIMIT = (1 - CONFIDENCE) + 3 * np.sqrt(0.2 * 0.8 / RUNS)  # of failures, with three standard errors


def truth(id_centres: np.ndarray, ood_centres: np.ndarray, shift: float, id_moved: bool = False) -> dict[str, float]:
    """Metrics of scores N(centre, 1), every image moved by the worst R / sigma: exact but for a grid of thresholds."""
    grid = np.linspace(-12, 12, 4001)
    tpr = ndtr((id_centres[:, None] - shift * id_moved) - grid).mean(0)
    fpr = ndtr(ood_centres[:, None] + shift - grid).mean(0)
    masses = -np.diff(tpr)
    middle_tpr, middle_fpr = (tpr[1:] + tpr[:-1]) / 2, (fpr[1:] + fpr[:-1]) / 2
    share = len(id_centres) / (len(id_centres) + len(ood_centres))
    precision = share * middle_tpr / np.maximum(share * middle_tpr + (1 - share) * middle_fpr, 1e-300)
    return {
        "auc": float(masses @ (1 - middle_fpr)),
        "aupr": float(masses @ precision),
        "fpr": lambda c: ndtr(ood_centres + shift - c).mean(),
        "tpr": lambda c: ndtr(id_centres - shift * id_moved - c).mean(),
    }


DESIGNS = {  # centres of ID and OOD scores
    "alike": (np.full(20, 2.0), np.full(20, 0.0)),
    "one ID image in twenty is bad": (np.append(np.full(19, 4.0), -3.0), np.linspace(-2, 2, 15)),
    "one OOD image in ten is good": (np.linspace(1, 4, 12), np.append(np.full(27, -4.0), [3.0] * 3)),
}


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(
    ("draws", "shift", "id_moved"), [(1, 1.0, False), (2, 0.5, True), (8, 1.0, False), (30, 0, False)]
)
def test_metrics_hold_for_fixed_images(design, draws, shift, id_moved):
    centres = DESIGNS[design]
    exact, fails = truth(*centres, shift, id_moved), dict.fromkeys(("auc", "aupr", "fpr95"), 0)
    statement, generator = Statement(CONFIDENCE, id_moved=id_moved), np.random.default_rng(0)
    for _ in range(RUNS):
        known, strange = (one[:, None] + generator.normal(size=(len(one), draws)) for one in centres)
        curve = roc_curve_bounds(known, strange, statement)
        found = certified_metrics(known, strange, curve, shift, statement)
        fails["auc"] += found["auc"] > exact["auc"] + 1e-4
        fails["aupr"] += found["aupr"] > exact["aupr"] + 1e-3
        reached = exact["fpr"](found["threshold"]) <= found["fpr95"] and exact["tpr"](found["threshold"]) >= 0.95
        fails["fpr95"] += not (reached or found["fpr95"] == 1)
    assert max(fails.values()) / RUNS <= LIMIT, fails


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_metrics_hold_for_populations_of_which_the_images_are_a_sample(shift):
    exact = truth(np.random.default_rng(1).normal(2, 1, 2000), np.random.default_rng(2).normal(-1, 1, 2000), shift)
    statement, generator, fails = Statement(CONFIDENCE, population=True), np.random.default_rng(3), 0
    for _ in range(RUNS):
        known, strange = generator.normal(2, 2**0.5, (60, 1)), generator.normal(-1, 2**0.5, (80, 1))
        curve = roc_curve_bounds(known, strange, statement)
        fails += certified_auc(known, strange, curve, shift, statement) > exact["auc"] + 0.02
    assert fails / RUNS <= LIMIT


def test_draws_of_one_image_pooled_as_a_population_would_fail():
    """The trap: draws of four images are not draws of their population."""
    generator, statement, fails = np.random.default_rng(4), Statement(CONFIDENCE, population=True), 0
    for _ in range(RUNS):
        known, strange = (
            generator.normal(centre, 10, 4)[:, None] + generator.normal(size=(4, 500)) for centre in (2, 0)
        )
        pooled = roc_curve_bounds(known.reshape(-1, 1), strange.reshape(-1, 1), statement)
        exact = 1 - ndtr(-2 / np.sqrt(2 * (100 + 1)))
        fails += certified_auc(known.reshape(-1, 1), strange.reshape(-1, 1), pooled, 0, statement) > exact
    assert fails / RUNS > LIMIT


@pytest.mark.parametrize("population", [False, True])
def test_the_curve_holds_at_all_thresholds_at_once(population):
    centres = DESIGNS["alike"]
    statement, generator, fails = Statement(CONFIDENCE, population), np.random.default_rng(5), 0
    draws = 1 if population else 6
    for _ in range(RUNS):
        known, strange = (one[:, None] + generator.normal(size=(len(one), draws)) for one in centres)
        rows = certified_curve(roc_curve_bounds(known, strange, statement), 0.5, statement)
        fpr, tpr = ndtr(0.5 - rows["threshold"]), ndtr(2 - rows["threshold"])
        fails += bool((rows["fpr"] < fpr - 1e-9).any() or (rows["tpr"] > tpr + 1e-9).any())
    assert fails / RUNS <= LIMIT


def test_massive_ties_count_against_the_detector():
    """Half of the scores of both sides are the same number: the AUC without ties is what can be certified."""
    generator, statement = np.random.default_rng(6), Statement(0.99)
    known, strange = (np.where(generator.random((50, 40)) < 0.5, 0.0, centre) for centre in (1.0, -1.0))
    curve = roc_curve_bounds(known, strange, statement)
    assert 0.65 < certified_auc(known, strange, curve, 0.0, statement) <= 0.76
    fpr95, threshold = certified_fpr95(known, strange, 0.0, statement)
    assert threshold == 0 and 0.5 < fpr95 < 0.6
    assert certified_aupr(curve, 0.0, statement, 0.5) < 0.9
    constant = np.zeros((50, 8))
    curve = roc_curve_bounds(constant, constant, statement)
    found = certified_metrics(constant, constant, curve, 0.0, statement)
    assert found["auc"] == 0 and found["fpr95"] == 1 and found["aupr"] <= 0.5


def test_one_threshold_and_equal_images_of_a_linear_score_meet_the_bound():
    """Where all images are alike the certified FPR is what the worst move attains, but for the draws' uncertainty."""
    generator, statement = np.random.default_rng(7), Statement(0.99)
    known, strange = generator.normal(3, 1, (40, 5000)), generator.normal(0, 1, (40, 5000))
    for shift in (0.5, 1.0, 2.0):
        fpr95, threshold = certified_fpr95(known, strange, shift, statement)
        attained = ndtr(shift - threshold)
        assert attained <= fpr95 < attained + 0.01
        assert threshold == pytest.approx(3 + ndtri(0.05), abs=0.02)


def test_metrics_get_worse_with_the_radius_tries_and_a_second_move():
    generator = np.random.default_rng(8)
    known, strange = generator.normal(3, 1, (30, 16)), generator.normal(0, 1, (30, 16))
    rows = []
    for statement in (Statement(), Statement(tries=5), Statement(id_moved=True)):
        curve = roc_curve_bounds(known, strange, statement)
        rows.append(
            pd.DataFrame(certified_metrics(known, strange, curve, shift, statement) for shift in (0, 0.5, 1, 4))
        )
        assert (rows[-1][["auc", "aupr"]].diff()[1:] <= 1e-9).all(None) and (
            rows[-1]["fpr95"].diff()[1:] >= -1e-9
        ).all()
    assert all((rows[0]["auc"] >= other["auc"])[1:].all() for other in rows[1:])
    assert all((rows[0]["fpr95"] <= other["fpr95"])[1:].all() for other in rows[1:])


def test_few_draws_certify_little_and_say_so():
    known, strange = np.array([[3.0], [4.0]]), np.array([[0.0], [-1.0]])
    curve = roc_curve_bounds(known, strange, Statement())
    found = certified_metrics(known, strange, curve, 0.0, Statement())
    assert found["fpr95"] == 1 and found["threshold"] == -np.inf and 0 <= found["auc"] < 0.3
