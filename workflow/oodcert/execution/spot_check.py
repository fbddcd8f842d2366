"""Random rows of a run certified anew from the weights, with its own noise and with fresh noise."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom, binom

from oodcert.audit.bounds import error_levels, order_statistics
from oodcert.audit.findings import Finding, Result, rows_where
from oodcert.audit.layout import inputs_of
from oodcert.audit.run import Run, checksum
from oodcert.certification.certify import certify, marked_scores, refuse_scores
from oodcert.certification.mean_intervals import betting_bounds
from oodcert.certification.monte_carlo import sample
from oodcert.certification.precision import prepared
from oodcert.certification.smoothing_bounds import percentile_bounds
from oodcert.config.models import CertifyL2Settings
from oodcert.errors import InputError
from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evidence.manifest import root_of
from oodcert.evidence.order_checks import ROUNDING
from oodcert.execution.jobs import components_to_evaluate, evaluated_images, load_sets, prepare_job
from oodcert.models.composition import smoothed_network
from oodcert.runtime.keyed_noise import derive_seed
from oodcert.runtime.torch_setup import device_name

LEVEL = 1e-3  # probability of calling anything in an honest run wrong
AGAIN = 1e-4  # what float rounding may change of a bound: its formula can magnify that of the scores
SURE = 1e-7  # error probability of the fresh bounds that recorded ones are compared with
REMEDY = "evidence and weights do not belong together: run again, and compare"
RECOMPUTED = ("clean", "certify_l2")
ROW = ["method", "set", "sample", "sigma", "n"]


@dataclass(frozen=True)
class Group:
    """Chosen rows of one method, image set, sigma and number of draws."""

    method: str
    image_set: str
    sigma: float
    n: int
    samples: list[int]


@dataclass(frozen=True)
class Hypothesis:
    """That the evidence at one place of a file is what fresh draws give, and its p-value."""

    file: str
    where: str
    p_value: float


def spot_check(run: Run, count: int, seed: int | None = None, trust: bool = False) -> Result:
    """Certifies random rows of certify_l2 anew: a method, image and sigma each.

    With the recorded noise every bound must be the recorded one up to AGAIN. This is not compared where sampling was
    adaptive, for its end depends on all images. Clean scores of the same images, computed again with the recorded
    noise, must be the recorded ones up to ROUNDING. Evidence of a CPU is computed again on a CPU. That of a GPU is
    compared on a GPU of the same model alone, since others round otherwise. Elsewhere it is listed as unchecked.

    With fresh noise each row gets as many draws as it had. The hypothesis is that both are draws of one distribution.
    Then the number of fresh draws below a recorded order statistic is beta-binomial (rank_p_value), and the means
    differ by no more than mean_p_value allows. A row's p-value is the least of these, times their number. The intervals
    recorded at radius 0 contradict the fresh draws as often as their alpha explains. Holm's procedure over all these
    hypotheses at LEVEL gives the findings.

    Where sampling was adaptive the numbers of draws depend on the draws, and the p-values hold approximately.

    Args:
        run: a finished run, with its weights and image sets.
        count: how many rows.
        seed: of rows and noise. By default it is random, so that nobody can foresee it; the details name it.
        trust: whether to import and run user-supplied networks, MODULE:NAME, that the run names. That is any code.

    Returns:
        A Result: `compared` is the number of rows, `details` hold the seed and all p-values.

    Raises:
        InputError: if there are no rows, or if the run has user-supplied networks and `trust` is false.
    """
    source = secrets.randbits(32) if seed is None else seed
    chosen = _choose(run, count, np.random.default_rng(derive_seed(source, "spot check")))
    methods = chosen["method"].unique()
    for method in methods if not trust else ():
        _refuse_code(run, method)
    findings = [finding for method in methods for finding in _other_inputs(run, method)]
    if findings:
        return Result("spot check", 0, findings)
    settings = run.config.evaluation.certify_l2
    hypotheses: list[Hypothesis] = []
    contradicted: Counter[str] = Counter()
    unchecked: list[str] = []
    for group in _groups(chosen):
        for name, compare in (("clean", _clean_findings), ("certify_l2", _bound_findings)):
            recorded, here = _devices(run, name, group.method)
            if recorded == here:
                findings += compare(run, group)
            else:
                unchecked.append(
                    f"{name} of {group.method} with the recorded noise, for it is of {recorded}, not {here}"
                )
        for one, draws in _fresh_draws(run, group, derive_seed(source, "fresh noise")).items():
            rows = _rows(run, group)
            rows = rows[rows["sample"] == one]
            where = f"set = {group.image_set}, sample = {one}, sigma = {group.sigma}"
            p_value = _row_p_value(rows, draws, settings)
            hypotheses.append(Hypothesis(f"evidence/certify_l2/{group.method}.parquet", where, p_value))
            contradicted.update(_contradictions(rows, draws))
    for bound, broken in contradicted.items():
        where = f"{bound} bounds at radius 0, {broken} of {len(chosen)} contradicted"
        p_value = float(binom.sf(broken - 1, len(chosen), 2 * settings.alpha + SURE))
        hypotheses.append(Hypothesis("evidence/certify_l2", where, p_value))
    findings += _rejected(hypotheses)
    details = [f"seed = {source}", *(f"{one.file}, {one.where}: p = {one.p_value:.3g}" for one in hypotheses)]
    adaptive = settings.sampling == "adaptive"
    unchecked += ["bounds with the recorded noise, for sampling was adaptive"] if adaptive else []
    return Result("spot check", len(chosen), findings, [*dict.fromkeys(unchecked)], details)


def mean_p_value(recorded: float, draws: NDArray[np.floating]) -> float:
    """The p-value of the hypothesis that `recorded` is the mean of as many draws as `draws`, of the same distribution.

    It is twice the lesser of two, with n draws and a difference t of the means. First, the difference is above t with
    probability 2 exp(-n t²) at most (Hoeffding). Second, with s the standard deviation of the draws, that of the
    distribution is above s + sqrt(2 L / (n - 1)) with probability exp(-L) at most (Maurer and Pontil, Theorem 10). Then
    by Bernstein's inequality each mean is off by more than that times sqrt(2 L / n), plus L / 3n, with probability
    2 exp(-L) at most. Together that is 5 exp(-L).

    Args:
        recorded: a mean in [0, 1].
        draws: [n], independent draws in [0, 1].

    Returns:
        A p-value in [0, 1]; it may be larger than the exact one.

    Source: Hoeffding (1963), https://doi.org/10.1080/01621459.1963.10500830; Maurer and Pontil (2009),
        https://arxiv.org/abs/0907.3740
    """
    n, gap = len(draws), abs(recorded - draws.mean())
    linear = 4 / np.sqrt(n * (n - 1)) + 2 / (3 * n)
    root = 2 * draws.std(ddof=1) * np.sqrt(2 / n)
    bernstein = 5 * np.exp(-(((np.sqrt(root**2 + 4 * linear * gap) - root) / (2 * linear)) ** 2))
    return float(min(1, 2 * bernstein, 4 * np.exp(-n * gap**2)))


def rank_p_value(value: float, rank: int, draws: NDArray[np.floating]) -> float:
    """The p-value of the hypothesis that `value` is the rank-th smallest of as many draws, of the same distribution.

    The number of fresh draws below it is BetaBinomial(n, rank, n - rank + 1). Ties, up to ROUNDING, favour it.

    Args:
        value: the recorded order statistic.
        rank: its rank, 1 to n.
        draws: [n], independent draws.

    Returns:
        The p-value in [0, 1].
    """
    n, near = len(draws), ROUNDING * max(1, abs(value))
    law = betabinom(n, rank, n - rank + 1)
    below, reached = (draws < value - near).sum(), (draws <= value + near).sum()
    return float(min(1, 2 * min(law.cdf(reached), law.sf(below - 1))))


def holm(p_values: ArrayLike, level: float) -> NDArray[np.bool_]:
    """Which hypotheses Holm's procedure rejects: any true one with probability `level` at most.

    Args:
        p_values: [m], of m hypotheses.
        level: in (0, 1).

    Returns:
        A mask [m].

    Source: Holm (1979), https://www.jstor.org/stable/4615733
    """
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p_values, alpha=level, method="holm")[0])


def _choose(run: Run, count: int, generator: np.random.Generator) -> pd.DataFrame:
    """ROW of random rows, each of another image, so that their noise is independent."""
    frames = [frame[ROW] for (evaluation, _), frame in run.frames.items() if evaluation == "certify_l2"]
    if not frames:
        raise InputError("There is no intact evidence of certify_l2 to check: see the findings on files.")
    rows = pd.concat(frames).drop_duplicates()
    return rows.iloc[generator.permutation(len(rows))].drop_duplicates(["set", "sample"]).head(count)


def _groups(chosen: pd.DataFrame) -> Iterable[Group]:
    for (method, image_set, sigma, n), rows in chosen.groupby(["method", "set", "sigma", "n"]):
        yield Group(str(method), str(image_set), float(sigma), int(n), rows["sample"].tolist())


def _rows(run: Run, group: Group) -> pd.DataFrame:
    """The recorded rows of certify_l2 of the group's method, image set and sigma."""
    frame = run.frames["certify_l2", group.method]
    return frame[(frame["set"] == group.image_set) & (frame["sigma"] == group.sigma)]


def _refuse_code(run: Run, method: str) -> None:
    """Raises InputError where a network of the method is user-supplied code."""
    for evaluation in RECOMPUTED:
        for component, network in run.records[evaluation, method]["settings"]["networks"].items():
            if network.get("name") == "own":
                raise InputError(
                    f"{method} is made of {component!r}, a user-supplied network, which is code: {network['network']}. "
                    "Where you trust that module, pass --trust, and it is imported and run."
                )


def _other_inputs(run: Run, method: str) -> list[Finding]:
    """Findings on weights and image sets that are missing, or not those that the evidence was computed from."""
    findings, root = [], root_of(run.folder)
    for evaluation in RECOMPUTED:
        expected = inputs_of(run.config, evaluation, method)
        for path, recorded in run.records[evaluation, method]["inputs"].items():
            present = checksum(root / path) if path in expected else None
            if present != recorded:
                problem = f"its SHA-256 is {present}, evidence is of {recorded}" if present else "it is not there"
                problem = problem if path in expected else "by the config it is no input"
                findings.append(Finding(path, "as a whole", problem, "put the file of the run there"))
    return [*dict.fromkeys(findings)]


def _evaluation(run: Run, name: str, group: Group) -> Evaluation[Any]:
    """An evaluation, with its recorded settings, of the chosen images: those of one set."""
    record, root = run.records[name, group.method], root_of(run.folder)
    settings = _recorded_settings(run, name, group.method)
    file = "id_test.npz" if group.image_set == "id" else f"{group.image_set}.npz"
    paths = [root / path for path in record["inputs"]]
    sets = load_sets([path for path in paths if path.name == file], settings)
    image_set = evaluated_images(sets, settings)[group.image_set]
    image_set = image_set.chosen(np.isin(image_set.ids, group.samples))
    device = _prepared_device(run, name, group.method)
    weights = [path for path in paths if path.suffix == ".safetensors"]
    components = components_to_evaluate(weights, settings.networks, settings, device)
    return Evaluation(group.method, components, {group.image_set: image_set}, settings, device)


def _prepared_device(run: Run, name: str, method: str) -> str:
    """Where an evaluation is computed again: on the CPU what is of one, else on a GPU if there is one."""
    settings = _recorded_settings(run, name, method)
    of_cpu = _recorded_device(run, name, method) == "cpu"
    return prepare_job(settings.changed(device="cpu" if of_cpu else "auto"), run.config.jobs_per_gpu)


def _devices(run: Run, name: str, method: str) -> tuple[str, str]:
    """The device that an evaluation's sidecar names, and the one on which it is computed again."""
    return _recorded_device(run, name, method), device_name(_prepared_device(run, name, method))


def _recorded_device(run: Run, name: str, method: str) -> str:
    return str(run.records[name, method].get("device", "cpu"))


def _recorded_settings(run: Run, name: str, method: str) -> Any:
    """The settings of an evaluation's sidecar, of the type that the evaluation takes."""
    kind = type(EVALUATIONS[name].settings(run.config, method))
    return kind.model_validate(run.records[name, method]["settings"])


def _clean_findings(run: Run, group: Group) -> list[Finding]:
    """Findings where clean scores, computed again with the recorded noise, are not the recorded ones."""
    again = EVALUATIONS["clean"].load()(_evaluation(run, "clean", group))
    frame = run.frames["clean", group.method]
    recorded = frame[(frame["set"] == group.image_set) & frame["sample"].isin(group.samples)]
    both = recorded.merge(again[["sample", "score"]], on="sample", how="left", suffixes=("", "_again"))
    near = (both["score"] - both["score_again"]).abs() <= ROUNDING * both["score"].abs().clip(lower=1)
    off = ~near  # also where no score was computed again
    file = f"evidence/clean/{group.method}.parquet"
    return rows_where(file, both, off, ["set", "sample", "score", "score_again"], "another clean score")


def _bound_findings(run: Run, group: Group) -> list[Finding]:
    """Findings where bounds, computed again with the recorded noise, are not the recorded ones."""
    settings = _recorded_settings(run, "certify_l2", group.method)
    if settings.sampling != "fixed":
        return []
    evaluation = _evaluation(run, "certify_l2", group)
    with evaluation.network(smoothed_network, group.sigma) as network:
        again = certify(
            evaluation.detector(network),
            evaluation.images(group.image_set),
            group.sigma,
            settings.radii,
            **settings.certify_options(),
            ids=evaluation.sets[group.image_set].ids,
            name=f"certify/{group.image_set}",
        )
    key, values = ["sample", "bound", "radius"], ["estimate", "lower", "upper"]
    recorded = _rows(run, group).reset_index(names="row")
    recorded = recorded[recorded["sample"].isin(group.samples)]
    again = again.rename(columns={"image": "sample"})[key + values]
    both = again.merge(recorded, on=key, how="right", suffixes=("_again", ""))
    both = both.set_index("row")
    old, new = (both[[f"{one}{suffix}" for one in values]].to_numpy() for suffix in ("", "_again"))
    off = ~np.isclose(old, new, rtol=AGAIN, atol=AGAIN).all(axis=1)
    columns = [*key, *values, *(f"{one}_again" for one in values)]
    file = f"evidence/certify_l2/{group.method}.parquet"
    return rows_where(file, both, off, columns, "other bounds than of the same draws")


def _fresh_draws(run: Run, group: Group, seed: int) -> dict[int, NDArray[np.float64]]:
    """Sample id -> n fresh draws [n] of the smoothed score, as certify_l2 takes them."""
    evaluation = _evaluation(run, "certify_l2", group)
    ids, precision = evaluation.sets[group.image_set].ids, evaluation.settings.precision
    with (
        evaluation.network(smoothed_network, group.sigma) as network,
        prepared([network], evaluation.device, precision),
    ):
        detectors = {group.method: evaluation.detector(network)}
        drawn = sample(
            partial(marked_scores, detectors, precision=precision),
            evaluation.images(group.image_set),
            ids,
            f"spot check/{group.image_set}",
            sigma=group.sigma,
            looks=[group.n],
            refuse=partial(refuse_scores, detectors),
            precision=precision,
            seed=seed,
            batch_size=evaluation.settings.batch_size,
        )
        return {int(ids[position]): draws[:, 0] for position, draws in drawn}


def _row_p_value(rows: pd.DataFrame, draws: NDArray[np.float64], settings: CertifyL2Settings) -> float:
    """The least p-value of what one row recorded, times their number."""
    level = error_levels(settings)[len(draws)]
    percentile, others = rows[rows["bound"] == "percentile"].assign(image=0), rows[rows["bound"] != "percentile"]
    known = order_statistics(percentile, len(draws), rows["sigma"].iloc[0], level)
    p_values = [rank_p_value(value, rank, draws) for rank, value in zip(known["rank"], known["value"], strict=True)]
    p_values += [mean_p_value(others["estimate"].iloc[0], draws)] if len(others) else []
    return min(1.0, len(p_values) * min(p_values))


def _contradictions(rows: pd.DataFrame, draws: NDArray[np.float64]) -> dict[str, int]:
    """Bound -> 1 where its interval at radius 0 and that of the fresh draws do not meet, else 0."""
    contradicted = {}
    for row in rows[rows["radius"] == 0].itertuples():
        if row.bound == "percentile":
            low, high = (side[0] for side in percentile_bounds(np.sort(draws), row.sigma, [0.0], SURE / 2))
        else:
            low, high = betting_bounds(draws, SURE / 2)
        contradicted[str(row.bound)] = int(row.upper < low - ROUNDING or row.lower > high + ROUNDING)
    return contradicted


def _rejected(hypotheses: list[Hypothesis]) -> list[Finding]:
    """A Finding for each hypothesis that Holm's procedure rejects."""
    rejected = holm([one.p_value for one in hypotheses], LEVEL)
    return [
        Finding(
            one.file,
            one.where,
            f"fresh draws are this far off by chance with probability {one.p_value:.2g} at most",
            REMEDY,
        )
        for one, is_rejected in zip(hypotheses, rejected, strict=True)
        if is_rejected
    ]
