"""When draws are looked at, and when they are enough."""

import numpy as np
import pytest

from oodcert.certification.adaptive import StoppingRule, alpha_spending_schedule
from oodcert.certification.smoothing_bounds import ScoreBounds

SCHEDULE = alpha_spending_schedule("adaptive", 1000, 0.01)


@pytest.mark.parametrize("n", [1, 100, 800, 10_000])
def test_looks_end_with_n_and_spend_alpha(n):
    draws, levels = alpha_spending_schedule("adaptive", n, 0.01)
    assert draws[-1] == n and draws == sorted(set(draws)) and sum(levels) == pytest.approx(0.01)
    assert alpha_spending_schedule("fixed", n, 0.01) == ([n], [0.01])


def bounds(lower, upper):
    return ScoreBounds(np.array(0.5), np.array(lower), np.array(upper))


def test_a_rule_knows_its_levels_and_repeats_each_half_of_the_draws():
    rule = StoppingRule(*SCHEDULE)
    assert [rule.level(drawn) for drawn in rule.draws] == SCHEDULE[1]
    first, second = rule.forecasts(np.arange(4))
    assert len(first) == len(second) == 1000
    assert first[:4].tolist() == [0, 1, 0, 1] and second[:4].tolist() == [2, 3, 2, 3]


NOW, LOWER, UPPER = (
    bounds([0.3, -np.inf], [0.6, np.inf]),
    bounds([0.2, -np.inf], [0.6, np.inf]),
    bounds([0.3, -np.inf], [0.7, np.inf]),
)
THRESHOLDS = {"decision_thresholds": {"percentile": np.array([0.4, 0.5, 0.65, 0.9])}}
CAP_BELOW, CAP_ABOVE = ({"lower_bound_caps": {"percentile": np.array([cap])}} for cap in (0.1, 0.5))


@pytest.mark.parametrize(
    ("references", "tolerance", "lower_may_change", "upper_may_change"),
    [
        ({}, 0.05, False, False),  # both sides matter, and infinite bounds are equal
        ({}, 0.11, True, True),
        (THRESHOLDS, 0.2, True, False),  # a quarter of the thresholds lies between 0.6 and 0.7
        (THRESHOLDS, 0.25, True, True),
        (CAP_BELOW, 0.05, True, True),
        (CAP_ABOVE, 0.05, False, True),
    ],
)
def test_what_may_still_change(references, tolerance, lower_may_change, upper_may_change):
    rule = StoppingRule(*SCHEDULE, tolerance, **references)
    assert rule.is_converged("percentile", NOW, [NOW, NOW])
    assert rule.is_converged("percentile", NOW, [NOW, LOWER]) == lower_may_change
    assert rule.is_converged("percentile", NOW, [UPPER, NOW]) == upper_may_change
    assert rule.is_converged("percentile", NOW, [LOWER, UPPER], unit=100)
