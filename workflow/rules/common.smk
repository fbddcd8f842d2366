# Names and settings that several rules share.
import os
import re
import sys
from pathlib import Path

LIBRARY = str(Path(workflow.basedir) / "workflow")
sys.path.insert(0, LIBRARY)
# jobs find the library in whatever environment they run
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [LIBRARY, os.getenv("PYTHONPATH")]))
)

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from oodcert.audit.layout import inputs_of, settings_of
from oodcert.config.availability import available
from oodcert.config.load import check_config
from oodcert.execution.shards import SETS, shards
from oodcert.data.overlaps import OVERLAPS
from oodcert.data.sizes import check_counts
from oodcert.data.sources import (
    DOWNLOADS,
    id_files,
    ood_files,
    outlier_files,
)
from oodcert.errors import InputError
from oodcert.runtime.faults import check_writable
from oodcert.execution.fork_server import start
from oodcert.runtime.gpu_slots import visible_gpus
from oodcert.config.external_weights import imported, networks_of, remote_files, trained
from oodcert.evidence.manifest import LOCAL
from oodcert.config.method_specs import is_randomised, needed_components, components_of, together
from oodcert.config.components import known_components

try:
    check_config(config)
    IMPORTS = imported(config)
    TRAINED = trained(config)
    config = available(config, trains=bool(TRAINED))
    if workflow.is_main_process:
        check_counts(config.data, config.data_mirror)
        check_writable(".", "results", "figures", "logs")
except InputError as error:
    raise WorkflowError(str(error))
if workflow.is_main_process:
    for name, why in config["data"]["unavailable"].items():
        logger.warning(
            f"{name} is unavailable, and will be missing in the results: {why}."
        )

PROFILE = config["profile"]
DATA = f"data/{PROFILE}"
RESULTS = f"results/{PROFILE}"
FIGURES = f"figures/{PROFILE}"
LOGS = f"logs/{PROFILE}"
ENVIRONMENT = "../../envs/oodcert.yaml"

EVALUATION = config["evaluation"]
ID_TEST = f"{DATA}/id_test.npz"
OOD_TESTS = expand(f"{DATA}/{{name}}.npz", name=config["data"]["ood"])

# params of every job that runs networks; a changed value reruns exactly those jobs
NETWORK_JOB = dict(
    seed=config["seed"],
    device=config["device"],
    threads=config["threads"],
    image_shape=config["data"]["image_shape"],
    num_classes=config["data"]["num_classes"],
)
# and of those that evaluate a method
EVALUATION_JOB = dict(
    **NETWORK_JOB,
    test_images=config["data"]["test_images"],
    batch_size=EVALUATION["batch_size"],
)
SHARDS = config["shards"]

# On this machine as many jobs at a time as its GPUs take; on a cluster each job asks for a GPU.
on_cluster = workflow.resource_settings.nodes is not None
LOCAL_GPUS = None if on_cluster or config["device"] == "cpu" else len(visible_gpus())
GPU = int(
    config["device"] == "cuda" or (config["device"] == "auto" and LOCAL_GPUS != 0)
)
if LOCAL_GPUS is not None and "gpu" not in workflow.resource_settings.resources:
    workflow.register_resource("gpu", max(1, LOCAL_GPUS * config["jobs_per_gpu"]))


CUDA_MB = 4000 * GPU  # of the host's memory, which the libraries of a GPU job take


def growing(amount):
    """What a job asks for at its first attempt, and as much more at each further one."""
    return lambda wildcards, attempt: attempt * amount


def image_settings(sets, *further):
    """Those of the config's `data` that these sets depend on; further: names of settings."""
    data = config["data"]
    own = {name: path for name, path in data["own"].items() if name in sets}
    keys = ("id", "outliers", "image_shape", "jpeg_quality", *further)
    return {"own": own, **{key: data[key] for key in keys}}


def weights(parts):
    return [f"{RESULTS}/models/{part}.safetensors" for part in parts]


def networks(parts):
    return networks_of(parts, config)


def method_spec(wildcards):
    return config["methods"][wildcards.method]


def method_weights(wildcards):
    return weights(components_of(method_spec(wildcards)))


def method_networks(wildcards):
    return networks(components_of(method_spec(wildcards)))


def autoattack_budget(wildcards):
    randomised = is_randomised(method_spec(wildcards))
    return EVALUATION["attack_id"]["randomised" if randomised else "deterministic"]


TOGETHER = together(config["methods"])


def evaluated_files(evaluation, method="{method}"):
    """Output of an evaluation that can be cut: its evidence or, where it is, that of one shard."""
    if SHARDS == 1:
        stem = f"{RESULTS}/evidence/{evaluation}/{method}"
        return dict(rows=f"{stem}.parquet", record=f"{stem}.json")
    stem = f"{RESULTS}/shards/{evaluation}/{method}/{{shard}}"
    return dict(rows=temp(f"{stem}.parquet"), record=temp(f"{stem}.json"))


def files_together(evaluation):
    """The same of all methods that it is computed of together."""
    files = [evaluated_files(evaluation, method) for method in TOGETHER]
    return {kind: [one[kind] for one in files] for kind in ("rows", "record")}


def evaluated_name(evaluation, method="{method}"):
    """Where the logs of such a job lie."""
    return f"{evaluation}/{method}" + ("" if SHARDS == 1 else "-{shard}")


def shard_files(evaluation, method, kind, *stages):
    """Files of the shards of an evaluation: of these stages, or of all."""
    return [
        f"{RESULTS}/shards/{evaluation}/{method}/{shard}.{kind}"
        for stage, names in shards(config, evaluation, method).items()
        for shard in names
        if stage in stages or not stages
    ]


def id_shards(wildcards):
    """Of a shard of the OOD sets that needs them: the rows of all ID images."""
    if not wildcards.get("shard", "").startswith("ood"):
        return []
    return [
        path
        for method in ([wildcards.method] if "method" in wildcards.keys() else TOGETHER)
        for path in shard_files("certify_l2", method, "parquet", "id")
    ]


LINEAR = f"{RESULTS}/evidence/attack_linear/linear.parquet"


def evidence(*evaluations):
    """Evidence files of all methods."""
    return expand(
        f"{RESULTS}/evidence/{{evaluation}}/{{method}}.parquet",
        evaluation=evaluations,
        method=config["methods"],
    )


onstart:
    # on a cluster jobs start elsewhere; with conda or a container, in other Pythons
    if not on_cluster and not workflow.deployment_settings.deployment_method:
        start()


wildcard_constraints:
    method="|".join(config["methods"]),
    part="|".join({**known_components(), **IMPORTS}),
    evaluation="|".join(SETS),
    shard=r"(all|id|ood)-\d+-of-\d+",
