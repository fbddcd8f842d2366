# Names and settings that several rules share.
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# also where this workflow is a module of another one, these lie beside this file
RULES = Path(workflow.current_basedir.get_path_or_uri(secret_free=False))
REPOSITORY = Path(os.path.relpath(RULES.parent.parent))
LIBRARY = str((REPOSITORY / "workflow").resolve())
if not Path(LIBRARY).is_dir():
    raise WorkflowError(
        f"{workflow.current_basedir.get_path_or_uri(secret_free=True)} is no folder of this machine: clone the "
        "repository, and name its Snakefile in the module."
    )
sys.path.insert(0, LIBRARY)
# jobs find the library in whatever environment they run
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [LIBRARY, os.getenv("PYTHONPATH")]))
)

import oodcert

if Path(oodcert.__file__).resolve().parents[1] != Path(LIBRARY):
    raise WorkflowError(
        f"The workflow in {LIBRARY} needs the oodcert beside it, but {oodcert.__file__} was imported before: start "
        "Snakemake without it, for example without a Python plugin or sitecustomize that imports oodcert."
    )

# Snakemake imports nbformat, whose jsonschema then builds grammars of international addresses for more than a second;
# it does without them where they can't be imported, and nothing here checks such addresses
sys.modules.setdefault("rfc3987_syntax", None)

from oodcert.config.availability import available
from oodcert.config.components import known_components
from oodcert.config.external_weights import (
    imported,
    networks_of,
    remote_files,
    trained,
    user_modules,
)
from oodcert.config.load import check_config
from oodcert.config.method_specs import (
    JOINT_EVALUATIONS,
    joint_methods,
    needed_components,
)
from oodcert.data.overlaps import OVERLAPS
from oodcert.data.sizes import check_counts
from oodcert.data.sources import (
    DOWNLOADS,
    folders_sha256,
    id_files,
    ood_files,
    outlier_files,
)
from oodcert.errors import InputError
from oodcert.evaluations.registry import EVALUATIONS, evaluations_of, of_methods
from oodcert.evidence.manifest import LOCAL
from oodcert.execution.fork_server import start
from oodcert.execution.shards import shards
from oodcert.runtime.compiler import check_compiler
from oodcert.runtime.faults import check_writable
from oodcert.runtime.gpu_list import visible_gpus
from oodcert.runtime.source_files import source_files

try:
    CONFIG = check_config(config)
    IMPORTS = imported(CONFIG)
    TRAINED = trained(CONFIG)
    CONFIG = available(CONFIG, trains=bool(TRAINED))
    if workflow.is_main_process:
        check_counts(CONFIG.data, CONFIG.data_mirror)
        check_writable(".", "results", "figures", "logs")
except InputError as error:
    raise WorkflowError(str(error))
if workflow.is_main_process:
    for name, why in CONFIG.data.unavailable.items():
        logger.warning(
            f"{name} is unavailable, and will be missing in the results: {why}."
        )

config = CONFIG.as_json()  # what scripts get
PROFILE = CONFIG.profile
DATA = f"data/{PROFILE}"
RESULTS = f"results/{PROFILE}"
FIGURES = f"figures/{PROFILE}"
LOGS = f"logs/{PROFILE}"
ENVIRONMENT = "../../envs/oodcert.yaml"

ID_TEST = f"{DATA}/id_test.npz"
OOD_TESTS = expand(f"{DATA}/{{name}}.npz", name=CONFIG.data.ood)

# params of every job that runs networks; a changed value reruns exactly those jobs
NETWORK_JOB = dict(
    seed=CONFIG.seed,
    device=CONFIG.device,
    threads=CONFIG.threads,
    image_shape=list(CONFIG.data.image_shape),
    num_classes=CONFIG.data.num_classes,
)
SHARDS = CONFIG.shards

# Here Snakemake starts as many jobs at a time as the GPUs take. On a cluster each job asks for a GPU.
on_cluster = workflow.resource_settings.nodes is not None
elsewhere = bool(workflow.deployment_settings.deployment_method)  # conda or a container
LOCAL_GPUS = None if on_cluster or CONFIG.device == "cpu" else len(visible_gpus())
GPU = int(CONFIG.device == "cuda" or (CONFIG.device == "auto" and LOCAL_GPUS != 0))
if LOCAL_GPUS and workflow.is_main_process:
    sampled = (CONFIG.evaluation.certify_l2, CONFIG.evaluation.certify_id)
    if any(one.precision == "bfloat16" for one in sampled) and not elsewhere:
        try:
            check_compiler()  # now, not after the hours of training
        except InputError as error:
            raise WorkflowError(str(error))
if LOCAL_GPUS is not None and "gpu" not in workflow.resource_settings.resources:
    workflow.register_resource("gpu", max(1, LOCAL_GPUS * CONFIG.jobs_per_gpu))


CUDA_MB = 4000 * GPU  # of the host's memory, which the libraries of a GPU job take


def growing(amount):
    """What a job asks for at its first attempt, and as much more at each further one."""
    return lambda wildcards, attempt: attempt * amount


def image_settings(sets, *further):
    """The settings of the config's `data` that these sets depend on. further: names of more of them."""
    own = {name: path for name, path in CONFIG.data.own.items() if name in sets}
    keys = ("id", "outliers", "image_shape", "jpeg_quality", *further)
    values = CONFIG.data.model_dump(mode="json")
    return {"own": own, **{key: values[key] for key in keys}}


def weights(components):
    """Files of the components' weights."""
    return [f"{RESULTS}/models/{name}.safetensors" for name in components]


def code_of(components):
    """Source files of the user-supplied networks among the components."""
    modules = user_modules(networks_of(components, CONFIG))
    return sorted({str(file) for module in modules for file in source_files(module)})


def evidence(*evaluations):
    """Evidence files of all methods."""
    return expand(
        f"{RESULTS}/evidence/{{evaluation}}/{{method}}.parquet",
        evaluation=evaluations,
        method=CONFIG.methods,
    )


onstart:
    # on a cluster jobs start elsewhere; with conda or a container, in other Pythons
    if not on_cluster and not elsewhere:
        start()


wildcard_constraints:
    method="|".join(CONFIG.methods),
    component="|".join({**known_components(), **IMPORTS}),
    evaluation="|".join(
        name for name, spec in EVALUATIONS.items() if spec.whole_batches
    ),
    shard=r"(all|id|ood)-\d+-of-\d+",
