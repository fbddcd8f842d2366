import numpy as np
import pandas as pd
import pytest

from oodcert.checks import check_order, require
from oodcert.errors import InputError

SETS = {"id": [0.9, 0.8, 0.95], "far": [0.2, 0.3, 0.4]}


def evidence():
    clean = pd.concat(
        [
            pd.DataFrame({"method": "plain", "set": name, "sample": range(3), "score": scores})
            for name, scores in SETS.items()
        ],
        ignore_index=True,
    )
    far = pd.DataFrame({"method": "plain", "set": "far", "sample": range(3)})
    certified = pd.concat(
        [
            clean[["method", "set", "sample"]].assign(
                sigma=0.25, bound=bound, radius=0.0, lower=0.1, estimate=0.5, upper=0.9
            )
            for bound in ("percentile", "gaussian")
        ],
        ignore_index=True,
    )
    return {
        "clean": clean,
        "attack_linf": far.assign(epsilon=0.05, attacked=[0.3, 0.4, 0.5]),
        "guarantee_linf": far.assign(epsilon=0.05, upper=[0.5, 0.6, 1.0], vacuous=[False, False, True]),
        "certify_l2": certified,
        "attack_l2": far.assign(sigma=0.25, radius=0.0, median_lower=0.4, mean_lower=0.4),
    }


def test_evidence_in_order_passes():
    checks = check_order(evidence())
    require(checks)
    assert (checks["violations"] == 0).all() and (checks["compared"] > 0).all() and len(checks) == 12


@pytest.mark.parametrize(
    ("evaluation", "column", "value", "check"),
    [
        ("attack_linf", "attacked", 0.0, "clean score ≤ attacked score"),
        ("guarantee_linf", "upper", 0.45, "attacked score ≤ guaranteed bound"),
        ("certify_l2", "lower", 0.6, "l2 lower bound ≤ estimate"),
        ("certify_l2", "upper", 0.3, "l2-attacked score ≤ gaussian bound"),
        ("certify_l2", "upper", np.nan, "l2-attacked score ≤ gaussian bound"),
        ("attack_l2", "median_lower", 0.95, "l2-attacked score ≤ percentile bound"),
        ("clean", "score", 0.55, "clean score ≤ attacked score"),
    ],
)
def test_each_violation_is_found(evaluation, column, value, check):
    broken = evidence()
    broken[evaluation].loc[broken[evaluation].index[-1], column] = value
    with pytest.raises(InputError, match=check):
        require(check_order(broken))


def test_metrics_out_of_order_are_found():
    broken = evidence()
    broken["attack_linf"]["attacked"] = 0.0
    with pytest.raises(InputError, match=r"clean score ≤ attacked score: 3 of 3.*"):
        require(check_order(broken))


def test_evidence_that_does_not_meet_is_no_pass():
    broken = evidence()
    broken["attack_l2"]["radius"] = 0.1
    with pytest.raises(InputError, match="0 of 0 violate"):
        require(check_order(broken))


def test_rounding_is_forgiven_and_no_more():
    nearly = evidence()
    nearly["attack_linf"]["attacked"] = nearly["clean"].query("set == 'far'")["score"].to_numpy() - 1e-7
    require(check_order(nearly))
