"""What a profile costs: images through each network, rows of evidence, and hours. Imports no torch.

Counted as the devices work: passes include the padding of batches to their one size, and every noise draw. The passes
of one job are those of its whole network, component by component. Left out, as they cost nothing beside the others:
attack_linear, whose score is linear, and the rules that read, draw and write without a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from oodcert.config.components import declared_component
from oodcert.config.external_weights import imported
from oodcert.config.method_specs import computed_with, trained_components
from oodcert.config.models import Config
from oodcert.data.overlaps import overlapping
from oodcert.data.settings import DataSettings
from oodcert.data.sizes import image_count
from oodcert.errors import InputError
from oodcert.evaluations.cost import AT_MOST, ESTIMATE, EXACT, Certainty, Passes
from oodcert.evaluations.registry import EVALUATIONS, evaluations_of

CERTAINTIES: tuple[Certainty, ...] = (EXACT, AT_MOST, ESTIMATE)  # worse and worse
UNKNOWN_SIZE = 50_000  # images of a set of unknown size: as many as CIFAR-10 has for training
BACKWARD = 2  # forward passes that a backward pass takes as long as
TRAINING = {  # forward and backward passes of a component's network per ID image of an epoch
    "plain": 1,
    "logitnorm": 1,
    "vos": 1,
    "denoiser": 1,
    "oe": 2,  # the image and an outlier
    "prood": 2,
    "acet": 2,
    "atom": 2,
    "discriminator": 3,  # the image, and interval bounds of an outlier, which count as two passes
    "good": 4,  # the image, an outlier, and its interval bounds
}
EXAMPLES = 2  # images of each set that are shown denoised
ON_BOUNDS = ("discriminator", "good")
BYTES_PER_ROW = {  # of the evidence files of the committed digits run, whose largest these are
    "clean": 21,
    "guarantee_linf": 20,
    "attack_linf": 67,
    "sanity": 91,
    "certify_l2": 17,
    "attack_l2": 41,
    "one_pass": 12,
    "certify_id": 30,
    "attack_id": 13,
    "authors_code": 10,
    "attack_linear": 30,
    "train": 29,
}
LARGEST_ROW = max(BYTES_PER_ROW.values())  # of an evaluation without a number of its own


@dataclass(frozen=True)
class Job:
    """One job, or its share of one that is for several methods.

    Attributes:
        rule: its rule.
        job: the method or component that it is for.
        images: that it works on.
        rows: of its evidence file.
        certainty: how sure the passes are.
        passes: component -> images through it, forward and backward.
    """

    rule: str
    job: str
    images: int
    rows: int
    certainty: Certainty
    passes: Passes


def jobs(config: Config) -> list[Job]:
    """All jobs that run networks, and attack_linear.

    The first component of an evaluation is the one whose forward passes its sidecar records as network_calls.

    Args:
        config: with data.ood as it is available.

    Returns:
        The jobs: trainings first, then each evaluation's.
    """
    imports, sizes = imported(config), set_sizes(config)
    components = dict.fromkeys([*trained_components(config.methods, config.training, imports.keys()), "denoiser"])
    planned = [_training_job(config, sizes, component) for component in components if component not in imports]
    for name, spec in evaluations_of(config).items():
        if spec.methods:
            planned += [evaluation_job(config, name, method) for method in config.methods]
    shown = EXAMPLES * (1 + len(config.data.ood))
    linear = EVALUATIONS["attack_linear"].cost(config, "linear")
    planned.append(Job("attack_linear", "linear", linear.images, linear.rows, linear.certainty, linear.passes))
    sigmas = len(config.evaluation.certify_l2.sigmas)
    planned.append(Job("denoised_examples", "examples", shown, 0, EXACT, {"denoiser": (shown * sigmas, 0)}))
    return planned


def evaluation_job(config: Config, evaluation: str, method: str) -> Job:
    """The Job of a method's evaluation.

    What methods that are computed together pass through their denoiser counts for the first of them alone.

    Args:
        config: with data.ood as it is available.
        evaluation: its name.
        method: its name.

    Returns:
        The Job.
    """
    cost = EVALUATIONS[evaluation].cost(config, method)
    passes = cost.passes
    if method != computed_with(evaluation, method, config.methods)[0]:
        passes = {component: count for component, count in passes.items() if component != "denoiser"}
    return Job(evaluation, method, cost.images, cost.rows, cost.certainty, passes)


def passes(planned: Iterable[Job]) -> pd.DataFrame:
    """A row per job and component: rule, job, component, images, forward, backward (images through it), certainty."""
    rows = [
        (job.rule, job.job, component, job.images, *count, job.certainty)
        for job in planned
        for component, count in job.passes.items()
    ]
    return pd.DataFrame(rows, columns=["rule", "job", "component", "images", "forward", "backward", "certainty"])


def evidence(planned: Iterable[Job]) -> pd.DataFrame:
    """A row per evidence file: rule, job, rows, bytes; the rows are exact, the bytes an estimate (BYTES_PER_ROW)."""
    rows = [
        (job.rule, job.job, job.rows, job.rows * BYTES_PER_ROW.get(job.rule, LARGEST_ROW))
        for job in planned
        if job.rows
    ]
    return pd.DataFrame(rows, columns=["rule", "job", "rows", "bytes"])


def hours(table: pd.DataFrame, rates: Mapping[str, float]) -> pd.Series:
    """Hours of one device for each row of `passes`; a backward pass counts as two forward passes.

    Args:
        table: as of `passes`.
        rates: forward passes (images) a second by component; "classifier" stands for every classifier without a rate of
            its own.

    Returns:
        The hours, one value for each row.

    Raises:
        InputError: if a component has no rate, or a rate is of no component.
    """
    used = dict.fromkeys(table["component"])
    unknown = rates.keys() - {*used, "classifier"}
    if unknown:
        raise InputError(
            f"Throughput of {', '.join(sorted(unknown))}: this profile has no such component. Its components are "
            f"{', '.join(used)}; classifier stands for all classifiers."
        )
    default = rates.get("classifier")
    by_component = {name: rates.get(name, None if name in ("discriminator", "denoiser") else default) for name in used}
    missing = [name for name, rate in by_component.items() if rate is None]
    if missing:
        raise InputError(
            f"Throughput of {', '.join(missing)} is missing: give it too, such as {missing[0]}=1000 images a second."
        )
    return (table["forward"] + BACKWARD * table["backward"]) / table["component"].map(by_component) / 3600


def set_sizes(config: Config) -> dict[str, int]:
    """Images of the sets on disk, by name: "id_train", "outliers", "id_test" and the OOD sets."""
    data, mirror = config.data, config.data_mirror
    whole = {key: image_count(*of, data, mirror) or UNKNOWN_SIZE for key, of in _whole_sets(data).items()}
    return whole | dict.fromkeys(data.ood, data.test_images)


def uncounted(config: Config) -> list[str]:
    """Names of the sets of unknown size; UNKNOWN_SIZE stands for it."""
    sets = _whole_sets(config.data).values()
    return [
        f"{name} ({split})" for name, split in sets if image_count(name, split, config.data, config.data_mirror) is None
    ]


def _whole_sets(data: DataSettings) -> dict[str, tuple[str, str]]:
    return {"id_train": (data.id, "train"), "outliers": (data.outliers, "train"), "id_test": (data.id, "test")}


def _training_job(config: Config, sizes: Mapping[str, int], component: str) -> Job:
    """On top of TRAINING come attacks on outliers (attack_iterations), mining (pool), and what the component needs."""
    data, recipe = config.data, config.training[component]
    epochs, images, times = recipe.epochs, sizes["id_train"], TRAINING.get(component, 1)
    iterations = getattr(recipe, "attack_iterations", None)
    attacks = 0 if iterations is None else 1 + iterations
    own = epochs * images * (times + attacks)
    mined = epochs * min(getattr(recipe, "pool", 0), sizes["outliers"])
    needed = {name: (epochs * images * times, 0) for name in declared_component(component).needs}
    certainty = ESTIMATE if component in ON_BOUNDS or component not in TRAINING else EXACT
    if certainty == EXACT and mined and overlapping(data.outliers, data.id):
        certainty = AT_MOST
    terms = 3 if component in ("plain", "logitnorm", "denoiser") else 4  # of the learning curve
    return Job("train", component, images, epochs * terms, certainty, {component: (own + mined, own), **needed})
