"""Metrics with a confidence: which bounds are taken for failed, and how often the result is wrong."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from oodcert.certification.smoothing_bounds import percentile_ranks
from oodcert.errors import InputError
from oodcert.statistics.failing_bounds import least_favourable, most_failing, table_error
from oodcert.statistics.metrics import METRICS, certified_rates, guaranteed_metrics, ood_metrics


def table(lower, upper, alpha=0.01, bound="percentile"):
    count = len(lower)
    columns = {"image": range(count), "bound": bound, "sigma": 0.25, "radius": 0.0, "lower": lower, "upper": upper}
    return pd.DataFrame({**columns, "alpha": alpha})


def too_good(reported, truth):
    """Whether each of the metrics claims more than is true."""
    return {
        metric: truth[metric] < reported[metric] - 1e-12 if metric != "fpr95" else truth[metric] > reported[metric]
        for metric in METRICS
    }


@settings(deadline=None)
@given(count=st.integers(1, 3000), alpha=st.floats(1e-12, 0.9), error=st.floats(1e-12, 0.9))
def test_the_number_of_failing_bounds_is_the_smallest_that_holds(count, alpha, error):
    failing = most_failing(count, alpha, error)
    assert binom.sf(failing, count, alpha) <= error * (1 + 1e-9)
    assert failing == 0 or binom.sf(failing - 1, count, alpha) > error * (1 - 1e-9)


scores = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(id_scores=scores, ood_scores=scores, id_failing=st.integers(0, 3), ood_failing=st.integers(0, 3))
def test_no_choice_of_failing_bounds_is_worse(id_scores, ood_scores, id_failing, ood_failing):
    id_failing, ood_failing = min(id_failing, len(id_scores)), min(ood_failing, len(ood_scores))
    worst = ood_metrics(
        least_favourable(id_scores, id_failing, "lower"), least_favourable(ood_scores, ood_failing, "upper"), True
    )
    choices = product(
        combinations(range(len(id_scores)), id_failing), combinations(range(len(ood_scores)), ood_failing)
    )
    for id_lost, ood_lost in choices:
        lower, upper = np.array(id_scores, float), np.array(ood_scores, float)
        lower[list(id_lost)], upper[list(ood_lost)] = -np.inf, np.inf
        assert not any(too_good(worst, ood_metrics(lower, upper, True)).values())


def test_the_correction_in_numbers():
    """The threshold accepts 95 + 4 of 100 ID bounds, and 4 of 100 OOD images more are accepted."""
    id_table, ood_table = table(np.arange(100.0), [np.inf] * 100), table([-np.inf] * 100, [4.5] * 100)
    failing = most_failing(100, 0.01, 0.005)
    confident, by_image = (guaranteed_metrics(id_table, ood_table, confidence=one).iloc[0] for one in (0.99, None))
    assert failing == 4
    assert (by_image["auc"], by_image["fpr95"]) == (0.95, 0.0)  # 95 ID bounds are above 4.5
    assert (confident["auc"], confident["fpr95"]) == (pytest.approx(0.91 * 0.96), 1.0)
    assert guaranteed_metrics(id_table, ood_table.assign(upper=0.5)).iloc[0]["fpr95"] == pytest.approx(0.04)
    assert "per_image_alpha" not in confident and "confidence" not in by_image
    assert confident["confidence"] == 0.99 and by_image["per_image_alpha"] == 0.01
    assert guaranteed_metrics(id_table, ood_table).iloc[0].equals(confident)  # never without a word


def test_a_few_failing_id_bounds_do_not_move_the_threshold():
    """949 of 1000 ID images are far above the decision, 51 just below: the true FPR95 is 1."""
    rng, alpha, n, repetitions = np.random.default_rng(0), 0.01, 400, 300
    rank = percentile_ranks(n, 0.25, [0.0], alpha)[0][0]
    ood_table = table([0.5] * 50, [0.5] * 50, alpha)
    wrong = {0.99: 0, None: 0}
    for _ in range(repetitions):  # scores are 1 with a probability just below one half, and else 0
        lower = np.append(np.ones(949), (n - rng.binomial(n, 0.5 - 1e-9, 51) < rank).astype(float))
        id_table = table(lower, np.ones(1000), alpha)
        for confidence in wrong:
            wrong[confidence] += guaranteed_metrics(id_table, ood_table, confidence=confidence)["fpr95"].item() < 1
    assert wrong[None] > 0.2 * repetitions
    assert wrong[0.99] <= binom.ppf(1 - 1e-6, repetitions, 0.01)


@pytest.mark.parametrize("sizes", [(20, 40), (200, 60)])
@pytest.mark.parametrize("two_sets", [False, True])
@pytest.mark.parametrize("alpha", [0.02, 0.2])
def test_metrics_hold_at_their_confidence(sizes, two_sets, alpha):
    """Bounds that are exact, but for those that fail, independently with probability alpha and by as much as can be."""
    rng, confidence, repetitions = np.random.default_rng(1), 0.8, 300
    wrong = {kind: dict.fromkeys((*METRICS, "any"), 0) for kind in ("confident", "by_image")}
    for _ in range(repetitions):
        id_scores = rng.normal(rng.uniform(0, 2), rng.uniform(0.1, 1), sizes[0])
        lower = np.where(rng.random(sizes[0]) < alpha, 99.0, id_scores)
        found = {kind: dict.fromkeys(METRICS, False) for kind in wrong}
        for _ in range(1 + two_sets):
            ood_scores = rng.normal(0, 1, sizes[1])
            upper = np.where(rng.random(sizes[1]) < alpha, -99.0, ood_scores)
            tables = table(lower, lower, alpha), table(upper, upper, alpha)
            truth = ood_metrics(id_scores, ood_scores)
            for kind, one in (("confident", confidence), ("by_image", None)):
                metrics = guaranteed_metrics(*tables, confidence=one, sets=1 + two_sets).iloc[0]
                found[kind] = {key: found[kind][key] or bad for key, bad in too_good(metrics, truth).items()}
        for kind, bad in found.items():
            for key in METRICS:
                wrong[kind][key] += bad[key]
            wrong[kind]["any"] += any(bad.values())
    assert wrong["confident"]["any"] <= binom.ppf(1 - 1e-6, repetitions, 1 - confidence)
    assert wrong["by_image"]["any"] > 0.5 * repetitions


@pytest.mark.parametrize("sets", [1, 5])
def test_where_all_bounds_may_fail_metrics_are_the_worst(sets):
    one = table([0.9], [0.1], 0.5)
    metrics = guaranteed_metrics(one, one, sets=sets).iloc[0]
    assert (metrics["auc"], metrics["fpr95"], metrics["aupr"]) == (0.0, 1.0, 0.5)
    votes = table([0.9], [0.1], 0.5, "vote at 0.4")
    rates = certified_rates(votes, votes).iloc[0]
    assert (rates["tpr"], rates["fpr"], rates["confidence"]) == (0.0, 1.0, 0.99)


def test_more_sets_and_more_confidence_cost_more_and_the_largest_alpha_counts():
    tables = table(np.arange(100.0), np.arange(100.0)), table(np.arange(-50.0, 50), np.arange(-50.0, 50))

    def auc(**options):
        return guaranteed_metrics(*tables, **options)["auc"].item()

    assert auc(confidence=0.999) < auc(confidence=0.9) < auc(confidence=None)
    assert auc(sets=20) < auc(sets=1)
    mixed = tables[0].assign(alpha=np.where(np.arange(100) == 7, 0.01, 1e-9))
    assert guaranteed_metrics(mixed, tables[1])["auc"].item() == auc()
    small = [one.assign(alpha=1e-9) for one in tables]
    assert guaranteed_metrics(*small)["auc"].item() == auc(confidence=None)


GOOD = table([0.5, 0.6], [0.7, 0.8])
VOTE = table([0.5, 0.6], [0.7, 0.8], bound="vote at 0.4")


@pytest.mark.parametrize("metrics, good", [(guaranteed_metrics, GOOD), (certified_rates, VOTE)])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda rows: rows.drop(columns="alpha"), r"has no column alpha.*assign\(alpha"),
        (lambda rows: rows.assign(alpha=[0.01, np.nan]), r"alpha = .*nan.*: it lies between 0 and 1"),
        (lambda rows: rows.assign(alpha=0.0), r"alpha = .*0\.0.*: it lies between 0 and 1"),
        (lambda rows: rows.assign(alpha=1), r"alpha = .*1.*: it lies between 0 and 1"),
        (lambda rows: rows.assign(alpha="small"), r"alpha = 'small': it lies between 0 and 1"),
        (lambda rows: rows.assign(image=3), r"several rows of image .*3.* at one bound and radius"),
        (lambda rows: rows.rename(columns={"image": "sample"}).assign(sample=4), r"several rows of sample .*4"),
    ],
)
def test_tables_of_an_unknown_alpha_or_of_repeated_images_are_refused(metrics, good, wrong, message):
    for tables, what in (((wrong(good), good), "The ID table"), ((good, wrong(good)), "The OOD table")):
        with pytest.raises(InputError, match=f"{what} .*{message}"):
            metrics(*tables)


@pytest.mark.parametrize("confidence", [0, 1, 99, -0.1, np.nan, np.inf, True, "0.99", [0.99]])
def test_other_confidences_are_refused(confidence):
    for metrics, good in ((guaranteed_metrics, GOOD), (certified_rates, VOTE)):
        with pytest.raises(InputError, match=r"confidence = .*: it lies between 0 and 1"):
            metrics(good, good, confidence=confidence)


@pytest.mark.parametrize("sets", [0, -1, 1.5, True, "two", None])
def test_other_numbers_of_sets_are_refused(sets):
    with pytest.raises(InputError, match=r"sets = .*at least 1"):
        guaranteed_metrics(GOOD, GOOD, sets=sets)


def test_numbers_of_numpy_are_numbers():
    assert table_error(np.float64(0.99), np.int64(4)) == pytest.approx(0.002)
    assert table_error(np.float32(0.5), 1) == 0.25


def test_without_a_confidence_a_table_may_lack_alpha_and_the_column_says_so():
    bare = GOOD.drop(columns="alpha")
    assert np.isnan(guaranteed_metrics(bare, bare, confidence=None)["per_image_alpha"].item())
