"""How long the complete l2 certificate table of a profile takes, by a straightforward loop and by oodcert.

`python benchmarks/total.py` on a finished run: all methods, all sets, all radii, one noise level. Two tables: of the
methods as the profile composes them, and of all of them behind the denoiser. In steps: the loop of Cohen et al. (2019),
a method and an image at a time; oodcert.certify for a method at a time, in batches across images, of networks with
their batch norms folded, as in the workflow; for all methods that stand behind the denoiser at once; and that with
adaptive sampling.
"""

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from time import perf_counter, process_time

import pandas as pd
import torch

from common import compared, finish, load_run, parser, run_script, show, started
from oodcert import Detector, certify
from oodcert.certification.bounds import score_bounds
from oodcert.cli import POSITIVE_INT
from oodcert.evaluations.l2 import id_widths
from oodcert.methods import bounds_of, smoothed_network
from oodcert.metrics import tpr_threshold
from oodcert.networks.folding import folded

SIGMA = 0.25  # noise, in the [0, 1] pixel scale
BOUNDS = ("percentile", "cdf", "gaussian", "lipschitz")
TABLES = ("as composed", "all denoised")
STEPS = ("straightforward", "one at a time", "all at once", "adaptive")
DECISION = ["detector", "bound", "set", "image", "radius"]


def main(argv=None):
    """Makes the tables in all steps, prints what they took and writes the json file."""
    arguments = parser(__doc__.splitlines()[0], images=8, out="results/benchmarks/total.json")
    add = arguments.add_argument
    add("--bounds", nargs="+", choices=BOUNDS, default=["percentile"], help="where a score admits them")
    add("--tables", nargs="+", choices=TABLES, default=TABLES, metavar="TABLE", help="those that are made")
    add("--loop-batch", type=POSITIVE_INT, default=128, help="of the loop; 128 is what the paper's code has")
    options = arguments.parse_args(argv)
    run = load_run(options.config, options.directory, options.images, methods=None)
    certificate = {key: run.config["evaluation"]["certify_l2"][key] for key in ("radii", "alpha")}
    settings = {"profile": run.config["profile"], "sigma": SIGMA, **certificate, "bounds": options.bounds}
    provenance = started(options, run.inputs, loop_batch=options.loop_batch, **settings)

    found = {"total": [], "draws": [], "agreement": []}
    for table in options.tables:
        measured = total(run, compositions(run.config["methods"], table), options)
        for frames, frame in zip(found.values(), measured, strict=True):
            frames.append(frame.assign(table=table))
    found = {name: in_front(pd.concat(frames), "table") for name, frames in found.items()}
    title = f"{len(run.sets)} sets of {options.images} images, sigma {SIGMA}, {', '.join(options.bounds)}"
    decimals = {"seconds": 1, "cpu_seconds": 1, "network_seconds": 1, "factor": 2, "factor_so_far": 2}
    show(title, found["total"], decimals)
    title = "Draws an image of adaptive sampling: of a pass, and what a method needs by itself"
    show(title, found["draws"], {"pass": 0, "method": 0})
    title = "Certified decisions (method x bound x image x radius) of one step against those of another"
    show(title, found["agreement"], {})
    finish(provenance, options, __file__, argv, **found)


def in_front(frame, column):
    return frame[[column, *frame.columns.drop(column)]]


def compositions(methods, table):
    """name -> composition of a table: the profile's own, or each different one that is left with the denoiser."""
    if table == "as composed":
        return methods
    found = {}
    for name, composition in methods.items():
        denoised = {**composition, "denoiser": True}
        if denoised not in found.values():
            found[name] = denoised
    return found


def total(run, methods, options):
    """What the steps take, the draws of the adaptive one, and how decisions agree; methods: name -> composition.

    network_seconds: within the parts. factor: over the step before.
    """
    classes, rows, decided = run.config["data"]["num_classes"], [], {}
    evaluated = {name: folded(deepcopy(part)) for name, part in run.parts.items()}
    for step in STEPS:
        parts = run.parts if step == "straightforward" else evaluated
        detectors = {
            name: Detector(smoothed_network(composition, parts, SIGMA, classes), composition["score"])
            for name, composition in methods.items()
        }
        with counted(parts) as (calls, within):
            begun = perf_counter(), process_time()
            table = tabulate(step, detectors, methods, run, options)
            seconds = {"seconds": perf_counter() - begun[0], "cpu_seconds": process_time() - begun[1]}
        decided[step] = decisions(table)
        passes = {"denoiser_calls": calls.pop("denoiser"), "other_calls": sum(calls.values())}
        rows.append(
            {"step": step, "methods": len(methods), **seconds, "network_seconds": sum(within.values()), **passes}
        )
    totals = pd.DataFrame(rows)
    totals["factor"] = totals["seconds"].shift() / totals["seconds"]
    totals["factor_so_far"] = totals["seconds"].iloc[0] / totals["seconds"]
    pairs = [("straightforward", step) for step in STEPS[1:]] + [("all at once", "adaptive")]
    agreement = [{"before": one, "after": other, **compared(decided[one], decided[other])} for one, other in pairs]
    return totals, drawn(table, groups(methods, options.bounds)), pd.DataFrame(agreement)


def groups(methods, bounds):
    """(names, bounds) of the methods that share a pass: those behind the denoiser with the same bounds."""
    found = {}
    for name, composition in methods.items():
        own = tuple(bounds_of(composition, bounds))
        if own:
            found.setdefault((None if composition["denoiser"] else name, own), []).append(name)
    return [(names, list(own)) for (_, own), names in found.items()]


def tabulate(step, detectors, methods, run, options):
    """The table of one step: detector, bound, set, image, radius, lower, upper, n; of the ID set, radius 0 alone."""
    settings = {"n": options.n, "alpha": run.config["evaluation"]["certify_l2"]["alpha"]}
    if step == "straightforward":
        return loop_table(detectors, methods, run, options, **settings)
    shared = groups(methods, options.bounds)
    if step == "one at a time":
        shared = [([name], bounds) for names, bounds in shared for name in names]
    settings["sampling"] = "adaptive" if step == "adaptive" else "fixed"
    return pd.concat(
        our_table({name: detectors[name] for name in names}, run, bounds=bounds, **settings) for names, bounds in shared
    )


def our_table(detectors, run, **settings):
    """The table by oodcert; adaptive sampling settles the decisions at each detector's own ID threshold."""
    tables, against = [], None
    for name, image_set in run.sets.items():
        table = certify(
            detectors,
            run.images(name),
            SIGMA,
            radii_of(run, name),
            **settings,
            against=against,
            width=id_widths(detectors),
            ids=image_set.ids,
            name=f"certify/{name}",
        )
        if settings["sampling"] == "adaptive" and name == "id":
            against = thresholds(table, ["detector", "bound", "radius"]).reset_index()
        tables.append(table.assign(set=name))
    return pd.concat(tables)


def loop_table(detectors, methods, run, options, n, alpha):
    """The table by the straightforward loop: every detector and image on its own."""
    rows = []
    for detector, one in detectors.items():
        bounds = bounds_of(methods[detector], options.bounds)
        for name, image_set in run.sets.items():
            radii = radii_of(run, name)
            for image, pixels in zip(image_set.ids, run.images(name), strict=True):
                draws = loop_scores(one.raw_score, pixels, SIGMA, n, options.loop_batch)
                for bound, (_, lower, upper) in score_bounds(bounds, draws, SIGMA, radii, alpha).items():
                    where = {"detector": detector, "bound": bound, "set": name, "image": image, "n": n}
                    rows.append(pd.DataFrame({"radius": radii, "lower": lower, "upper": upper}).assign(**where))
    return pd.concat(rows)


def radii_of(run, name):
    return [0.0] if name == "id" else run.config["evaluation"]["certify_l2"]["radii"]


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


def thresholds(table, by):
    """The highest threshold that 95 % of the lower bounds at radius 0 reach, for each group of columns `by`."""
    return table[table["radius"] == 0].groupby(by)["lower"].agg(lambda lower: tpr_threshold(lower.to_numpy()))


def decisions(table):
    """Whether each OOD image is certified below its ID threshold, by detector, bound, set, image and radius."""
    reached = thresholds(table[table["set"] == "id"], ["detector", "bound"]).rename("threshold").reset_index()
    outside = table[table["set"] != "id"].merge(reached, on=["detector", "bound"])
    certified = outside["upper"] < outside["threshold"]
    return certified.set_axis(pd.MultiIndex.from_frame(outside[DECISION])).sort_index()


def drawn(table, shared):
    """Mean draws an image, by methods that share a pass and ID or OOD: of the pass, and of a method by itself."""
    group = {name: ", ".join(names) for names, _ in shared for name in names}
    table = table.assign(
        methods=table["detector"].map(group), side=table["set"].eq("id").map({True: "ID", False: "OOD"})
    )
    image = table.groupby(["methods", "side", "set", "image", "detector"])["n"].first().groupby(level=[0, 1, 2, 3])
    means = image.agg(["max", "mean"]).groupby(level=[0, 1], sort=False).mean()
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
