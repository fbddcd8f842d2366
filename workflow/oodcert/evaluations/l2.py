"""Smoothed scores in l2 balls: certified and attacked."""

from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch

from oodcert.attacks import ATTACK_ALPHA
from oodcert.attacks.ood import smoothed_l2_attack
from oodcert.certification.adaptive import PILOT_DRAWS, PILOT_IMAGES, PILOT_SHARE, alpha_spending_schedule
from oodcert.certification.certify import certify
from oodcert.certification.mean_intervals import betting_bounds
from oodcert.certification.monte_carlo import sample
from oodcert.certification.precision import marked_logits, prepared
from oodcert.certification.smoothing_bounds import percentile_bounds
from oodcert.config.method_specs import bounds_of
from oodcert.evaluations.base import chunks, frame
from oodcert.models.checks import refuse_rows
from oodcert.models.composition import smoothed_network
from oodcert.runtime.memory import with_oom_backoff
from oodcert.statistics.metrics import tpr_threshold

# adaptive sampling: how far an ID bound may be from what all draws would give
ID_WIDTH = 0.002  # in units of a score in [0, 1]
ID_WIDTH_UNBOUNDED = 0.05  # of another, in standard deviations of the image's draws


def certify_l2(*evaluations, against=None):
    """l2 bounds on the smoothed score of every image, a row per sigma, method, image, bound and radius.

    evaluations: of one method, or of several that differ in their networks alone and admit the same bounds: these see
    the same draws, which a denoiser that they share denoises once. Adaptive sampling settles which OOD bounds stay
    below the threshold that 95 % of the method's ID lower bounds at radius 0 reach, which are its only ID bounds; these
    are sharp where they may decide that threshold, as upper bounds of few draws foretell it, and may be lower than they
    need be above. against: rows of all ID images, where the evaluations have none.
    """
    first, frames = evaluations[0], []
    settings = first.settings
    common = {key: settings[key] for key in ("n", "alpha", "seed", "batch_size", "sampling")}
    common["precision"] = settings.get("precision", "float32")
    common["bounds"] = bounds_of(settings["method_spec"], settings["bounds"])
    adaptive = settings["sampling"] == "adaptive"
    several = len(alpha_spending_schedule(settings["sampling"], settings["n"], settings["alpha"])[0]) > 1
    for sigma in settings["sigmas"]:
        ceilings = _ceilings(evaluations, sigma, common) if several and "id" in first.sets else None
        with ExitStack() as stack:
            detectors = {
                one.method: one.detector(stack.enter_context(one.network(smoothed_network, sigma)))
                for one in evaluations
            }
            thresholds = None if against is None else _thresholds(against[against["sigma"] == sigma], "lower")
            for name, image_set in first.sets.items():
                inside = adaptive and name == "id"
                table = certify(
                    detectors,
                    first.images(name),
                    sigma,
                    [0.0] if inside else settings["radii"],
                    **common,
                    decision_thresholds=None if inside else thresholds,
                    lower_bound_cap=ceilings if inside else None,
                    tolerance=id_widths(detectors),
                    ids=image_set.ids,
                    name=f"certify/{name}",
                    progress=f"{name}, sigma {sigma}",
                ).rename(columns={"detector": "method", "image": "sample"})
                if inside:
                    thresholds = _thresholds(table, "lower")
                frames.append(table.assign(set=name))
    keys = ["method", "set", "sample"]
    table = pd.concat(frames, ignore_index=True)
    return table[[*keys, *table.columns.drop(keys)]]


def id_widths(detectors):
    """By name, the `tolerance` of certify for ID images, on whose bounds the threshold for the others rests."""
    return {name: ID_WIDTH_UNBOUNDED if one.unbounded else ID_WIDTH for name, one in detectors.items()}


def _ceilings(evaluations, sigma, common):
    """A table that `certify` takes as lower_bound_cap: what 90 % of the upper bounds of a pilot reach, and so hardly below what
    95 % of the lower bounds of all draws do. Whatever it is, it decides only how many draws are taken.

    The pilot is of all ID images, or the first ones, whichever are evaluated here; it is computed once a method, and
    not counted in its calls.
    """
    id_set = evaluations[0].id_set.first(min(PILOT_IMAGES, len(evaluations[0].id_set)))
    lacking = [one for one in evaluations if sigma not in one.ceilings]
    if lacking:
        pilot = certify(
            {one.method: one.detector(one.build(smoothed_network, sigma)) for one in lacking},
            torch.from_numpy(id_set.floats()).to(evaluations[0].device),
            sigma,
            [0.0],
            **common | {"n": PILOT_DRAWS, "sampling": "fixed"},
            ids=id_set.ids,
            name="pilot/id",
            progress=f"pilot, sigma {sigma}",
        ).rename(columns={"detector": "method"})
        for one in lacking:
            one.ceilings[sigma] = _thresholds(pilot[pilot["method"] == one.method], "upper", PILOT_SHARE)
    return pd.concat([one.ceilings[sigma] for one in evaluations], ignore_index=True)


def _thresholds(rows, side, share=0.95):
    """As a table that `certify` compares with: what that share of the bounds of a side reach, by method and bound."""
    found = rows.groupby(["method", "bound"])[side].agg(tpr_threshold, tpr=share).rename("lower").reset_index()
    return found.rename(columns={"method": "detector"}).assign(radius=0.0)


def attack_l2(evaluation):
    """Smoothed scores of OOD images attacked within each certified radius, estimated on fresh noise.

    set, sample, sigma, radius, median, median_lower, mean, mean_lower (-inf for an unbounded score), n, alpha, …: an
    attack starts from the result at the next smaller radius, and each image keeps its highest value over the smaller
    radii, its clean one (radius 0) included. The lower bounds hold with probability ≥ 1 - alpha each, that choice
    included.
    """
    settings, frames = evaluation.settings, []
    radii = sorted({0.0, *settings["radii"]})
    for sigma in settings["sigmas"]:
        with evaluation.network(smoothed_network, sigma) as network:
            detector = evaluation.detector(network)
            for name, ids in evaluation.ood():
                attacked, strongest = evaluation.images(name), None
                for radius in radii:
                    if radius > 0:
                        attacked = _attacked(evaluation, detector, attacked, name, sigma, radius)
                    found = _smoothed(evaluation, detector, attacked, name, sigma, ATTACK_ALPHA / len(radii))
                    strongest = found if strongest is None else np.maximum(strongest, found)
                    where = {"sample": ids, "sigma": sigma, "radius": radius}
                    constants = {"n": settings["n"], "alpha": ATTACK_ALPHA, **_budget(settings)}
                    frames.append(frame(evaluation, name, **where, **strongest, **constants))
    return pd.concat(frames, ignore_index=True)


def _budget(settings):
    return {key: settings[key] for key in ("iterations", "restarts", "draws")}


def _attacked(evaluation, detector, starts, name, sigma, radius):
    """The images of a set attacked within a radius, from `starts` [N, C, H, W]."""
    settings, images, ids = evaluation.settings, evaluation.images(name), evaluation.sets[name].ids
    budget = _budget(settings)

    def attack(index):
        return smoothed_l2_attack(
            detector,
            images[index],
            ids[index],
            name,
            sigma,
            radius,
            starts[index],
            **budget,
            seed=settings["seed"],
        )

    compute, size = with_oom_backoff(attack), evaluation.images_per_batch(budget["draws"])
    progress = f"attack, {name}, sigma {sigma}, radius {radius}"
    return torch.cat([compute(index)[:real] for index, real in chunks(ids, size, progress)])


def _smoothed(evaluation, detector, images, name, sigma, alpha):
    """Median and mean of the smoothed score of each image, and lower bounds on them, from fresh noise."""
    settings, network = evaluation.settings, detector.network
    precision = settings.get("precision", "float32")

    def score(batch):
        logits, finite = marked_logits(network, batch, precision)
        return detector.score_of(logits).double().where(finite, torch.nan)

    drawn = sample(
        score,
        images,
        evaluation.sets[name].ids,
        f"attack_l2/final/{name}",
        sigma=sigma,
        looks=[settings["n"]],
        refuse=lambda scores: refuse_rows(network, np.isnan(scores)),
        precision=precision,
        seed=settings["seed"],
        batch_size=settings["batch_size"],
        progress=f"score, {name}, sigma {sigma}",
    )
    with prepared([network], images.device, precision):
        draws = np.stack([scores for _, scores in drawn])
    ordered = np.sort(draws, axis=1)
    return pd.DataFrame(
        {
            "median": ordered[:, -(-settings["n"] // 2) - 1],
            "median_lower": percentile_bounds(ordered, sigma, [0.0], alpha)[0][:, 0],
            "mean": draws.mean(1),
            "mean_lower": -np.inf if detector.unbounded else betting_bounds(draws, alpha)[0],
        }
    )
