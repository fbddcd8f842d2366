"""Random rows of a run certified anew from the weights, with its own noise and with fresh noise."""

import secrets
from collections import Counter

import numpy as np
import pandas as pd
from scipy.stats import betabinom, binom

from oodcert.audit.bounds import order_statistics
from oodcert.audit.findings import Finding, Result, rows_where
from oodcert.audit.layout import inputs_of
from oodcert.audit.run import checksum
from oodcert.certification.adaptive import alpha_spending_schedule
from oodcert.certification.certify import certify, marked_scores, refuse_scores
from oodcert.certification.mean_intervals import betting_bounds
from oodcert.certification.monte_carlo import sample
from oodcert.certification.precision import prepared
from oodcert.certification.smoothing_bounds import percentile_bounds
from oodcert.config.method_specs import bounds_of
from oodcert.errors import InputError
from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.clean import clean
from oodcert.evidence.manifest import root_of
from oodcert.evidence.order_checks import ROUNDING
from oodcert.execution.jobs import components_to_evaluate, evaluated, load_sets, prepare_torch
from oodcert.models.composition import smoothed_network
from oodcert.runtime.keyed_noise import derive_seed

LEVEL = 1e-3  # probability of calling anything in an honest run wrong
AGAIN = 1e-4  # what float rounding may change of a bound: its formula can magnify that of the scores
SURE = 1e-7  # error probability of the fresh bounds that recorded ones are held against
REMEDY = "evidence and weights do not belong together: run again, and compare"
RECOMPUTED = ("clean", "certify_l2")
ROW = ["method", "set", "sample", "sigma", "n"]


def spot_check(run, count, seed=None, trust=False):
    """The Result of certifying `count` random rows of certify_l2 (a method, image and sigma each) anew.

    With the recorded noise every bound must be the recorded one up to AGAIN, but where sampling was adaptive, whose end
    depends on all images. With fresh noise each row gets as many draws as it had. Where both are draws of one
    distribution, the number of fresh ones below a recorded order statistic is beta-binomial and the means differ by no
    more than mean_p_value allows; the row's p-value is the least of them, times their number. The intervals recorded at
    radius 0 contradict the fresh draws as often as their alpha explains. Holm's procedure over all these at LEVEL gives
    the findings. Clean scores of the same images, computed again with the recorded noise, must be the recorded ones up
    to ROUNDING.

    trust: whether to import and run networks of one's own, MODULE:NAME, that the run names: that is any code.
    seed: of rows and noise; by default a random one, which nobody can foresee; the details name it. Where sampling was
    adaptive the numbers of draws depend on the draws, and the p-values hold approximately.
    """
    source = secrets.randbits(32) if seed is None else seed
    chosen = _choose(run, count, np.random.default_rng(derive_seed(source, "spot check")))
    for method in chosen["method"].unique() if not trust else ():
        _refuse_code(run, method)
    findings = [finding for method in chosen["method"].unique() for finding in _other_inputs(run, method)]
    if findings:
        return Result("spot check", 0, findings)
    tests, contradicted = [], Counter()
    for (method, name, sigma, n), group in chosen.groupby(["method", "set", "sigma", "n"]):
        findings += _clean_findings(run, method, name, group["sample"])
        findings += _bound_findings(run, method, name, group["sample"], sigma)
        fresh = _draws(run, method, name, group["sample"], sigma, n, derive_seed(source, "fresh noise"))
        for one, draws in fresh.items():
            rows = run.frames["certify_l2", method].query("set == @name and sample == @one and sigma == @sigma")
            where = f"set = {name}, sample = {one}, sigma = {sigma}"
            tests.append((f"evidence/certify_l2/{method}.parquet", where, _row_p_value(rows, draws, run.config)))
            contradicted.update(_contradictions(rows, draws))
    alpha = run.config["evaluation"]["certify_l2"]["alpha"]
    for bound, broken in contradicted.items():
        where = f"{bound} bounds at radius 0, {broken} of {len(chosen)} contradicted"
        tests.append(("evidence/certify_l2", where, float(binom.sf(broken - 1, len(chosen), 2 * alpha + SURE))))
    files, places, p_values = zip(*tests, strict=True)
    for file, where, p, rejected in zip(files, places, p_values, holm(p_values, LEVEL), strict=True):
        if rejected:
            problem = f"fresh draws are this far off by chance with probability {p:.2g} at most"
            findings.append(Finding(file, where, problem, REMEDY))
    details = [f"{file}, {where}: p = {p:.3g}" for file, where, p in tests]
    adaptive = run.config["evaluation"]["certify_l2"]["sampling"] == "adaptive"
    unchecked = ["bounds with the recorded noise, for sampling was adaptive"] if adaptive else []
    return Result("spot check", len(chosen), findings, unchecked, [f"seed = {source}", *details])


def mean_p_value(recorded, draws):
    """Of the hypothesis that `recorded` is the mean of as many independent draws in [0, 1] as `draws` [n], alike.

    Twice the lesser of two. The difference of the means is above t with probability 2 exp(-n t²) (Hoeffding 1963). And
    with s the standard deviation of the draws, the distribution's is at most s + sqrt(2 L / (n - 1)) but with
    probability exp(-L) (Maurer and Pontil 2009, Theorem 10), and by Bernstein's inequality each mean is off by more
    than that times sqrt(2 L / n), plus L / 3n, with probability 2 exp(-L): together 5 exp(-L).
    """
    n, gap = len(draws), abs(recorded - draws.mean())
    linear = 4 / np.sqrt(n * (n - 1)) + 2 / (3 * n)
    root = 2 * draws.std(ddof=1) * np.sqrt(2 / n)
    bernstein = 5 * np.exp(-(((np.sqrt(root**2 + 4 * linear * gap) - root) / (2 * linear)) ** 2))
    return float(min(1, 2 * bernstein, 4 * np.exp(-n * gap**2)))


def rank_p_value(value, rank, draws):
    """Of the hypothesis that `value` is the rank-th smallest of as many independent draws as `draws` [n], alike.

    The number of fresh draws below it is BetaBinomial(n, rank, n - rank + 1); ties, up to ROUNDING, favour it.
    """
    n, near = len(draws), ROUNDING * max(1, abs(value))
    law = betabinom(n, rank, n - rank + 1)
    below, reached = (draws < value - near).sum(), (draws <= value + near).sum()
    return float(min(1, 2 * min(law.cdf(reached), law.sf(below - 1))))


def holm(p_values, level):
    """Which hypotheses Holm's procedure rejects (Holm 1979): any true one with probability ≤ level."""
    order, rejected = np.argsort(p_values), np.zeros(len(p_values), bool)
    for position, index in enumerate(order):
        if p_values[index] > level / (len(order) - position):
            break
        rejected[index] = True
    return rejected


def _choose(run, count, generator):
    """ROW of random rows, each of another image, so that their noise is independent."""
    frames = [frame[ROW] for (evaluation, _), frame in run.frames.items() if evaluation == "certify_l2"]
    if not frames:
        raise InputError("There is no intact evidence of certify_l2 to check: see the findings on files.")
    rows = pd.concat(frames).drop_duplicates()
    return rows.iloc[generator.permutation(len(rows))].drop_duplicates(["set", "sample"]).head(count)


def _refuse_code(run, method):
    """Raises InputError where a network of the method is anybody's code."""
    for evaluation in RECOMPUTED:
        for part, network in run.records[evaluation, method]["settings"]["networks"].items():
            if network.get("name") == "own":
                raise InputError(
                    f"{method} is made of {part!r}, a network of somebody's own, which is code: {network['network']}. "
                    "Where you trust that module, pass --trust, and it is imported and run."
                )


def _other_inputs(run, method):
    """Findings on weights and image sets that are missing, or not those that the evidence was computed from."""
    findings, root = [], root_of(run.folder)
    for evaluation in RECOMPUTED:
        expected = inputs_of(run.config, evaluation, method)
        for path, recorded in run.records[evaluation, method]["inputs"].items():
            found = checksum(root / path) if path in expected else None
            if found != recorded:
                problem = "it is not there" if found is None else f"its SHA-256 is {found}, evidence is of {recorded}"
                problem = problem if path in expected else "by the config it is no input"
                findings.append(Finding(path, "as a whole", problem, "put the file of the run there"))
    return [*dict.fromkeys(findings)]


def _evaluation(run, evaluation, method, name, samples):
    """The method's parts and the chosen images of one set, with the settings of an evaluation."""
    record, root = run.records[evaluation, method], root_of(run.folder)
    settings = record["settings"]
    file = "id_test.npz" if name == "id" else f"{name}.npz"
    paths = [root / path for path in record["inputs"]]
    image_set = evaluated(load_sets([path for path in paths if path.name == file], settings), settings)[name]
    image_set = image_set.chosen(np.isin(image_set.ids, list(samples)))
    device = prepare_torch(settings | {"device": "auto"})
    parts = components_to_evaluate([path for path in paths if path.suffix == ".safetensors"], settings, device)
    return Evaluation(method, parts, {name: image_set}, settings, device)


def _clean_findings(run, method, name, samples):
    """Findings where clean scores, computed again with the recorded noise, are not the recorded ones."""
    again = clean(_evaluation(run, "clean", method, name, samples))
    frame = run.frames["clean", method]
    both = frame[frame["set"] == name].merge(again[["sample", "score"]], on="sample", suffixes=("", "_again"))
    off = (both["score"] - both["score_again"]).abs() > ROUNDING * both["score"].abs().clip(lower=1)
    file = f"evidence/clean/{method}.parquet"
    return rows_where(file, both, off, ["set", "sample", "score", "score_again"], "another clean score")


def _bound_findings(run, method, name, samples, sigma):
    """Findings where bounds, computed again with the recorded noise, are not the recorded ones."""
    settings = run.records["certify_l2", method]["settings"]
    if settings["sampling"] != "fixed":
        return []
    evaluation = _evaluation(run, "certify_l2", method, name, samples)
    with evaluation.network(smoothed_network, sigma) as network:
        again = certify(
            evaluation.detector(network),
            evaluation.images(name),
            sigma,
            settings["radii"],
            **{key: settings[key] for key in ("n", "alpha", "seed", "batch_size")},
            precision=settings.get("precision", "float32"),
            bounds=bounds_of(settings["method_spec"], settings["bounds"]),
            ids=evaluation.sets[name].ids,
            name=f"certify/{name}",
        )
    key, values = ["sample", "bound", "radius"], ["estimate", "lower", "upper"]
    frame = run.frames["certify_l2", method].query("set == @name and sigma == @sigma").reset_index(names="row")
    both = again.rename(columns={"image": "sample"})[key + values].merge(frame, on=key, suffixes=("_again", ""))
    both = both.set_index("row")
    recorded, computed = (both[[f"{one}{suffix}" for one in values]].to_numpy() for suffix in ("", "_again"))
    off = ~np.isclose(recorded, computed, rtol=AGAIN, atol=AGAIN).all(axis=1)
    shown = [*key, *values, *(f"{one}_again" for one in values)]
    return rows_where(f"evidence/certify_l2/{method}.parquet", both, off, shown, "other bounds than of the same draws")


def _draws(run, method, name, samples, sigma, n, seed):
    """Sample id -> n fresh draws [n] of the smoothed score, as certify_l2 takes them."""
    evaluation = _evaluation(run, "certify_l2", method, name, samples)
    ids, precision = evaluation.sets[name].ids, evaluation.settings.get("precision", "float32")
    with evaluation.network(smoothed_network, sigma) as network, prepared([network], evaluation.device, precision):
        detectors = {method: evaluation.detector(network)}
        drawn = sample(
            lambda batch: marked_scores(detectors, batch, precision),
            evaluation.images(name),
            ids,
            f"spot check/{name}",
            sigma=sigma,
            looks=[n],
            refuse=lambda scores: refuse_scores(detectors, scores),
            precision=precision,
            seed=seed,
            batch_size=evaluation.settings["batch_size"],
        )
        return {int(ids[position]): draws[:, 0] for position, draws in drawn}


def _row_p_value(rows, draws, config):
    """The least p-value of what one row recorded, times their number."""
    settings = config["evaluation"]["certify_l2"]
    levels = dict(zip(*alpha_spending_schedule(settings["sampling"], settings["n"], settings["alpha"]), strict=True))
    percentile, others = rows[rows["bound"] == "percentile"].assign(image=0), rows[rows["bound"] != "percentile"]
    known = order_statistics(percentile, len(draws), rows["sigma"].iloc[0], levels[len(draws)])
    found = [rank_p_value(value, rank, draws) for rank, value in zip(known["rank"], known["value"], strict=True)]
    found += [mean_p_value(others["estimate"].iloc[0], draws)] if len(others) else []
    return min(1.0, len(found) * min(found))


def _contradictions(rows, draws):
    """Bound -> whether its interval at radius 0 lies outside that of the fresh draws."""
    found = {}
    for row in rows[rows["radius"] == 0].itertuples():
        if row.bound == "percentile":
            low, high = (side[0] for side in percentile_bounds(np.sort(draws), row.sigma, [0.0], SURE / 2))
        else:
            low, high = betting_bounds(draws, SURE / 2)
        found[row.bound] = int(row.upper < low - ROUNDING or row.lower > high + ROUNDING)
    return found
