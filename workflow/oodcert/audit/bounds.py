"""The bounds of the evidence, checked by what the order statistics of their draws allow.

The draws themselves are not kept. But the rows of the percentile bound are order statistics of them, of ranks that the
settings give. So every other bound of the same draws lies between two extremes: with all unknown draws as small, and as
great, as these order statistics allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oodcert.attacks import ATTACK_ALPHA
from oodcert.audit.findings import Result, RowRule
from oodcert.audit.rows import columns_wrong
from oodcert.audit.run import Run
from oodcert.certification.adaptive import alpha_spending_schedule
from oodcert.certification.smoothing_bounds import (
    cdf_bounds,
    gaussian_bounds,
    lipschitz_bounds,
    percentile_ranks,
    vote_radius,
)
from oodcert.config.method_specs import MethodSpec
from oodcert.config.models import CertifyIdSettings, CertifyL2Settings, EvaluationSettings

ROUNDING = 1e-9  # of float64, after Φ and its inverse
IMAGE, SIDES = ["set", "sample", "sigma"], ["lower", "upper"]
Rules = Callable[[pd.DataFrame, EvaluationSettings, MethodSpec], Iterator[RowRule]]


def check_certificates(run: Run) -> Result:
    """The l2 certificates of the scores (certify_l2)."""
    return _of_methods(run, "l2 certificates", "certify_l2", _certificate_rules)


def check_radii(run: Run) -> Result:
    """The certified radii of the labels (certify_id): only those that some count of votes gives."""
    return _of_methods(run, "certified radii", "certify_id", _radius_rules)


def check_attacked(run: Run) -> Result:
    """The l2-attacked smoothed scores (attack_l2)."""
    return _of_methods(run, "l2 attacks", "attack_l2", _attack_rules)


def _of_methods(run: Run, check: str, evaluation: str, rules: Rules) -> Result:
    """The Result of the rules on every method's frame of one evaluation, those with all their columns."""
    findings, compared = [], 0
    for method, method_spec in run.config.methods.items():
        frame = run.frames.get((evaluation, method))
        if frame is not None and not columns_wrong(frame, evaluation, ""):
            compared += len(frame)
            for rule in rules(frame, run.config.evaluation, method_spec):
                findings += rule.findings(f"evidence/{evaluation}/{method}.parquet")
    return Result(check, compared, findings)


def error_levels(settings: CertifyL2Settings | CertifyIdSettings) -> dict[int, float]:
    """The error probability of a bound from each number of draws at which sampling can stop.

    Args:
        settings: of the certificates.

    Returns:
        Number of draws -> error probability.
    """
    return dict(zip(*alpha_spending_schedule(settings.sampling, settings.n, settings.alpha), strict=True))


def _certificate_rules(frame: pd.DataFrame, settings: EvaluationSettings, _: MethodSpec) -> Iterator[RowRule]:
    levels = error_levels(settings.certify_l2)
    known = frame["n"].isin(list(levels))
    yield RowRule("no number of draws at which sampling stops", frame, ~known, ["n"])
    frame = frame[known].sort_values([*IMAGE, "bound", "radius"])
    frame = frame.assign(image=frame.groupby(IMAGE).ngroup())
    yield from _within_a_bound(frame)
    for n, sigma, rows in _by_draws(frame):
        yield from _of_means(rows, sigma)
        percentile = rows[rows["bound"] == "percentile"]
        yield from _of_ranks(percentile, n, sigma, levels[n])
        draws = order_statistics(percentile, n, sigma, levels[n])
        yield _in_order(draws)
        for _, some in rows[rows["bound"] != "percentile"].groupby("set"):
            yield from _within_envelopes(some, draws[draws["image"].isin(some["image"])], n, sigma, levels[n])


def _by_draws(frame: pd.DataFrame) -> Iterator[tuple[int, float, pd.DataFrame]]:
    """The rows of each number of draws and sigma."""
    for (n, sigma), rows in frame.groupby(["n", "sigma"]):
        yield int(n), float(sigma), rows


def _within_a_bound(frame: pd.DataFrame) -> Iterator[RowRule]:
    """What holds between the rows of one image and one kind of bound, whatever the kind."""
    image = frame.groupby(["image", "bound"])
    lower, estimate, upper = frame["lower"], frame["estimate"], frame["upper"]
    columns = [*IMAGE, "bound", "radius", "estimate", "lower", "upper"]
    first = image[["estimate", "n"]].transform("first")
    differs = (frame[["estimate", "n"]] != first).any(axis=1)
    yield RowRule("another estimate or n than at radius 0", frame, differs, columns)
    beyond = ~((lower <= estimate + ROUNDING) & (estimate <= upper + ROUNDING))
    yield RowRule("the estimate is not between its bounds", frame, beyond, columns)
    shrinks = (upper < image["upper"].shift() - ROUNDING) | (lower > image["lower"].shift() + ROUNDING)
    yield RowRule("tighter than at the next smaller radius", frame, shrinks, columns)
    several = frame.groupby("image")["n"].transform("nunique") > 1
    yield RowRule("the image's bounds are of different numbers of draws", frame, several, [*IMAGE, "n"])


def _of_means(rows: pd.DataFrame, sigma: float) -> Iterator[RowRule]:
    """cdf, gaussian and lipschitz bounds are of one mean; the last two follow from its bounds, theirs at radius 0."""
    rows = rows[rows["bound"] != "percentile"]
    other = rows["estimate"] != rows.groupby("image")["estimate"].transform("first")
    yield RowRule("another mean than with other bounds", rows, other, [*IMAGE, "bound", "estimate"])
    start = rows[(rows["bound"] != "cdf") & (rows["radius"] == 0)]
    columns = [*IMAGE, "bound", "radius", "lower", "upper"]
    gap = (start[SIDES] - start.groupby("image")[SIDES].transform("first")).abs().max(axis=1)
    yield RowRule("gaussian and lipschitz bounds differ at radius 0", start, gap > ROUNDING, columns)
    for bound, formula in (("gaussian", gaussian_bounds), ("lipschitz", lipschitz_bounds)):
        base = start[start["bound"] == bound].set_index("image")[SIDES]
        for radius, some in rows[rows["bound"] == bound].groupby("radius"):
            lower, upper = base.reindex(some["image"]).to_numpy().T
            expected = np.concatenate(formula(lower, upper, sigma, [radius]), axis=1)
            bad = ~(np.abs(some[SIDES].to_numpy() - expected).max(axis=1) <= ROUNDING)
            yield RowRule(f"not what the {bound} bound at radius 0 gives", some, bad, columns)


def _of_ranks(rows: pd.DataFrame, n: int, sigma: float, level: float) -> Iterator[RowRule]:
    """A percentile bound is infinite where no order statistic is one, and nowhere else."""
    for side, rank, infinite in zip(SIDES, _ranks(rows, n, sigma, level), (-np.inf, np.inf), strict=True):
        bad = np.where((rank < 1) | (rank > n), rows[side] != infinite, ~np.isfinite(rows[side]))
        problem = f"{side} is finite where no order statistic is a bound, or the reverse"
        yield RowRule(problem, rows, bad, [*IMAGE, "bound", "radius", side])


def order_statistics(rows: pd.DataFrame, n: int, sigma: float, level: float) -> pd.DataFrame:
    """The order statistics that the rows of percentile bounds tell.

    Args:
        rows: rows of the percentile bound, with a column `image` that numbers the images.
        n: draws of each image.
        sigma: standard deviation of the noise, in the pixel scale [0, 1].
        level: error probability of each bound.

    Returns:
        A frame with the columns image, IMAGE, rank (1 to n) and value, by ascending rank. A rank with two values has
        two rows.
    """
    lower, upper = _ranks(rows, n, sigma, level)
    median = np.full(len(rows), max(1, int(np.ceil(n / 2))))
    ranks = {"lower": lower, "upper": upper, "estimate": median}
    long = pd.concat([rows[["image", *IMAGE]].assign(rank=ranks[side], value=rows[side]) for side in ranks])
    return long[long["rank"].between(1, n)].drop_duplicates(["image", "rank", "value"]).sort_values(["image", "rank"])


def _ranks(rows: pd.DataFrame, n: int, sigma: float, level: float) -> list[NDArray[np.integer]]:
    """percentile_ranks at the radius of every row: of the lower and of the upper bound."""
    radii, place = np.unique(rows["radius"], return_inverse=True)
    return [ranks[place] for ranks in percentile_ranks(n, sigma, radii.tolist(), level)]


def _in_order(draws: pd.DataFrame) -> RowRule:
    """Each rank has one value, and a higher rank no lower one."""
    before = draws.groupby("image")[["rank", "value"]].shift()
    bad = (draws["rank"] == before["rank"]) | (draws["value"] < before["value"])
    return RowRule("order statistics out of order, or two values of one rank", draws, bad, [*IMAGE, "rank", "value"])


def _within_envelopes(rows: pd.DataFrame, draws: pd.DataFrame, n: int, sigma: float, level: float) -> Iterator[RowRule]:
    """The mean and the cdf bound lie between those of the smallest and of the greatest draws that are possible."""
    known = draws.drop_duplicates(["image", "rank"]).pivot(index="image", columns="rank", values="value")
    padded = np.pad(known.to_numpy(), ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    ranks, every = known.columns.to_numpy(), np.arange(1, n + 1)
    least, most = padded[:, np.searchsorted(ranks, every, "right")], padded[:, np.searchsorted(ranks, every) + 1]

    def beyond(some: pd.DataFrame, column: str, low: NDArray[np.float64], high: NDArray[np.float64]) -> pd.Series:
        image = known.index.get_indexer(some["image"])
        return ~((low[image] - ROUNDING <= some[column]) & (some[column] <= high[image] + ROUNDING))

    columns = [*IMAGE, "bound", "radius"]
    bad = beyond(rows, "estimate", least.mean(1), most.mean(1))
    yield RowRule("the order statistics rule this mean out", rows, bad, [*columns, "estimate"])
    for radius, some in rows[rows["bound"] == "cdf"].groupby("radius"):
        extremes = [cdf_bounds(possible, sigma, [radius], level) for possible in (least, most)]
        for side, low, high in zip(SIDES, *extremes, strict=True):
            bad = beyond(some, side, low[:, 0], high[:, 0])
            yield RowRule("the order statistics rule this bound out", some, bad, [*columns, side])


def _radius_rules(frame: pd.DataFrame, settings: EvaluationSettings, _: MethodSpec) -> Iterator[RowRule]:
    levels = error_levels(settings.certify_id)
    known = frame["n"].isin(list(levels))
    yield RowRule("no number of draws at which sampling stops", frame, ~known, ["n"])
    for n, sigma, rows in _by_draws(frame[known]):
        possible = vote_radius(np.arange(n + 1), n, sigma, levels[n])
        nearest = np.abs(rows["radius"].to_numpy()[:, None] - possible).min(axis=1)
        columns = ["sample", "sigma", "radius", "n"]
        yield RowRule("no count of votes gives this radius", rows, ~(nearest <= ROUNDING), columns)


def _attack_rules(frame: pd.DataFrame, settings: EvaluationSettings, method_spec: MethodSpec) -> Iterator[RowRule]:
    radii = sorted({0.0, *settings.certify_l2.radii})
    frame = frame.sort_values([*IMAGE, "radius"])
    image = frame.groupby(IMAGE)
    for statistic in ("median", "mean"):
        pair = [statistic, f"{statistic}_lower"]
        columns, (estimate, lower) = [*IMAGE, "radius", *pair], (frame[column] for column in pair)
        yield RowRule(f"{pair[1]} is above the {statistic}", frame, ~(lower <= estimate + ROUNDING), columns)
        falls = (frame[pair] < image[pair].shift()).any(axis=1)
        yield RowRule("lower than at a smaller radius", frame, falls, columns)
    for n, rows in frame.groupby("n"):
        no_rank = percentile_ranks(n, 1.0, [0.0], ATTACK_ALPHA / len(radii))[0][0] < 1
        problem = "median_lower is finite where no order statistic is a bound, or the reverse"
        yield RowRule(problem, rows, np.isfinite(rows["median_lower"]) == no_rank, ["median_lower"])
    problem = "mean_lower is finite without a range, or the reverse"
    yield RowRule(problem, frame, np.isfinite(frame["mean_lower"]) == method_spec.is_unbounded, ["mean_lower"])
