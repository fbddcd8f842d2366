"""How long the complete l2 certificate table of a profile takes, by a straightforward loop and by oodcert.

`python benchmarks/total.py` on a finished run: all methods, all sets, all radii, all noise levels. Two tables: of the
methods as the profile composes them, and of all of them behind the denoiser. In steps: the loop of Cohen et al. (2019),
a method and an image at a time; the workflow's certify_l2 for a method at a time, in batches across images, of networks
as the workflow prepares them (batch norms folded, layout); for all methods that stand behind the denoiser at once; and
that with adaptive sampling.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from common import Run, compared, counted, evenly_spaced, finish, load_run, parser, run_script, show, started
from oodcert import Detector
from oodcert.certification.monte_carlo import default_batch_size
from oodcert.certification.smoothing_bounds import score_bounds
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.config.method_specs import MethodSpec
from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.certify_l2 import certify_l2
from oodcert.evaluations.certify_l2 import settings as certify_l2_settings
from oodcert.models.composition import smoothed_network
from oodcert.models.inference_form import folded, laid_out
from oodcert.statistics.metrics import tpr_threshold

BOUNDS = ("percentile", "cdf", "gaussian", "lipschitz")
TABLES = ("as composed", "all denoised")
STEPS = ("straightforward", "one at a time", "all at once", "adaptive")
DECISION = ["method", "bound", "sigma", "set", "sample", "radius"]
Group = tuple[list[str], list[str]]  # names of methods, and the bounds that they admit


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the tables in all steps, prints what they took and writes the json file."""
    arguments = parser(__doc__, images=8, out="results/benchmarks/total.json")
    add = arguments.add_argument
    add(
        "--fixed-images",
        type=POSITIVE_INT,
        metavar="N",
        help="of every set, in steps of fixed sampling, whose time, proportional to them, is scaled to --images",
    )
    add("--bounds", nargs="+", choices=BOUNDS, default=["percentile"], help="where a score admits them")
    add("--tables", nargs="+", choices=TABLES, default=TABLES, metavar="TABLE", help="those that are made")
    add("--loop-batch", type=POSITIVE_INT, default=128, help="of the loop; 128 is what the authors' code has")
    options = arguments.parse_args(argv)
    run = load_run(options.config, options.directory, options.images, methods=None)
    certify = run.config.evaluation.certify_l2
    certificate = {"sigmas": certify.sigmas, "radii": certify.radii, "alpha": certify.alpha}
    settings = {"profile": run.config.profile, "fixed_images": options.fixed_images, "bounds": options.bounds}
    provenance = started(options, run.inputs, loop_batch=options.loop_batch, **settings, **certificate)

    measured: dict[str, list[pd.DataFrame]] = {"total": [], "steps": [], "draws": [], "agreement": []}
    for table in options.tables:
        methods = specs_of(run.config.methods, table)
        compared_steps = total(replace(run, config=run.config.changed(methods=methods)), options)
        for frames, frame in zip(measured.values(), compared_steps, strict=True):
            frames.append(frame.assign(table=table))
    tables = {name: in_front(pd.concat(frames), "table") for name, frames in measured.items()}
    sigmas = ", ".join(map(str, certify.sigmas))
    title = f"{len(run.sets)} sets of {options.images} images, sigma {sigmas}, {', '.join(options.bounds)}"
    decimals = {"seconds": 1, "cpu_seconds": 1, "network_seconds": 1, "factor": 2, "factor_so_far": 2}
    show(title, tables["total"], decimals)
    show("By sigma", tables["steps"], decimals)
    title = "Draws an image of adaptive sampling: of a pass, and what a method needs by itself"
    show(title, tables["draws"], {"pass": 0, "method": 0})
    title = "Certified decisions (method x bound x sigma x image x radius) of one step against those of another"
    show(title, tables["agreement"], {})
    finish(provenance, options, __file__, argv, **tables)


def in_front(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The same table with this column first."""
    return frame[[column, *frame.columns.drop(column)]]


def specs_of(methods: Mapping[str, MethodSpec], table: str) -> dict[str, MethodSpec]:
    """The methods of a table: the profile's own, or each different one that is left behind the denoiser."""
    if table == "as composed":
        return dict(methods)
    specs: dict[str, MethodSpec] = {}
    for name, spec in methods.items():
        denoised = replace(spec, denoiser=True)
        if denoised not in specs.values():
            specs[name] = denoised
    return specs


def total(run: Run, options: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What the steps take, for all sigmas and for each; the draws of the adaptive one; and how decisions agree.

    network_seconds: within the components. factor: over the step before. Steps of fixed sampling are made on
    fixed_images of every set, and their counts and seconds scaled; decisions are those of these images.
    """
    few = options.fixed_images or options.images
    fewer = {name: evenly_spaced(image_set, few) for name, image_set in run.sets.items()}
    share = sum(map(len, run.sets.values())) / sum(map(len, fewer.values()))
    shape = run.config.data.image_shape
    prepared = {name: laid_out(folded(deepcopy(one)), shape) for name, one in run.components.items()}
    rows: list[dict[str, Any]] = []
    evidence: dict[str, pd.DataFrame] = {}
    for step in STEPS:
        step_run = replace(
            run,
            components=run.components if step == "straightforward" else prepared,
            sets=run.sets if step == "adaptive" else fewer,
        )
        evidence[step], measured = timed_step(step, step_run, options, 1 if step == "adaptive" else share)
        rows += measured
    draws = mean_draws(evidence["adaptive"], groups(run.config.methods, options.bounds))
    if share > 1:
        again = replace(run, components=prepared, sets=fewer)
        sigmas = run.config.evaluation.certify_l2.sigmas
        evidence["adaptive"] = pd.concat(certified("adaptive", sigma, again, options) for sigma in sigmas)

    steps = pd.DataFrame(rows)
    totals = steps.drop(columns=["sigma", "methods"]).groupby("step", sort=False).sum().reset_index()
    totals.insert(1, "methods", len(run.config.methods))
    totals["factor"] = totals["seconds"].shift() / totals["seconds"]
    totals["factor_so_far"] = totals["seconds"].iloc[0] / totals["seconds"]
    decided = {step: decisions(table) for step, table in evidence.items()}
    pairs = [("straightforward", step) for step in STEPS[1:]] + [("all at once", "adaptive")]
    agreement = [{"before": one, "after": other, **compared(decided[one], decided[other])} for one, other in pairs]
    return totals, steps, draws, pd.DataFrame(agreement)


def timed_step(
    step: str, run: Run, options: argparse.Namespace, scale: float
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The evidence of a step, and a row per sigma: seconds and passes, times `scale`."""
    tables, rows = [], []
    for sigma in run.config.evaluation.certify_l2.sigmas:
        with counted(run.components) as passes:
            begun = perf_counter(), process_time()
            tables.append(certified(step, sigma, run, options))
            seconds = {"seconds": perf_counter() - begun[0], "cpu_seconds": process_time() - begun[1]}
        denoised, images = passes["denoiser"].images, sum(one.images for one in passes.values())
        counts = {
            **seconds,
            "network_seconds": sum(one.seconds for one in passes.values()),
            "denoiser_calls": denoised,
            "other_calls": images - denoised,
        }
        scaled = {key: scale * count for key, count in counts.items()}
        rows.append({"sigma": sigma, "step": step, "methods": len(run.config.methods), **scaled})
    return pd.concat(tables), rows


def groups(methods: Mapping[str, MethodSpec], bounds: Sequence[str]) -> list[Group]:
    """The methods that share a pass: those behind the denoiser that admit the same bounds."""
    shared: dict[tuple[str | None, tuple[str, ...]], list[str]] = {}
    for name, spec in methods.items():
        admitted = tuple(spec.admitted_bounds(bounds))
        if admitted:
            shared.setdefault((None if spec.denoiser else name, admitted), []).append(name)
    return [(names, list(admitted)) for (_, admitted), names in shared.items()]


def certified(step: str, sigma: float, run: Run, options: argparse.Namespace) -> pd.DataFrame:
    """The evidence of certify_l2 by one step at one sigma; of the loop, the columns of DECISION, lower and upper."""
    if step == "straightforward":
        return loop_table(sigma, run, options)
    shared = groups(run.config.methods, options.bounds)
    if step == "one at a time":
        shared = [([name], bounds) for names, bounds in shared for name in names]
    changes = {
        "sigmas": (sigma,),
        "n": options.n,
        "batch_size": default_batch_size(run.config.data.image_shape, "cpu"),
        "sampling": "adaptive" if step == "adaptive" else "fixed",
    }
    tables = []
    for names, bounds in shared:
        jobs = {name: certify_l2_settings(run.config, name).changed(bounds=tuple(bounds), **changes) for name in names}
        tables.append(certify_l2(*(Evaluation(name, run.components, run.sets, job) for name, job in jobs.items())))
    return pd.concat(tables)


def loop_table(sigma: float, run: Run, options: argparse.Namespace) -> pd.DataFrame:
    """The table by the straightforward loop: every method and image on its own."""
    rows, certify, classes = [], run.config.evaluation.certify_l2, run.config.data.num_classes
    for method, spec in run.config.methods.items():
        detector = Detector(smoothed_network(spec, run.components, sigma, classes), spec.score)
        bounds = spec.admitted_bounds(options.bounds)
        for name, image_set in run.sets.items():
            radii = [0.0] if name == "id" else list(certify.radii)
            for sample, pixels in zip(image_set.ids, run.images(name), strict=True):
                draws = loop_scores(detector.raw_score, pixels, sigma, options.n, options.loop_batch)
                for bound, (_, lower, upper) in score_bounds(bounds, draws, sigma, radii, certify.alpha).items():
                    where = {"method": method, "bound": bound, "sigma": sigma, "set": name, "sample": sample}
                    rows.append(pd.DataFrame({"radius": radii, "lower": lower, "upper": upper}).assign(**where))
    return pd.concat(rows)


def loop_scores(
    score: Callable[[Tensor], Tensor],
    image: Tensor,
    sigma: float,
    n: int,
    batch_size: int,
    noise: Callable[[Tensor], Tensor] = torch.randn_like,
) -> np.ndarray:
    """Scores [n] of noisy copies of an image [C, H, W], in the manner of Cohen et al. (2019).

    Args:
        score: images [B, C, H, W] to [B].
        image: in [0, 1].
        sigma: of the noise.
        n: noisy copies.
        batch_size: of a pass.
        noise: standard normal draws like a tensor.
    """
    scores = []
    with torch.no_grad():
        for first in range(0, n, batch_size):
            copies = image.repeat(min(batch_size, n - first), 1, 1, 1)
            scores.append(score(copies + sigma * noise(copies)).cpu())
    return torch.cat(scores).double().numpy()


def decisions(table: pd.DataFrame) -> pd.Series:
    """Whether each OOD image is certified below its ID threshold, by the columns of DECISION."""
    id_rows, keys = table[(table["set"] == "id") & (table["radius"] == 0)], ["method", "bound", "sigma"]
    reached = id_rows.groupby(keys)["lower"].agg(tpr_threshold).rename("threshold").reset_index()
    ood_rows = table[table["set"] != "id"].merge(reached, on=keys)
    below = ood_rows["upper"] < ood_rows["threshold"]
    return below.set_axis(pd.MultiIndex.from_frame(ood_rows[DECISION])).sort_index()


def mean_draws(table: pd.DataFrame, shared: Sequence[Group]) -> pd.DataFrame:
    """Mean draws an image, by methods that share a pass and ID or OOD: of the pass, and of a method by itself."""
    group = {name: ", ".join(names) for names, _ in shared for name in names}
    table = table.assign(methods=table["method"].map(group), side=table["set"].eq("id").map({True: "ID", False: "OOD"}))
    image = table.groupby(["methods", "side", "sigma", "set", "sample", "method"])["n"].first()
    means = image.groupby(level=[0, 1, 2, 3, 4]).agg(["max", "mean"]).groupby(level=[0, 1], sort=False).mean()
    return means.set_axis(["pass", "method"], axis=1).reset_index()


if __name__ == "__main__":
    run_script(main)
