"""What a certificate costs: against the bare network, and against the straightforward loop.

`python benchmarks/certify.py` on a finished digits run (`make`). Overhead: network calls per second of oodcert.certify
and of the network alone, on batches of one shape. Total: one table of certified decisions, of several detectors behind
one denoiser, by the straightforward loop of Cohen et al. (2019) and by oodcert in three steps.
"""

from contextlib import ExitStack, contextmanager
from statistics import median
from time import perf_counter, process_time

import numpy as np
import pandas as pd
import torch
from scipy.stats import binom, norm

from common import compared, finish, load_run, parser, run_script, show, started, timings
from oodcert import DenoisedNetwork, Detector, certify
from oodcert.cli import POSITIVE_INT
from oodcert.methods import smoothed_network
from oodcert.metrics import tpr_threshold
from oodcert.networks import build_network
from oodcert.rng import normal_draws

SIGMA = 0.25  # noise, in the [0, 1] pixel scale
ALPHA = 0.01
BOUNDS = ["percentile"]
BATCH_SIZES = (256, 500)
BATCHES = 10  # of an image's draws, at most, where the overhead is measured
LOOP_BATCH = 500
STEPS = ("straightforward", "one at a time", "all at once", "adaptive")


def main(argv=None):
    """Runs both parts, prints their tables and writes the json file."""
    arguments = parser(__doc__.splitlines()[0], images=8, out="results/benchmarks/certify.json")
    arguments.add_argument("--repetitions", type=POSITIVE_INT, default=5, help="of each overhead; the median counts")
    options = arguments.parse_args(argv)
    run = load_run(options.config, options.directory, options.images)
    radii = run.config["evaluation"]["certify_l2"]["radii"]
    settings = {"repetitions": options.repetitions, "sigma": SIGMA, "radii": radii, "alpha": ALPHA, "bounds": BOUNDS}
    provenance = started(options, run.inputs, **settings)

    overheads = pd.DataFrame(
        {"network": name, **overhead(network, shape, images, min(BATCHES * size, options.n), size, options.repetitions)}
        for name, (network, shape, images) in networks(run).items()
        for size in BATCH_SIZES
    )
    decimals = {"bare_calls_per_s": 0, "certify_calls_per_s": 0, "overhead_%": 1, "noise_%": 1, "rest_%": 1}
    title = (
        "Overhead of oodcert.certify, fixed sampling, in % of the bare network's time: noise generation, and the rest"
    )
    show(title, overheads.drop(columns="seconds"), decimals)

    totals, agreement = total(run, radii, options.n)
    title = (
        f"One table: {len(detectors_of(run))} detectors, {len(run.sets)} sets of {options.images} images, sigma {SIGMA}"
    )
    show(title, totals, {"seconds": 1, "cpu_seconds": 1, "factor": 2, "factor_so_far": 2})
    show("Certified decisions (detector x image x radius) of one step against those of another", agreement, {})
    finish(provenance, options, __file__, argv, overhead=overheads, total=totals, agreement=agreement)


# overhead


def networks(run):
    """name -> (network, image shape, number of images to certify): two of the run's networks, and a larger one."""
    shape, classes = tuple(run.config["data"]["image_shape"]), run.config["data"]["num_classes"]
    torch.manual_seed(0)
    resnet = build_network({"name": "resnet", "depth": 8, "width": 16}, (3, 32, 32), 10).eval()
    small = {
        name: (smoothed_network(run.config["methods"][name], run.parts, SIGMA, classes), shape, 8)
        for name in ("plain", "distro")
    }
    return {**small, "resnet-8, 32x32": (resnet, (3, 32, 32), 1)}


def overhead(network, shape, count, n, size, repetitions):
    """Calls per second of the bare network and of certify, for `count` images with n draws each in batches of `size`.

    n is rounded up to whole batches. Noise: the time of the same draws alone. Overhead, noise and rest (the overhead
    without the noise) are in % of the bare network's time; seconds: the median of the repetitions, and all of them.
    """
    batches = -(-n // size)
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))
    batch = torch.rand(size, *shape) + SIGMA * torch.randn(size, *shape)
    detector = Detector(network)

    def bare():
        with torch.inference_mode():
            for _ in range(count * batches):
                network(batch)

    def certified():
        certify(detector, images, SIGMA, n=batches * size, alpha=ALPHA, bounds=BOUNDS, batch_size=size)

    def noise():
        for image in range(count):
            for first in range(0, batches * size, size):
                normal_draws(0, "", image, first, size, shape)

    seconds = timings({"bare": bare, "certify": certified, "noise": noise}, repetitions)
    middle = {name: median(values) for name, values in seconds.items()}
    calls = count * batches * size
    extra = middle["certify"] - middle["bare"]
    return {
        "batch": size,
        "calls": calls,
        "bare_calls_per_s": calls / middle["bare"],
        "certify_calls_per_s": calls / middle["certify"],
        "overhead_%": 100 * extra / middle["bare"],
        "noise_%": 100 * middle["noise"] / middle["bare"],
        "rest_%": 100 * (extra - middle["noise"]) / middle["bare"],
        "seconds": seconds,
    }


# total


def total(run, radii, n):
    """(a row per step: seconds, network calls, factor over the step before and over the first; how decisions agree)."""
    detectors, rows, decided = detectors_of(run), [], {}
    for step in STEPS:
        with counted(run.parts) as calls:
            begun = perf_counter(), process_time()
            table = tabulate(step, detectors, run, radii, n)
            seconds = {"seconds": perf_counter() - begun[0], "cpu_seconds": process_time() - begun[1]}
        decided[step] = decisions(table)
        denoiser = calls.pop("denoiser")
        rows.append({"step": step, **seconds, "denoiser_calls": denoiser, "other_calls": sum(calls.values())})
    totals = pd.DataFrame(rows)
    totals["factor"] = totals["seconds"].shift() / totals["seconds"]
    totals["factor_so_far"] = totals["seconds"].iloc[0] / totals["seconds"]
    pairs = [("straightforward", step) for step in STEPS[1:]] + [("all at once", "adaptive")]
    agreement = [{"before": one, "after": other, **compared(decided[one], decided[other])} for one, other in pairs]
    return totals, pd.DataFrame(agreement)


def detectors_of(run):
    """name -> Detector: the run's classifiers, and distro's joint network, all behind the one denoiser."""
    denoiser, classes = run.parts["denoiser"], run.config["data"]["num_classes"]
    found = {name: Detector(DenoisedNetwork(run.parts[name], denoiser, SIGMA)) for name in ("plain", "oe", "prood")}
    distro = smoothed_network(run.config["methods"]["distro"], run.parts, SIGMA, classes)
    return {**found, "distro": Detector(distro)}


def tabulate(step, detectors, run, radii, n):
    """The table of one step: detector, set, image, radius, lower and upper; the ID set at radius 0 alone."""
    if step == "straightforward":
        return loop_table(detectors, run, radii, n)
    if step == "one at a time":
        return pd.concat(our_table({name: one}, run, radii, n, "fixed") for name, one in detectors.items())
    return our_table(detectors, run, radii, n, "adaptive" if step == "adaptive" else "fixed")


def our_table(detectors, run, radii, n, sampling):
    """The table by oodcert; adaptive sampling settles the decisions at each detector's own ID threshold."""
    tables, against = [], None
    for name, image_set in run.sets.items():
        table = certify(
            detectors,
            run.images(name),
            SIGMA,
            [0.0] if name == "id" else radii,
            n=n,
            alpha=ALPHA,
            bounds=BOUNDS,
            batch_size=LOOP_BATCH,
            sampling=sampling,
            against=against,
            ids=image_set.ids,
            name=f"certify/{name}",
        )
        if sampling == "adaptive" and name == "id":
            against = thresholds(table, ["detector", "bound", "radius"]).reset_index()
        tables.append(table.assign(set=name))
    return pd.concat(tables)


def loop_table(detectors, run, radii, n):
    """The table by the straightforward loop: every detector and image on its own."""
    rows = []
    for detector, one in detectors.items():
        for name, image_set in run.sets.items():
            wanted = [0.0] if name == "id" else radii
            for image, pixels in zip(image_set.ids, run.images(name), strict=True):
                lower, upper = loop_bounds(one.raw_score, pixels, SIGMA, wanted, n, ALPHA, LOOP_BATCH)
                bounds = pd.DataFrame({"radius": wanted, "lower": lower, "upper": upper})
                rows.append(bounds.assign(detector=detector, set=name, image=image))
    return pd.concat(rows)


def loop_bounds(score, image, sigma, radii, n, alpha, batch_size, noise=torch.randn):
    """Percentile bounds (lower [R], upper [R]) on the median of s(x + δ), in the manner of Cohen et al. (2019).

    score: images [B, C, H, W] to [B]; image [C, H, W]; noise: standard normal draws of a shape. With probability
    ≥ 1 - alpha at most m of n draws fall below the Φ(R/sigma)-quantile, m the (1 - alpha)-quantile of a binomial, so
    the draw of rank m + 1 bounds it; the lower bound is its mirror image. Infinite where there is no such rank.
    """
    scores = []
    with torch.no_grad():
        for first in range(0, n, batch_size):
            copies = image.repeat(min(batch_size, n - first), 1, 1, 1)
            scores.append(score(copies + sigma * noise(copies.shape)))
    ascending = torch.cat(scores).double().sort().values.tolist()
    below = [int(binom.ppf(1 - alpha, n, norm.cdf(radius / sigma))) for radius in radii]
    upper = [ascending[m] if m < n else np.inf for m in below]
    lower = [ascending[n - 1 - m] if m < n else -np.inf for m in below]
    return lower, upper


def thresholds(table, by):
    """The highest threshold that 95 % of the lower bounds at radius 0 reach, for each group of columns `by`."""
    return table[table["radius"] == 0].groupby(by)["lower"].agg(lambda lower: tpr_threshold(lower.to_numpy()))


def decisions(table):
    """Whether each OOD image is certified below its detector's ID threshold, by detector, set, image and radius."""
    reached = thresholds(table[table["set"] == "id"], "detector")
    outside = table[table["set"] != "id"]
    certified = outside["upper"] < outside["detector"].map(reached)
    return certified.set_axis(pd.MultiIndex.from_frame(outside[["detector", "set", "image", "radius"]])).sort_index()


@contextmanager
def counted(parts):
    """Within it, name -> images that went through each part, the padding of batches included."""
    calls = dict.fromkeys(parts, 0)

    def counter(name):
        def count(_, inputs, __):
            calls[name] += len(inputs[0])

        return count

    with ExitStack() as stack:
        for name, part in parts.items():
            stack.callback(part.register_forward_hook(counter(name)).remove)
        yield calls


if __name__ == "__main__":
    run_script(main)
