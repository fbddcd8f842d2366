"""What every workflow job does around its library call: log, threads, errors, inputs, provenance.

`snakemake` below is the object that Snakemake hands to a script; only its plain attributes are read.
"""

import sys
import time
import traceback
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from oodcert.config.method_specs import components_of
from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from oodcert.evidence.store import Provenance, read_evidence, write_evidence
from oodcert.execution.partial_results import cache_key, code_fingerprint, folder_of
from oodcert.execution.shards import SETS, content, pieces
from oodcert.runtime import torch_setup
from oodcert.runtime.faults import explained
from oodcert.runtime.gpu_slots import take_gpu


@contextmanager
def job(snakemake):
    """Runs a script's body with output, progress bars and tracebacks in the job's log.

    The log of a finished job ends with the seconds that its body took. An InputError, or a fault of the machine that
    oodcert.runtime.faults can explain, ends the script with exit code 1 and its one paragraph, in the log and on the terminal.
    With `profile_trace` in the config, what torch does is traced.
    """
    path, begun = Path(snakemake.log[0]), time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", buffering=1) as log:
        try:
            with redirect_stdout(log), redirect_stderr(log), _trace(snakemake):
                yield
            with suppress(OSError):  # a full disk must not undo what is done
                print(f"Done in {time.monotonic() - begun:.2f} s.", file=log)
        except Exception as error:
            text = str(error) if isinstance(error, InputError) else explained(error)
            with suppress(OSError):  # the disk of the log may be the one that is full
                if not isinstance(error, InputError):
                    traceback.print_exc(file=log)
                print(f"\nError: {text or error}", file=log)
            if text is None:
                raise
            sys.exit(f"Error in rule {snakemake.rule}: {text}")


def _trace(snakemake):
    """What traces a job, in logs/<profile>/trace under the name of its log, if the config asks for that."""
    config = snakemake.config
    if str(config.get("profile_trace")).lower() != "true":
        return nullcontext()
    if snakemake.params.get("device", "cpu") != "cpu":
        take_gpu(config["jobs_per_gpu"])  # for a profiler looks for GPUs
    from oodcert.runtime.tracing import traced

    folder, log = Path("logs", config["profile"]), Path(snakemake.log[0])
    return traced(folder / "trace" / log.relative_to(folder).with_suffix(".json.gz"))


def prepare_torch(params, jobs_per_gpu=1):
    """Fixes torch's threads, algorithms, rounding, memory and GPU; returns the device of the params' `device` ("auto"
    finds a GPU)."""
    try:
        return torch_setup.prepare_torch(params["device"], params["threads"], jobs_per_gpu)
    except torch_setup.NoGpuError as error:
        raise InputError(f"Config key {error}") from error


def load_components(paths, params):
    """Trained parts from <part>.safetensors files: dict by name."""
    from oodcert.models.components import build_component, load_component

    shape, classes = params["image_shape"], params["num_classes"]
    return {
        path.stem: load_component(build_component(path.stem, params["networks"], shape, classes), path)
        for path in map(Path, paths)
    }


def components_to_evaluate(paths, params, device):
    """The same as they are evaluated on a device, and not trained any more."""
    return {
        name: to_evaluate(part, params["image_shape"], device) for name, part in load_components(paths, params).items()
    }


def to_evaluate(part, image_shape, device):
    """A part, changed in place: batch norms folded into convolutions and, on a CPU, the layout that is faster there."""
    from oodcert.models.inference_form import folded, laid_out

    return laid_out(folded(part), image_shape) if device == "cpu" else folded(part)


def load_sets(paths, params):
    """Image sets from <name>.npz files, checked against the class count and shape; id_test is called "id"."""
    return {
        "id" if Path(path).stem == "id_test" else Path(path).stem: ImageSet.load(
            path, params["num_classes"], params["image_shape"]
        )
        for path in paths
    }


def evaluated(sets, params):
    """The sets with the images that are evaluated: of "id" the first test_images, and "id_more", the further ones up to
    accuracy_images, where the params have that."""
    if "id" in sets:
        whole, n, most = sets["id"], params["test_images"], params.get("accuracy_images", 0)
        sets = {**sets, "id": whole.first(n)}
        if most > n:
            sets["id_more"] = whole.first(most).chosen(slice(n, None))
    return sets


def run_evaluation(snakemake, name):
    """The body of every evaluation script: parts and sets in, evidence and sidecar out.

    name: "module.function" of oodcert.evaluations. Evaluations that can be cut are computed in pieces, which a job that
    was interrupted does not compute again, and which stay until the run is finished; of a job for one shard, the output
    is that of its images. A job of several methods has a method_spec and networks by method in its params, and its
    output is what a job of each of them alone would write.
    """
    with job(snakemake):
        config = snakemake.config
        device = prepare_torch(dict(snakemake.params.items()), config["jobs_per_gpu"])
        from oodcert.execution.partial_runs import Kept, in_pieces

        works, (module, function) = _works(snakemake, device), name.split(".")
        evaluate = getattr(import_module(f"oodcert.evaluations.{module}"), function)
        if function in SETS:
            shard, against = snakemake.wildcards.get("shard"), snakemake.input.get("against")
            kept = [
                Kept(evaluation, folder_of(path), cache_key(provenance, device, evaluation=function, method=method))
                for method, (evaluation, provenance, path) in works.items()
            ]
            stages = pieces(config, function, next(iter(works)), shard)
            found = in_pieces(evaluate, kept, stages, read_evidence(against) if against else None)
            if shard:
                for (method, work), (_, facts) in zip(works.items(), found, strict=True):
                    code = code_fingerprint(work.evaluation.settings["networks"])
                    facts |= {"content": content(config, function, method, shard), "code": code}
        else:
            found = [(evaluate(one), {"network_calls": one.calls}) for one, _, _ in works.values()]
        for (_, provenance, path), (frame, facts) in zip(works.values(), found, strict=True):
            write_evidence(frame, path, provenance, device=device, **facts)


class Work(NamedTuple):
    """An evaluation of one method, where it comes from, and the path of its evidence."""

    evaluation: object
    provenance: Provenance
    path: str


def _works(snakemake, device):
    """Method -> the Work that a job of it alone would have; None is the method of an evaluation of none."""
    from oodcert.evaluations.base import Evaluation

    own, paths = _settings(snakemake), {Path(path).stem: path for path in snakemake.input.get("parts", [])}
    names = {method: components_of(settings["method_spec"]) if paths else [] for method, settings in own.items()}
    provenances = {
        method: Provenance(settings, [*(paths[part] for part in names[method]), *snakemake.input.sets])
        for method, settings in own.items()
    }
    params = dict(snakemake.params.items())
    params["networks"] = {part: spec for one in own.values() for part, spec in one.get("networks", {}).items()}
    parts = components_to_evaluate(paths.values(), params, device)  # once, for methods share the denoiser itself
    sets = evaluated(load_sets(snakemake.input.sets, params), params)
    outputs = snakemake.output.rows
    return {
        method: Work(
            Evaluation(method, {part: parts[part] for part in names[method]}, sets, settings, device),
            provenances[method],
            path,
        )
        for (method, settings), path in zip(
            own.items(), [outputs] if isinstance(outputs, str) else outputs, strict=True
        )
    }


def _settings(snakemake):
    """Method -> the settings that a job of it alone would have."""
    params, method = dict(snakemake.params.items()), snakemake.wildcards.get("method")
    if method or "method_spec" not in params:
        return {method: params}
    return {
        one: params | {key: params[key][one] for key in ("method_spec", "networks")} for one in params["method_spec"]
    }
