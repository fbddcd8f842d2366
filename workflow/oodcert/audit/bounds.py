"""The bounds of the evidence against what the order statistics of their draws allow.

The draws themselves are not kept. But the rows of the percentile bound are order statistics of them, of ranks that the
settings give, so every other bound of the same draws lies between what it would be with all unknown draws as small,
and as great, as these allow.
"""

import numpy as np
import pandas as pd

from oodcert.attacks import ATTACK_ALPHA
from oodcert.audit.findings import Result, rows_where
from oodcert.audit.rows import columns_wrong
from oodcert.certification.adaptive import alpha_spending_schedule
from oodcert.certification.smoothing_bounds import (
    cdf_bounds,
    gaussian_bounds,
    lipschitz_bounds,
    percentile_ranks,
    vote_radius,
)
from oodcert.models.scores import UNBOUNDED_SCORES

ROUNDING = 1e-9  # of float64, after Φ and its inverse
IMAGE, SIDES = ["set", "sample", "sigma"], ["lower", "upper"]


def check_certificates(run):
    """The l2 certificates of the scores (certify_l2)."""
    return _each(run, "l2 certificates", "certify_l2", _certificate_rules)


def check_radii(run):
    """The certified radii of the labels (certify_id): only those that some count of votes gives."""
    return _each(run, "certified radii", "certify_id", _radius_rules)


def check_attacked(run):
    """The l2-attacked smoothed scores (attack_l2)."""
    return _each(run, "l2 attacks", "attack_l2", _attack_rules)


def _each(run, check, evaluation, rules):
    """The Result of the rules on every method's frame of one evaluation, those with all their columns."""
    findings, compared = [], 0
    for (found, name), frame in run.frames.items():
        if found == evaluation and name in run.config["methods"] and not columns_wrong(frame, evaluation, ""):
            compared += len(frame)
            for problem, rows, bad, columns in rules(frame, run.config, name):
                findings += rows_where(f"evidence/{evaluation}/{name}.parquet", rows, bad, columns, problem)
    return Result(check, compared, findings)


def _certificate_rules(frame, config, _):
    settings = config["evaluation"]["certify_l2"]
    levels = dict(zip(*alpha_spending_schedule(settings["sampling"], settings["n"], settings["alpha"]), strict=True))
    known = frame["n"].isin(list(levels))
    yield "no number of draws at which sampling stops", frame, ~known, ["n"]
    frame = frame[known].sort_values([*IMAGE, "bound", "radius"])
    frame = frame.assign(image=frame.groupby(IMAGE).ngroup())
    yield from _within_a_bound(frame)
    for (n, sigma), rows in frame.groupby(["n", "sigma"]):
        yield from _of_means(rows, sigma)
        percentile = rows[rows["bound"] == "percentile"]
        yield from _of_ranks(percentile, n, sigma, levels[n])
        draws = order_statistics(percentile, n, sigma, levels[n])
        yield from _in_order(draws)
        for _, some in rows[rows["bound"] != "percentile"].groupby("set"):
            yield from _within_envelopes(some, draws[draws["image"].isin(some["image"])], n, sigma, levels[n])


def _within_a_bound(frame):
    """What holds between the rows of one image and one kind of bound, whatever the kind."""
    image = frame.groupby(["image", "bound"])
    columns = [*IMAGE, "bound", "radius", "estimate", "lower", "upper"]
    first = image[["estimate", "n"]].transform("first")
    yield "another estimate or n than at radius 0", frame, (frame[["estimate", "n"]] != first).any(axis=1), columns
    outside = ~((frame["lower"] <= frame["estimate"] + ROUNDING) & (frame["estimate"] <= frame["upper"] + ROUNDING))
    yield "the estimate is outside its bounds", frame, outside, columns
    shrinks = (frame["upper"] < image["upper"].shift() - ROUNDING) | (
        frame["lower"] > image["lower"].shift() + ROUNDING
    )
    yield "tighter than at the next smaller radius", frame, shrinks, columns
    several = frame.groupby("image")["n"].transform("nunique") > 1
    yield "the image's bounds are of different numbers of draws", frame, several, [*IMAGE, "n"]


def _of_means(rows, sigma):
    """cdf, gaussian and lipschitz bounds are of one mean; the last two follow from its bounds, theirs at radius 0."""
    rows = rows[rows["bound"] != "percentile"]
    other = rows["estimate"] != rows.groupby("image")["estimate"].transform("first")
    yield "another mean than with other bounds", rows, other, [*IMAGE, "bound", "estimate"]
    start = rows[(rows["bound"] != "cdf") & (rows["radius"] == 0)]
    columns = [*IMAGE, "bound", "radius", "lower", "upper"]
    gap = (start[SIDES] - start.groupby("image")[SIDES].transform("first")).abs().max(axis=1)
    yield "gaussian and lipschitz bounds differ at radius 0", start, gap > ROUNDING, columns
    for bound, formula in (("gaussian", gaussian_bounds), ("lipschitz", lipschitz_bounds)):
        base = start[start["bound"] == bound].set_index("image")[SIDES]
        for radius, found in rows[rows["bound"] == bound].groupby("radius"):
            lower, upper = base.reindex(found["image"]).to_numpy().T
            expected = np.concatenate(formula(lower, upper, sigma, [radius]), axis=1)
            bad = ~(np.abs(found[SIDES].to_numpy() - expected).max(axis=1) <= ROUNDING)
            yield f"not what the {bound} bound at radius 0 gives", found, bad, columns


def _of_ranks(rows, n, sigma, level):
    """A percentile bound is infinite where no order statistic is one, and nowhere else."""
    for side, rank, infinite in zip(SIDES, _ranks(rows, n, sigma, level), (-np.inf, np.inf), strict=True):
        bad = np.where((rank < 1) | (rank > n), rows[side] != infinite, ~np.isfinite(rows[side]))
        problem = f"{side} is finite where no order statistic is a bound, or the reverse"
        yield problem, rows, bad, [*IMAGE, "bound", "radius", side]


def order_statistics(rows, n, sigma, level):
    """The known order statistics: image, rank (1 to n), value, ascending; a rank with two values has two rows."""
    lower, upper = _ranks(rows, n, sigma, level)
    median = np.full(len(rows), max(1, int(np.ceil(n / 2))))
    ranks = {"lower": lower, "upper": upper, "estimate": median}
    long = pd.concat([rows[["image", *IMAGE]].assign(rank=ranks[side], value=rows[side]) for side in ranks])
    return long[long["rank"].between(1, n)].drop_duplicates(["image", "rank", "value"]).sort_values(["image", "rank"])


def _ranks(rows, n, sigma, level):
    """percentile_ranks at the radius of every row."""
    radii, place = np.unique(rows["radius"], return_inverse=True)
    return [ranks[place] for ranks in percentile_ranks(n, sigma, radii, level)]


def _in_order(draws):
    """Each rank has one value, and a higher rank no lower one."""
    before = draws.groupby("image")[["rank", "value"]].shift()
    bad = (draws["rank"] == before["rank"]) | (draws["value"] < before["value"])
    yield "order statistics out of order, or two values of one rank", draws, bad, [*IMAGE, "rank", "value"]


def _within_envelopes(rows, draws, n, sigma, level):
    """The mean and the cdf bound lie between those of the smallest and of the greatest draws that are possible."""
    known = draws.drop_duplicates(["image", "rank"]).pivot(index="image", columns="rank", values="value")
    padded = np.pad(known.to_numpy(), ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    ranks, every = known.columns.to_numpy(), np.arange(1, n + 1)
    least, most = padded[:, np.searchsorted(ranks, every, "right")], padded[:, np.searchsorted(ranks, every) + 1]

    def outside(found, column, low, high):
        image = known.index.get_indexer(found["image"])
        return ~((low[image] - ROUNDING <= found[column]) & (found[column] <= high[image] + ROUNDING))

    columns = [*IMAGE, "bound", "radius"]
    bad = outside(rows, "estimate", least.mean(1), most.mean(1))
    yield "the order statistics rule this mean out", rows, bad, [*columns, "estimate"]
    for radius, found in rows[rows["bound"] == "cdf"].groupby("radius"):
        ends = [cdf_bounds(draws, sigma, [radius], level) for draws in (least, most)]
        for side, low, high in zip(SIDES, *ends, strict=True):
            bad = outside(found, side, low[:, 0], high[:, 0])
            yield "the order statistics rule this bound out", found, bad, [*columns, side]


def _radius_rules(frame, config, _):
    settings = config["evaluation"]["certify_id"]
    levels = dict(zip(*alpha_spending_schedule(settings["sampling"], settings["n"], settings["alpha"]), strict=True))
    yield "no number of draws at which sampling stops", frame, ~frame["n"].isin(list(levels)), ["n"]
    for (n, sigma), rows in frame[frame["n"].isin(list(levels))].groupby(["n", "sigma"]):
        possible = vote_radius(np.arange(n + 1), n, sigma, levels[n])
        nearest = np.abs(rows["radius"].to_numpy()[:, None] - possible).min(axis=1)
        yield "no count of votes gives this radius", rows, ~(nearest <= ROUNDING), ["sample", "sigma", "radius", "n"]


def _attack_rules(frame, config, name):
    radii = sorted({0.0, *config["evaluation"]["certify_l2"]["radii"]})
    frame = frame.sort_values([*IMAGE, "radius"])
    image, unbounded = frame.groupby(IMAGE), config["methods"][name]["score"] in UNBOUNDED_SCORES
    for statistic in ("median", "mean"):
        lower = f"{statistic}_lower"
        columns = [*IMAGE, "radius", statistic, lower]
        yield f"{lower} is above the {statistic}", frame, ~(frame[lower] <= frame[statistic] + ROUNDING), columns
        falls = (frame[columns[-2:]] < image[columns[-2:]].shift()).any(axis=1)
        yield "lower than at a smaller radius", frame, falls, columns
    for n, rows in frame.groupby("n"):
        none = percentile_ranks(n, 1.0, [0.0], ATTACK_ALPHA / len(radii))[0][0] < 1
        bad = np.isfinite(rows["median_lower"]) == none
        yield "median_lower is finite where no order statistic is a bound, or the reverse", rows, bad, ["median_lower"]
    yield (
        "mean_lower is finite without a range, or the reverse",
        frame,
        np.isfinite(frame["mean_lower"]) == unbounded,
        ["mean_lower"],
    )
