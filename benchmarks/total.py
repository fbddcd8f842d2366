"""How long the complete l2 certificate table of a profile takes, by a straightforward loop and by oodcert.

`python benchmarks/total.py` on a finished run: all methods, all sets, all radii, all noise levels. Two tables: of the
methods as the profile composes them, and of all of them behind the denoiser. In steps: the loop of Cohen et al. (2019),
a method and an image at a time; the workflow's certify_l2 for a method at a time, in batches across images, of networks
as the workflow prepares them (batch norms folded, layout); for all methods that stand behind the denoiser at once; and
that with adaptive sampling.
"""

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from time import perf_counter, process_time

import pandas as pd
import torch
from oodcert.evaluations.l2 import certify_l2

from common import compared, evenly_spaced, finish, load_run, parser, run_script, show, started
from oodcert import Detector
from oodcert.certification.monte_carlo import default_batch_size
from oodcert.certification.smoothing_bounds import score_bounds
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.config.method_specs import bounds_of
from oodcert.evaluations.base import Evaluation
from oodcert.execution.jobs import to_evaluate
from oodcert.models.composition import smoothed_network
from oodcert.statistics.metrics import tpr_threshold

BOUNDS = ("percentile", "cdf", "gaussian", "lipschitz")
TABLES = ("as composed", "all denoised")
STEPS = ("straightforward", "one at a time", "all at once", "adaptive")
DECISION = ["method", "bound", "sigma", "set", "sample", "radius"]


def main(argv=None):
    """Makes the tables in all steps, prints what they took and writes the json file."""
    arguments = parser(__doc__.splitlines()[0], images=8, out="results/benchmarks/total.json")
    add = arguments.add_argument
    add(
        "--fixed-images",
        type=POSITIVE_INT,
        metavar="N",
        help="of every set, in steps of fixed sampling, whose time, proportional to them, is scaled to --images",
    )
    add("--bounds", nargs="+", choices=BOUNDS, default=["percentile"], help="where a score admits them")
    add("--tables", nargs="+", choices=TABLES, default=TABLES, metavar="TABLE", help="those that are made")
    add("--loop-batch", type=POSITIVE_INT, default=128, help="of the loop; 128 is what the paper's code has")
    options = arguments.parse_args(argv)
    run = load_run(options.config, options.directory, options.images, methods=None)
    certificate = {key: run.config["evaluation"]["certify_l2"][key] for key in ("sigmas", "radii", "alpha")}
    settings = {"profile": run.config["profile"], "fixed_images": options.fixed_images, "bounds": options.bounds}
    provenance = started(options, run.inputs, loop_batch=options.loop_batch, **settings, **certificate)

    found = {"total": [], "steps": [], "draws": [], "agreement": []}
    for table in options.tables:
        measured = total(run, compositions(run.config["methods"], table), options)
        for frames, frame in zip(found.values(), measured, strict=True):
            frames.append(frame.assign(table=table))
    found = {name: in_front(pd.concat(frames), "table") for name, frames in found.items()}
    sigmas = ", ".join(map(str, certificate["sigmas"]))
    title = f"{len(run.sets)} sets of {options.images} images, sigma {sigmas}, {', '.join(options.bounds)}"
    decimals = {"seconds": 1, "cpu_seconds": 1, "network_seconds": 1, "factor": 2, "factor_so_far": 2}
    show(title, found["total"], decimals)
    show("By sigma", found["steps"], decimals)
    title = "Draws an image of adaptive sampling: of a pass, and what a method needs by itself"
    show(title, found["draws"], {"pass": 0, "method": 0})
    title = "Certified decisions (method x bound x sigma x image x radius) of one step against those of another"
    show(title, found["agreement"], {})
    finish(provenance, options, __file__, argv, **found)


def in_front(frame, column):
    return frame[[column, *frame.columns.drop(column)]]


def compositions(methods, table):
    """name -> method_spec of a table: the profile's own, or each different one that is left with the denoiser."""
    if table == "as composed":
        return methods
    found = {}
    for name, method_spec in methods.items():
        denoised = {**method_spec, "denoiser": True}
        if denoised not in found.values():
            found[name] = denoised
    return found


def total(run, methods, options):
    """What the steps take, for all sigmas and for each, the draws of the adaptive one, and how decisions agree.

    methods: name -> method_spec. network_seconds: within the parts. factor: over the step before. Steps of fixed
    sampling are made on fixed_images of every set, and their counts and seconds scaled; decisions are those of these
    images.
    """
    few, sigmas = options.fixed_images or options.images, run.config["evaluation"]["certify_l2"]["sigmas"]
    fewer = {name: evenly_spaced(image_set, few) for name, image_set in run.sets.items()}
    share = sum(map(len, run.sets.values())) / sum(map(len, fewer.values()))
    shape = run.config["data"]["image_shape"]
    evaluated = {name: to_evaluate(deepcopy(part), shape, "cpu") for name, part in run.parts.items()}
    rows, made = [], {}
    for step in STEPS:
        own = replace(
            run,
            parts=run.parts if step == "straightforward" else evaluated,
            sets=run.sets if step == "adaptive" else fewer,
        )
        tables, scale = [], 1 if step == "adaptive" else share
        for sigma in sigmas:
            with counted(own.parts) as (calls, within):
                begun = perf_counter(), process_time()
                tables.append(tabulate(step, methods, sigma, own, options))
                seconds = {"seconds": perf_counter() - begun[0], "cpu_seconds": process_time() - begun[1]}
            passes = {"denoiser_calls": calls.pop("denoiser"), "other_calls": sum(calls.values())}
            counts = {**seconds, "network_seconds": sum(within.values()), **passes}
            scaled = {key: scale * count for key, count in counts.items()}
            rows.append({"sigma": sigma, "step": step, "methods": len(methods), **scaled})
        made[step] = pd.concat(tables)
    draws = drawn(made["adaptive"], groups(methods, options.bounds))
    if share > 1:
        again = replace(run, parts=evaluated, sets=fewer)
        made["adaptive"] = pd.concat(tabulate("adaptive", methods, sigma, again, options) for sigma in sigmas)

    steps = pd.DataFrame(rows)
    totals = steps.drop(columns=["sigma", "methods"]).groupby("step", sort=False).sum().reset_index()
    totals.insert(1, "methods", len(methods))
    totals["factor"] = totals["seconds"].shift() / totals["seconds"]
    totals["factor_so_far"] = totals["seconds"].iloc[0] / totals["seconds"]
    decided = {step: decisions(table) for step, table in made.items()}
    pairs = [("straightforward", step) for step in STEPS[1:]] + [("all at once", "adaptive")]
    agreement = [{"before": one, "after": other, **compared(decided[one], decided[other])} for one, other in pairs]
    return totals, steps, draws, pd.DataFrame(agreement)


def groups(methods, bounds):
    """(names, bounds) of the methods that share a pass: those behind the denoiser with the same bounds."""
    found = {}
    for name, method_spec in methods.items():
        own = tuple(bounds_of(method_spec, bounds))
        if own:
            found.setdefault((None if method_spec["denoiser"] else name, own), []).append(name)
    return [(names, list(own)) for (_, own), names in found.items()]


def tabulate(step, methods, sigma, run, options):
    """The evidence of certify_l2 by one step at one sigma; of the loop, the columns of DECISION, lower and upper."""
    certificate = {**run.config["evaluation"]["certify_l2"], "sigmas": [sigma], "n": options.n}
    if step == "straightforward":
        return loop_table(methods, sigma, run, options, certificate["radii"], certificate["alpha"])
    data = {key: run.config["data"][key] for key in ("num_classes", "test_images")}
    common = {"seed": run.config["seed"], "batch_size": default_batch_size(run.config["data"]["image_shape"], "cpu")}
    settings = {**certificate, **data, **common, "sampling": "adaptive" if step == "adaptive" else "fixed"}
    shared = groups(methods, options.bounds)
    if step == "one at a time":
        shared = [([name], bounds) for names, bounds in shared for name in names]
    found = []
    for names, bounds in shared:
        own = {name: {**settings, "bounds": bounds, "method_spec": methods[name]} for name in names}
        found.append(certify_l2(*(Evaluation(name, run.parts, run.sets, one) for name, one in own.items())))
    return pd.concat(found)


def loop_table(methods, sigma, run, options, radii, alpha):
    """The table by the straightforward loop: every method and image on its own."""
    rows, classes = [], run.config["data"]["num_classes"]
    for method, method_spec in methods.items():
        detector = Detector(smoothed_network(method_spec, run.parts, sigma, classes), method_spec["score"])
        bounds = bounds_of(method_spec, options.bounds)
        for name, image_set in run.sets.items():
            own = [0.0] if name == "id" else radii
            for sample, pixels in zip(image_set.ids, run.images(name), strict=True):
                draws = loop_scores(detector.raw_score, pixels, sigma, options.n, options.loop_batch)
                for bound, (_, lower, upper) in score_bounds(bounds, draws, sigma, own, alpha).items():
                    where = {"method": method, "bound": bound, "sigma": sigma, "set": name, "sample": sample}
                    rows.append(pd.DataFrame({"radius": own, "lower": lower, "upper": upper}).assign(**where))
    return pd.concat(rows)


def loop_scores(score, image, sigma, n, batch_size, noise=torch.randn_like):
    """Scores [n] of noisy copies of an image [C, H, W], in the manner of Cohen et al. (2019).

    score: images [B, C, H, W] to [B]; noise: standard normal draws like a tensor.
    """
    scores = []
    with torch.no_grad():
        for first in range(0, n, batch_size):
            copies = image.repeat(min(batch_size, n - first), 1, 1, 1)
            scores.append(score(copies + sigma * noise(copies)).cpu())
    return torch.cat(scores).double().numpy()


def decisions(table):
    """Whether each OOD image is certified below its ID threshold, by the columns of DECISION."""
    inside, keys = table[(table["set"] == "id") & (table["radius"] == 0)], ["method", "bound", "sigma"]
    reached = inside.groupby(keys)["lower"].agg(tpr_threshold).rename("threshold").reset_index()
    outside = table[table["set"] != "id"].merge(reached, on=keys)
    certified = outside["upper"] < outside["threshold"]
    return certified.set_axis(pd.MultiIndex.from_frame(outside[DECISION])).sort_index()


def drawn(table, shared):
    """Mean draws an image, by methods that share a pass and ID or OOD: of the pass, and of a method by itself."""
    group = {name: ", ".join(names) for names, _ in shared for name in names}
    table = table.assign(methods=table["method"].map(group), side=table["set"].eq("id").map({True: "ID", False: "OOD"}))
    image = table.groupby(["methods", "side", "sigma", "set", "sample", "method"])["n"].first()
    means = image.groupby(level=[0, 1, 2, 3, 4]).agg(["max", "mean"]).groupby(level=[0, 1], sort=False).mean()
    return means.set_axis(["pass", "method"], axis=1).reset_index()


@contextmanager
def counted(parts):
    """Within it, name -> images that went through each part, the padding of batches included, and -> its seconds."""
    calls, seconds = dict.fromkeys(parts, 0), dict.fromkeys(parts, 0.0)

    def start(name):
        def begin(_, inputs):
            calls[name] += len(inputs[0])
            seconds[name] -= perf_counter()

        return begin

    def stop(name):
        def end(_, __, ___):
            seconds[name] += perf_counter()

        return end

    with ExitStack() as stack:
        for name, part in parts.items():
            stack.callback(part.register_forward_pre_hook(start(name)).remove)
            stack.callback(part.register_forward_hook(stop(name)).remove)
        yield calls, seconds


if __name__ == "__main__":
    run_script(main)
