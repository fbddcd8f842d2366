"""The departures of the authors' code from the mathematics. Each is a flag: as their code has it, or corrected.

A *protocol* is the set of flags that are as the authors' code has them. AUTHORS_CODE is the protocol of all flags,
SOUND that of none. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

from oodcert.config.components import declared_component, known_components
from oodcert.config.method_specs import MethodSpec
from oodcert.config.models import Config
from oodcert.data.noise_sets import NOISE
from oodcert.errors import InputError

CLASSES = 10  # of the joint model, whatever the data (D13)
ALPHAS = (0.01, 0.001)  # of scores and labels, whatever the config says (D7)
LOADER_BATCH = {True: 16, False: 128}  # images, of randomised methods and of the others (D19, D20)
NOISE_NAME = "published"  # in the names of noise; all random numbers depend on it, so it never changes
ALL = "all"  # the corrected_flag of SOUND


@dataclass(frozen=True)
class Case:
    """What decides whether a flag acts.

    Attributes:
        method_spec: what the method is made of.
        num_classes: ID classes of the config.
        ood: names of the config's OOD sets.
        images: images of every set that are evaluated here (evaluation.authors_code).
        test_images: images of every set that there are (data.test_images).
        alphas: the config's α of scores and of labels. No network depends on it, so it may be left out there.
    """

    method_spec: MethodSpec
    num_classes: int
    ood: tuple[str, ...]
    images: int
    test_images: int
    alphas: tuple[float, ...] = ()


def case_of(method: str, config: Config) -> Case:
    """The Case of one of the config's methods.

    Args:
        method: its name.
        config: the checked config.

    Returns:
        The Case, from which each flag tells whether it acts.

    Raises:
        InputError: if the config does not have the authors' code evaluated.
    """
    data, evaluation = config.data, config.evaluation
    if evaluation.authors_code is None:
        raise InputError("Config key evaluation.authors_code is null, so no flag acts: see config/config.yaml.")
    return Case(
        config.methods[method],
        data.num_classes,
        data.ood,
        evaluation.authors_code.images,
        data.test_images,
        (evaluation.certify_l2.alpha, evaluation.certify_id.alpha),
    )


def is_general(method_spec: MethodSpec) -> bool:
    """Whether the authors' code has no l-infinity bound made for a method's network: it has for ProoD, DISTRO, GOOD."""
    classifier = method_spec.classifier
    trained_on_bounds = classifier in known_components() and declared_component(classifier).bounded
    return not method_spec.discriminator and not trained_on_bounds


# Why a flag changes nothing in a Case. None: it acts.


def _never(case: Case) -> str | None:
    return None


def _without_denoiser(case: Case) -> str | None:
    return None if case.method_spec.denoiser else "no denoiser"


def _without_discriminator(case: Case) -> str | None:
    return None if case.method_spec.discriminator else "no discriminator"


def _without_denoised_discriminator(case: Case) -> str | None:
    return _without_denoiser(case) or _without_discriminator(case)


def _not_general(case: Case) -> str | None:
    return None if is_general(case.method_spec) else "a bound of its own"


def _without_interval_bound(case: Case) -> str | None:
    return _not_general(case) or ("no interval bound of a denoiser" if case.method_spec.denoiser else None)


def _right_classes(case: Case) -> str | None:
    right = f"K = {CLASSES}" if case.num_classes == CLASSES else None
    return _without_discriminator(case) or right


def _all_images(case: Case) -> str | None:
    return "all images are evaluated" if case.images == case.test_images else None


def _single_batch(case: Case) -> str | None:
    if not set(NOISE) & set(case.ood):
        return "no noise set"
    size = LOADER_BATCH[case.method_spec.denoiser]
    return f"{case.images} images are one batch of {size} at most" if case.images <= size else None


def _same_alphas(case: Case) -> str | None:
    return "the config's α are these" if case.alphas == ALPHAS else None


def _other_score(case: Case) -> str | None:
    return None if case.method_spec.score == "energy" else "the score is no energy"


def _configured_schedule(case: Case) -> str | None:
    return "the schedule is the config's, not a path's"


def _no_computation(case: Case) -> str | None:
    return "no computation: what is missing is trained here"


@dataclass(frozen=True)
class Flag:
    """One departure.

    Attributes:
        name: its name in tables.
        title: what the code does, in a few words.
        touches: prefixes of the measures (oodcert.reporting.tables.authors_code) that it may change.
        idle: why the flag changes nothing in a Case; None where it acts.
    """

    name: str
    title: str
    touches: tuple[str, ...]
    idle: Callable[[Case], str | None] = _never


LINF = ("clean", "guaranteed", "adversarial", "headline")
AUPR = tuple(f"{kind}_aupr" for kind in LINF[:3])
GUARANTEED = ("guaranteed", "headline", "violations")
ATTACKED = ("adversarial", "headline", "violations")
L2 = "l2_"
VIOLATED = (*LINF, "violations")

FLAGS = {
    "D1": Flag("double noise", "the denoiser's input has noise added twice", (L2, "id_certified"), _without_denoiser),
    "D2": Flag("unsmoothed score", "the l2 bound is of one pass and has no 1/σ", ("l2_auc", "l2_highest")),
    "D3": Flag("own radius", "every score is raised by its own radius, ID ones too", ("l2_auc", "l2_highest")),
    "D4": Flag("abstain as safe", "uncertified OOD images take the score 0", ("l2_auc",)),
    "D5": Flag("dropped abstentions", "abstentions count at radius 0 alone", ("l2_auc", "l2_population")),
    "D6": Flag("first images", "the first images of an OOD set stand for it", (L2,), _all_images),
    "D7": Flag("two alphas", "α is 0.01 for scores, 0.001 for labels", (L2, "id_certified"), _same_alphas),
    "D8": Flag(
        "hidden timestep", "the denoiser runs at its lowest noise", (*VIOLATED, "id_accuracy"), _without_denoiser
    ),
    "D9": Flag(
        "discriminator input",
        "the discriminator sees the denoised image, its bound the raw one",
        (*VIOLATED, L2, "id_"),
        _without_denoised_discriminator,
    ),
    "D10": Flag("exp of softmax", "the bound is exp of a softmax of upper bounds", GUARANTEED, _not_general),
    "D11": Flag("unclamped box", "the ball is not cut to the pixel range", GUARANTEED, _without_interval_bound),
    "D12": Flag(
        "batch of one", "the bound of a single image loses its dimension", ("single_image",), _without_discriminator
    ),
    "D13": Flag("10 classes", "the joint model is built for 10 classes", (*VIOLATED, L2, "id_"), _right_classes),
    "D14": Flag("label-gated APGD", "APGD attacks no OOD image, for none has a label", ATTACKED),
    "D17": Flag("ε as σ", "AutoAttack meets the denoiser at σ = ε√d", ("id_adversarial",), _without_denoiser),
    "D18": Flag(
        "no EOT",
        "scores and gradients are of one draw, maxima over fresh ones",
        (*VIOLATED, "id_accuracy", "id_adversarial"),
        _without_denoiser,
    ),
    "D19": Flag("batch-dependent PGD", "PGD's steps are the gradient of the batch's mean", ATTACKED),
    "D20": Flag("repeated noise", "two workers draw the same noise images", LINF, _single_batch),
    "D21": Flag("unbalanced AUPR", "ten ID images stand against each OOD image", (*AUPR, "headline")),
    "D22": Flag("energy sign", "the energy is negated; its attack raises the softmax", (*VIOLATED, L2), _other_score),
    "D23": Flag(
        "path contains",
        "weights with CIFAR10 in their path, so CIFAR100, have 4000 steps",
        (),
        _configured_schedule,
    ),
    "D24": Flag("no public weights", "no CIFAR-100 denoiser was released", (), _no_computation),
}
GROUPS = {"linf": VIOLATED, "l2": ("l2",), "id": ("id",), "single": ("single",)}  # of measures, by their prefixes
AUTHORS_CODE: frozenset[str] = frozenset(FLAGS)
SOUND: frozenset[str] = frozenset()


def protocol(corrected_flag: str) -> frozenset[str]:
    """The flags that remain as the authors' code has them once one is corrected.

    Args:
        corrected_flag: a flag; "" corrects none, ALL corrects every one.

    Returns:
        The flags.
    """
    return SOUND if corrected_flag == ALL else AUTHORS_CODE - {corrected_flag}


def acting(flags: Iterable[str], case: Case) -> list[str]:
    """Those of the flags that act in a Case."""
    return [flag for flag in flags if FLAGS[flag].idle(case) is None]


def groups(flag: str) -> tuple[str, ...]:
    """The groups of measures that the flag touches, of GROUPS."""
    touched = FLAGS[flag].touches
    return tuple(group for group, starts in GROUPS.items() if any(one.startswith(starts) for one in touched))


def touches(flag: str, measure: str) -> bool:
    """Whether the flag may change a measure."""
    return measure.startswith(FLAGS[flag].touches)


def diffusion_steps(path: str, protocol: Set[str]) -> int:
    """Steps of the noise schedule that weights at `path` are given.

    The authors' code gives 4000 wherever the path contains CIFAR10, as CIFAR100 does (D23). Corrected, it must be the
    name of a folder or file, without its ending. Other weights have 1000.

    Args:
        path: of the weights.
        protocol: the flags that are as the authors' code has them.

    Returns:
        4000 or 1000.
    """
    as_folder_or_file = "CIFAR10" in path.replace(".", "/").split("/")
    is_cifar10 = "CIFAR10" in path if "D23" in protocol else as_folder_or_file
    return 4000 if is_cifar10 else 1000
