import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodcert.errors import InputError
from oodcert.statistics.metrics import false_positive_rate, guaranteed_metrics, ood_metrics

scores = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


def test_perfect_and_inverted_separation():
    assert ood_metrics([0.8, 0.9], [0.1, 0.2]) == {"auc": 1.0, "aupr": 1.0, "fpr95": 0.0}
    worst = ood_metrics([0.1, 0.2], [0.8, 0.9])
    assert worst["auc"] == 0 and worst["fpr95"] == 1


def test_a_constant_score_is_chance():
    result = ood_metrics(np.full(10, 0.5), np.full(10, 0.5))
    assert result == {"auc": 0.5, "aupr": 0.5, "fpr95": 1.0}


def test_hand_computed_case_with_a_tie():
    # pairs: 3>2, 3>1, 2=2 counts half, 2>1
    assert ood_metrics([3, 2], [2, 1])["auc"] == pytest.approx(3.5 / 4)


def test_an_uncertified_sample_takes_its_worst_value():
    assert ood_metrics([0.9, 0.9], [0.1, np.inf])["auc"] == 0.5
    assert ood_metrics([-np.inf, 0.9], [0.1, 0.1])["auc"] == 0.5


@pytest.mark.parametrize(("n", "accepted"), [(100, 95), (20, 19), (10, 10), (1, 1)])
def test_fpr_threshold_keeps_at_least_95_percent(n, accepted):
    scores = np.arange(n)
    threshold = n - accepted
    assert false_positive_rate(scores, [threshold]) == 1.0
    assert false_positive_rate(scores, [threshold - 0.5]) == 0.0


@given(scores, scores)
def test_raising_ood_scores_never_helps(id_scores, ood_scores):
    before, after = ood_metrics(id_scores, ood_scores), ood_metrics(id_scores, np.array(ood_scores) + 1)
    assert after["auc"] <= before["auc"] + 1e-12 and after["fpr95"] >= before["fpr95"]


@pytest.mark.parametrize(("id_scores", "ood_scores"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([1.0], [np.nan])])
def test_empty_sets_and_nan_are_refused(id_scores, ood_scores):
    with pytest.raises(InputError, match=r"set has no scores|scores are NaN"):
        ood_metrics(id_scores, ood_scores)


def table(lower, upper, radii=(0.0, 0.5), sigma=0.25, bound="percentile", alpha=1e-4):
    rows = [
        {"image": i, "bound": bound, "sigma": sigma, "radius": radius, "lower": low, "upper": high, "alpha": alpha}
        for radius in radii
        for i, (low, high) in enumerate(zip(lower, upper, strict=True))
    ]
    return pd.DataFrame(rows)


def test_guaranteed_metrics_take_lower_at_zero_against_upper():
    result = guaranteed_metrics(table([0.5, 0.7], [0.9, 0.9]), table([0.0, 0.0], [0.6, 0.6]))
    assert result["radius"].tolist() == [0.0, 0.5] and result["auc"].tolist() == [0.5, 0.5]


def test_detectors_that_certify_nothing_get_no_guarantee():
    abstains = table([-np.inf] * 3, [np.inf] * 3)
    constant = table([0.5] * 3, [0.5] * 3)
    assert (guaranteed_metrics(abstains, abstains)["auc"] == 0).all()
    assert (guaranteed_metrics(constant, constant)["auc"] == 0.5).all()


def test_mixed_sigmas_and_a_missing_radius_are_refused():
    good = table([0.5], [0.6])
    with pytest.raises(InputError, match="sigma"):
        guaranteed_metrics(good, table([0.5], [0.6], sigma=0.5))
    with pytest.raises(InputError, match="radius 0"):
        guaranteed_metrics(table([0.5], [0.6], radii=(0.5,)), good)


@given(
    id_scores=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    ood_scores=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    lowered=st.lists(st.integers(0, 2), min_size=8, max_size=8),
    raised=st.lists(st.integers(0, 2), min_size=8, max_size=8),
)
def test_guaranteed_metrics_fall_when_id_scores_fall_or_ood_scores_rise(id_scores, ood_scores, lowered, raised):
    """With ties, scikit-learn's AUPR alone would not: lowering ID scores into a tie raises it."""
    id_scores, ood_scores = np.array(id_scores), np.array(ood_scores)
    before = ood_metrics(id_scores, ood_scores)
    after = ood_metrics(id_scores - lowered[: len(id_scores)], ood_scores + raised[: len(ood_scores)], guaranteed=True)
    again = ood_metrics(id_scores, ood_scores, guaranteed=True)
    for metrics in (before, again):
        assert after["auc"] <= metrics["auc"] + 1e-12 and after["aupr"] <= metrics["aupr"] + 1e-12
        assert after["fpr95"] >= metrics["fpr95"]


def test_guaranteed_aupr_is_scikit_learns_without_ties():
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.normal(1, 1, 50), rng.normal(0, 1, 80)
    guaranteed, plain = (ood_metrics(id_scores, ood_scores, guaranteed) for guaranteed in (True, False))
    assert guaranteed["aupr"] == pytest.approx(plain["aupr"])
