"""What a guarantee costs: certified AUC by network calls, of the smoothed and of the one-pass detector.

`python benchmarks/guarantees.py` on a finished digits run (`make`) certifies the same images several times, at the
first sigma of one_pass: the percentile bound with all draws, with fewer, and with adaptive sampling that settles each
image's share in the AUC; and the one-pass detector from 1 draw an image on. All metrics hold with 99 %, for all OOD
sets at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import pandas as pd

import oodcert
from common import Run, finish, load_run, parser, run_script, show, started
from oodcert import Detector
from oodcert.cli.arguments import POSITIVE_INT
from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.certify_l2 import settings as certify_l2_settings
from oodcert.models.composition import smoothed_network
from oodcert.statistics.metrics import guaranteed_metrics

CONFIDENCE = 0.99
METHODS = ("plain", "prood", "diffusion", "distro")


def main(argv: Sequence[str] | None = None) -> None:
    """Certifies in all ways, prints the table and writes the json file."""
    arguments = parser(__doc__, images=100, out="results/benchmarks/guarantees.json")
    add = arguments.add_argument
    add("--draws", type=POSITIVE_INT, nargs="+", default=[1, 10, 100, 800], help="an image, of the one-pass detector")
    add("--fewer", type=POSITIVE_INT, default=800, help="draws of the percentile bound, beside --n")
    add("--methods", nargs="+", default=METHODS, help="those that are certified")
    options = arguments.parse_args(argv)
    run = load_run(options.config, options.directory, options.images, options.methods)
    one_pass = run.config.evaluation.one_pass
    sigma = one_pass.sigmas[0] if one_pass else run.config.evaluation.certify_l2.sigmas[0]
    settings = {"sigma": sigma, "draws": options.draws, "fewer": options.fewer, "confidence": CONFIDENCE}
    provenance = started(options, run.inputs, methods=options.methods, **settings)
    frames = []
    with ExitStack() as stack:
        for method in run.config.methods:
            evaluation = Evaluation(method, run.components, run.sets, certify_l2_settings(run.config, method))
            detector = evaluation.detector(stack.enter_context(evaluation.network(smoothed_network, sigma)))
            for frame in certificates(run, detector, sigma, options.draws, (options.fewer, options.n)):
                frames.append(frame.assign(method=method))
    table = pd.concat(frames, ignore_index=True)
    wide = table.pivot(
        index=["method", "certificate", "calls_an_image", "passes_a_query"], columns="radius", values="auc"
    )
    show(f"Certified AUC at sigma {sigma:g}, mean over the OOD sets", wide.reset_index(), {"calls_an_image": 1})
    finish(provenance, options, __file__, argv, guarantees=table)


def certificates(
    run: Run, detector: Detector, sigma: float, draws: Sequence[int], looks: Sequence[int]
) -> Iterator[pd.DataFrame]:
    """A table of each certificate of one detector: radius, auc, certificate, calls_an_image, passes_a_query."""
    radii = sorted({0.0, *run.config.evaluation.certify_l2.radii})
    options = {"radii": radii, "alpha": run.config.evaluation.certify_l2.alpha, "bounds": ["percentile"]}
    for n in looks:
        tables = {
            name: oodcert.certify(detector, run.images(name), sigma, n=n, name=name, **options) for name in run.sets
        }
        yield guaranteed(tables).assign(certificate=f"percentile, n = {n:,}", calls_an_image=n, passes_a_query=n)
    n, adaptive = looks[-1], {**options, "sampling": "adaptive", "n": looks[-1]}
    known = oodcert.certify(detector, run.images("id"), sigma, name="id", **{**adaptive, "radii": [0.0]})
    tables = {"id": known} | {
        name: oodcert.certify(detector, run.images(name), sigma, name=name, decision_thresholds=known, **adaptive)
        for name in run.sets
        if name != "id"
    }
    calls = pd.concat([table.drop_duplicates("image")["n"] for table in tables.values()]).mean()
    name = f"percentile, n ≤ {n:,} adaptive"
    yield guaranteed(tables).assign(certificate=name, calls_an_image=calls, passes_a_query=n)
    confidence = 1 - (1 - CONFIDENCE) / (len(run.sets) - 1)
    for count in draws:
        metrics = [
            oodcert.certified_roc(
                detector, run.images("id"), run.images(name), sigma, radii, draws=count, confidence=confidence
            ).metrics
            for name in run.sets
            if name != "id"
        ]
        table = pd.concat(metrics).groupby("radius", as_index=False)["auc"].mean()
        yield table.assign(certificate=f"one pass, {count:,} draws", calls_an_image=count, passes_a_query=1)


def guaranteed(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The guaranteed AUC of the percentile bound by radius, averaged over the OOD sets."""
    metrics = [
        guaranteed_metrics(tables["id"], rows, confidence=CONFIDENCE, sets=len(tables) - 1)
        for name, rows in tables.items()
        if name != "id"
    ]
    return pd.concat(metrics).groupby("radius", as_index=False)["auc"].mean()


if __name__ == "__main__":
    run_script(main)
