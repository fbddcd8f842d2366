import numpy as np
import pandas as pd
import pytest

from oodcert.errors import InputError
from oodcert.evidence.order_checks import _beyond_alpha, check_order, require

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
    scores = {"estimate": clean["score"], "lower": clean["score"] - 0.1}
    certified = pd.concat(
        [
            clean[["method", "set", "sample"]].assign(
                sigma=0.25, bound=bound, radius=radius, **scores, upper=clean["score"] + 0.1 + radius, alpha=1e-9
            )
            for bound in ("percentile", "gaussian")
            for radius in (0.0, 0.25)
        ],
        ignore_index=True,
    )
    attacked = [
        far.assign(sigma=0.25, radius=radius, **{statistic: SETS["far"] for statistic in ("median", "mean")})
        for radius in (0.0, 0.25)
    ]
    attacked = pd.concat(attacked, ignore_index=True)
    attacked[["median", "mean"]] = attacked[["median", "mean"]].add(attacked["radius"], axis=0)
    return {
        "clean": clean,
        "attack_linf": far.assign(epsilon=0.05, attacked=[0.3, 0.4, 0.5]),
        "guarantee_linf": far.assign(epsilon=0.05, upper=[0.5, 0.6, 1.0], vacuous=[False, False, True]),
        "certify_l2": certified,
        "attack_l2": attacked.assign(median_lower=attacked["median"] - 0.05, mean_lower=attacked["mean"] - 0.05),
        "attack_linear": far.assign(
            method="linear", clean=[-2.0, 0.0, 5.0], attacked=[0.0, 2.0, 6.99], maximum=[0, 2, 7]
        ),
    }


def with_unbounded():
    """The same and a method whose score has no range: a percentile bound alone, and no lower bound on a mean."""
    found = evidence()
    columns = {"clean": ["score"], "attack_linf": ["attacked"], "guarantee_linf": ["upper"]}
    columns |= {"certify_l2": ["estimate", "lower", "upper"], "attack_l2": ["median", "mean", "median_lower"]}
    for evaluation, scores in columns.items():
        rows = found[evaluation].assign(method="vos")
        rows[scores] = 1000 * rows[scores] - 500
        found[evaluation] = pd.concat([found[evaluation], rows], ignore_index=True)
    certified, unbounded = found["certify_l2"], found["attack_l2"]["method"] == "vos"
    found["certify_l2"] = certified[(certified["method"] != "vos") | (certified["bound"] == "percentile")]
    found["attack_l2"].loc[unbounded, "mean_lower"] = -np.inf
    vacuous = (found["guarantee_linf"]["method"] == "vos") & found["guarantee_linf"]["vacuous"]
    found["guarantee_linf"].loc[vacuous, "upper"] = np.inf
    return found


def failing(broken):
    checks = check_order(broken)
    with pytest.raises(InputError) as caught:
        require(checks)
    failed = set(checks.loc[checks["violations"] > 0, "check"])
    assert all(check in str(caught.value) for check in failed)
    return failed


def test_evidence_in_order_passes():
    checks = check_order(evidence())
    require(checks)
    assert (checks["violations"] == 0).all() and (checks["compared"] > 0).all() and len(checks) == 27


def test_unbounded_scores_are_compared_by_the_bounds_they_have():
    found = with_unbounded()
    assert np.isinf(found["guarantee_linf"]["upper"]).any() and np.isinf(found["attack_l2"]["mean_lower"]).any()
    checks = check_order(found)
    require(checks)
    compared = checks.set_index("check")["compared"]
    assert compared["clean score ≤ attacked score"] == 2 * 3
    assert compared["l2-attacked score ≤ percentile bound"] == 2 * 6
    assert compared["l2-attacked score ≤ gaussian bound"] == 6
    last = found["certify_l2"].index[-1]
    found["certify_l2"].loc[last, "upper"] = -200.0
    assert "l2-attacked score ≤ percentile bound" in failing(found)


@pytest.mark.parametrize(
    ("evaluation", "column", "value", "check"),
    [
        ("attack_linf", "attacked", 0.0, "clean score ≤ attacked score"),
        ("guarantee_linf", "upper", 0.45, "attacked score ≤ guaranteed bound"),
        ("certify_l2", "lower", 0.6, "l2 lower bound ≤ estimate at radius 0"),
        ("certify_l2", "upper", 0.3, "l2-attacked score ≤ gaussian bound"),
        ("attack_l2", "median_lower", 0.95, "l2-attacked score ≤ percentile bound"),
        ("attack_l2", "median", 0.0, "smoothed score ≤ l2-attacked median"),
        ("attack_l2", "mean", 0.0, "smoothed score ≤ l2-attacked mean"),
        ("clean", "score", 0.55, "clean score ≤ attacked score"),
        ("attack_linear", "attacked", 6.97, "99 % of a linear score's greatest gain ≤ attacked gain"),
    ],
)
def test_each_violation_is_found(evaluation, column, value, check):
    broken = evidence()
    rows = broken[evaluation]
    rows.loc[rows.index[-1] if column != "lower" else 0, column] = value if column != "lower" else 0.99
    assert check in failing(broken)


@pytest.mark.parametrize(
    ("alpha", "broken_bounds", "violations"), [(0.01, 3, 0), (0.01, 30, 18), (1e-4, 3, 0), (1e-4, 4, 1)]
)
def test_certificates_may_fail_as_often_as_their_alpha_says(alpha, broken_bounds, violations):
    rows = pd.DataFrame({"method": "plain", "set": "far", "sample": range(200), "sigma": 0.25, "radius": 0.5})
    rows = rows.assign(upper=0.6, alpha=alpha, attacked=[0.7] * broken_bounds + [0.5] * (200 - broken_bounds))
    found = _beyond_alpha("attacked ≤ certified", rows)
    assert found["violations"] == violations and found["tolerated"] == broken_bounds - violations


def test_only_what_holds_by_alpha_alone_is_tolerated():
    lucky = evidence()
    certified = lucky["certify_l2"]
    certified["alpha"] = 0.01
    certified.loc[certified.index[-1], "upper"] = 0.3
    checks = check_order(lucky).set_index("check")
    require(checks.reset_index())
    assert checks.loc["l2-attacked score ≤ gaussian bound", ["violations", "tolerated"]].tolist() == [0, 1]
    assert checks["tolerated"].sum() == 1
    lucky["attack_linf"].loc[0, "attacked"] = 0.0
    assert "clean score ≤ attacked score" in failing(lucky)


def test_cells_out_of_order_are_found():
    broken = evidence()
    broken["attack_linf"]["attacked"] = 0.0
    assert "l∞: attacked no better than clean, auc" not in failing(broken)
    broken["clean"].loc[broken["clean"]["set"] == "far", "score"] = 0.85
    assert "l∞: attacked no better than clean, auc" in failing(broken)
    broken = evidence()
    broken["guarantee_linf"] = broken["guarantee_linf"].assign(upper=0.0, vacuous=False)
    broken["attack_linf"]["attacked"] = 0.99
    assert "l∞: guaranteed no better than attacked, auc" in failing(broken)
    broken = evidence()
    broken["certify_l2"]["upper"] = 0.0
    broken["attack_l2"][["median", "median_lower"]] = 0.99
    assert "l2 percentile: guaranteed no better than attacked, auc" in failing(broken)


@pytest.mark.parametrize("evaluation", ["clean", "attack_linf", "guarantee_linf", "certify_l2", "attack_l2"])
def test_a_missing_row_is_found(evaluation):
    broken = evidence()
    broken[evaluation] = broken[evaluation][:-1]
    assert failing(broken)


def test_another_epsilon_or_radius_is_found():
    broken = evidence()
    broken["guarantee_linf"]["epsilon"] = 0.01
    assert "attacked score ≤ guaranteed bound" in failing(broken)
    broken = evidence()
    broken["attack_l2"]["radius"] += 0.1
    assert "l2-attacked score ≤ percentile bound" in failing(broken)


def test_an_empty_attack_is_found():
    broken = evidence()
    broken["attack_l2"][["median", "median_lower", "mean", "mean_lower"]] = 0.0
    broken["attack_l2"].loc[broken["attack_l2"]["radius"] == 0, ["median", "mean"]] = 0.3
    assert "smoothed score ≤ l2-attacked median" in failing(broken)


def test_rounding_is_forgiven_and_no_more():
    nearly = evidence()
    nearly["attack_linf"]["attacked"] = nearly["clean"].query("set == 'far'")["score"].to_numpy() - 1e-7
    require(check_order(nearly))
    nearly["attack_linf"].loc[0, "attacked"] -= 1e-4
    assert "clean score ≤ attacked score" in failing(nearly)


def test_rounding_is_relative_to_large_scores():
    nearly = with_unbounded()
    clean = nearly["clean"].query("method == 'vos' and set == 'far'")["score"].to_numpy()
    attacked = nearly["attack_linf"]["method"] == "vos"
    nearly["attack_linf"].loc[attacked, "attacked"] = clean - 5e-4
    require(check_order(nearly))
    nearly["attack_linf"].loc[attacked, "attacked"] = clean - 5e-3
    assert "clean score ≤ attacked score" in failing(nearly)


def test_an_attack_without_linear_scores_is_not_taken_for_one_that_works():
    empty = evidence()
    empty["attack_linear"] = empty["attack_linear"][:0]
    with pytest.raises(InputError, match="linear score's greatest gain"):
        require(check_order(empty))
