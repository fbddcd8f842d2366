"""What every workflow job does around its library call: log, errors, trace, components and image sets.

A script gets the object `snakemake` from Snakemake. Only its plain attributes are read, so any object that has these
can stand for it when a script is run by hand.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from oodcert.config.load import check_config
from oodcert.config.models import Config
from oodcert.data.folder import load_image_set
from oodcert.data.imageset import ImageSet
from oodcert.errors import InputError
from oodcert.evaluations.clean import CleanJob
from oodcert.evaluations.settings import MethodJob, NetworkJob
from oodcert.runtime.compiler import check_compiler
from oodcert.runtime.faults import explained

if TYPE_CHECKING:
    from torch import nn


class Snakemake(Protocol):
    """What a script may read of the object `snakemake`."""

    rule: str
    config: dict[str, Any]
    input: Any
    output: Any
    params: Any
    wildcards: Any
    log: Any
    threads: int


@contextmanager
def job(snakemake: Snakemake) -> Iterator[None]:
    """Runs a script's body with output, progress bars and tracebacks in the job's log.

    The log of a finished job ends with the seconds that its body took. An InputError, or a fault of the machine that
    oodcert.runtime.faults can explain, ends the script with exit code 1 and its one paragraph, in the log and on the
    terminal. With `profile_trace` in the config, what torch does is traced.

    Args:
        snakemake: what Snakemake hands to a script.

    Yields:
        Nothing: the body runs.
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


def _trace(snakemake: Snakemake) -> AbstractContextManager[None]:
    """What traces a job, in logs/<profile>/trace under the name of its log, if the config asks for that."""
    config = snakemake.config
    if str(config.get("profile_trace")).lower() != "true":
        return nullcontext()
    if config["device"] != "cpu":
        from oodcert.runtime.gpu_slots import take_gpu

        take_gpu(config["jobs_per_gpu"])  # for a profiler looks for GPUs
    from oodcert.runtime.tracing import traced

    folder, log = Path("logs", config["profile"]), Path(snakemake.log[0])
    return traced(folder / "trace" / log.relative_to(folder).with_suffix(".json.gz"))


def config_of(snakemake: Snakemake) -> Config:
    """The typed configuration of a job."""
    return check_config(snakemake.config)


def prepare_job(settings: NetworkJob, jobs_per_gpu: int) -> str:
    """Fixes torch's threads, algorithms, rounding, memory and GPU, and returns the device."""
    from oodcert.runtime.torch_setup import NoGpuError, prepare_torch

    try:
        device = prepare_torch(settings.device, threads=settings.threads, jobs_per_gpu=jobs_per_gpu)
    except NoGpuError as error:
        raise InputError(f"Config key device = {settings.device!r}, but {error}") from error
    if device == "cuda" and getattr(settings, "precision", "float32") == "bfloat16":
        check_compiler()
    return device


def load_components(
    paths: Iterable[str | Path], networks: Mapping[str, Mapping[str, Any]], settings: NetworkJob
) -> dict[str, nn.Module]:
    """Trained components from <component>.safetensors files, by name.

    Args:
        paths: of the files.
        networks: component -> entry of the config.
        settings: the images' shape and the number of classes.

    Returns:
        Component -> its network.
    """
    from oodcert.models.components import build_component, load_component

    shape, classes = settings.image_shape, settings.num_classes
    return {
        path.stem: load_component(build_component(path.stem, networks, shape, classes), path)
        for path in map(Path, paths)
    }


def components_to_evaluate(
    paths: Iterable[str | Path], networks: Mapping[str, Mapping[str, Any]], settings: NetworkJob, device: str
) -> dict[str, nn.Module]:
    """Trained components in the form that is evaluated fastest. They cannot be trained further.

    Batch norms are folded and, on a CPU, the memory layout is the faster one.

    Args:
        paths: of the files.
        networks: component -> entry of the config.
        settings: the images' shape and the number of classes.
        device: where the networks will run.

    Returns:
        Component -> its network.
    """
    from oodcert.models.inference_form import folded, laid_out

    loaded = {name: folded(one) for name, one in load_components(paths, networks, settings).items()}
    if device != "cpu":
        return loaded
    return {name: laid_out(one, settings.image_shape) for name, one in loaded.items()}


def load_sets(paths: Iterable[str | Path], settings: NetworkJob) -> dict[str, ImageSet]:
    """Image sets from <name>.npz files, checked against the class count and shape; id_test is called "id"."""
    return {
        "id" if path.stem == "id_test" else path.stem: load_image_set(
            path, num_classes=settings.num_classes, image_shape=settings.image_shape
        )
        for path in map(Path, paths)
    }


def evaluated_images(sets: dict[str, ImageSet], settings: NetworkJob) -> dict[str, ImageSet]:
    """The sets with the images that are evaluated.

    Of "id" these are the first `test_images`. "id_more" holds the further ones up to `accuracy_images`, where the
    settings have that.

    Args:
        sets: name -> images.
        settings: of the evaluation.

    Returns:
        Name -> images.
    """
    if isinstance(settings, MethodJob) and "id" in sets:
        whole, n = sets["id"], settings.test_images
        sets = {**sets, "id": whole.first(n)}
        if isinstance(settings, CleanJob) and settings.accuracy_images > n:
            sets["id_more"] = whole.first(settings.accuracy_images).chosen(slice(n, None))
    return sets
