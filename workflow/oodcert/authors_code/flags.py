"""The departures of the authors' code from the mathematics: each a flag, published or sound."""

from collections.abc import Callable
from typing import NamedTuple

from oodcert.config.components import declared_component, known_components
from oodcert.data.noise_sets import NOISE

CLASSES = 10  # of the joint model, whatever the data (D13)
ALPHAS = (0.01, 0.001)  # of scores and labels, whatever the config says (D7)
LOADER_BATCH = {True: 16, False: 128}  # images, of randomised methods and of the others (D19, D20)


class Case(NamedTuple):
    """What decides whether a flag acts: a method's method_spec, and of the config the number of classes, the OOD sets,
    images of every set that are evaluated (evaluation.published) and that there are (data.test_images), and the α of
    scores and labels, which no network depends on."""

    method_spec: dict
    num_classes: int
    ood: tuple
    images: int
    test_images: int
    alphas: tuple = ()


def _never(case):
    return None


def _without_denoiser(case):
    return None if case.method_spec["denoiser"] else "no denoiser"


def _without_discriminator(case):
    return None if case.method_spec["discriminator"] else "no discriminator"


def _without_denoised_discriminator(case):
    return _without_denoiser(case) or _without_discriminator(case)


def is_general(method_spec):
    """Whether the authors' code has no l-infinity bound made for a method's network: it has for ProoD, DISTRO, GOOD."""
    classifier = method_spec["classifier"]
    trained_on_bounds = classifier in known_components() and declared_component(classifier).bounded
    return not method_spec["discriminator"] and not trained_on_bounds


def _not_general(case):
    return None if is_general(case.method_spec) else "a bound of its own"


def _unbounded(case):
    return _not_general(case) or ("no interval bound of a denoiser" if case.method_spec["denoiser"] else None)


def _right_classes(case):
    right = f"K = {CLASSES}" if case.num_classes == CLASSES else None
    return _without_discriminator(case) or right


def _all_images(case):
    return "all images are evaluated" if case.images == case.test_images else None


def _single_batch(case):
    if not set(NOISE) & set(case.ood):
        return "no noise set"
    size = LOADER_BATCH[case.method_spec["denoiser"]]
    return f"{case.images} images are one batch of {size} at most" if case.images <= size else None


def _same_alphas(case):
    return "the config's α are these" if case.alphas == ALPHAS else None


def _other_score(case):
    return None if case.method_spec["score"] == "energy" else "the score is no energy"


def _own_schedule(case):
    return "the schedule is the config's, not a path's"


def _no_computation(case):
    return "no computation: what is missing is trained here"


class Flag(NamedTuple):
    """name; title, what the code does; touches, prefixes of the measures (oodcert.reporting.tables.authors_code) that it may
    change; idle, a function of a Case: why the flag changes nothing there, None where it acts."""

    name: str
    title: str
    touches: tuple
    idle: Callable = _never


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
    "D11": Flag("unclamped box", "the ball is not cut to the pixel range", GUARANTEED, _unbounded),
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
    "D23": Flag("path contains", "weights with CIFAR10 in their path, so CIFAR100, have 4000 steps", (), _own_schedule),
    "D24": Flag("no public weights", "no CIFAR-100 denoiser was published", (), _no_computation),
}
GROUPS = {"linf": VIOLATED, "l2": ("l2",), "id": ("id",), "single": ("single",)}
PUBLISHED, SOUND = frozenset(FLAGS), frozenset()
ALL = "all"


def protocol(corrected_flag):
    """The flags that are published once `corrected_flag` is made sound: "" (none), a flag, or "all"."""
    return SOUND if corrected_flag == ALL else PUBLISHED - {corrected_flag}


def case_of(method, config):
    """The Case of a method in a config."""
    data, settings = config["data"], config["evaluation"]
    return Case(
        config["methods"][method],
        data["num_classes"],
        tuple(data["ood"]),
        settings.authors_code.images,
        data["test_images"],
        (settings["certify_l2"]["alpha"], settings["certify_id"]["alpha"]),
    )


def acting(flags, case):
    """Those of the flags that act in a Case."""
    return [flag for flag in flags if FLAGS[flag].idle(case) is None]


def groups(flag):
    """The groups of measures that the flag touches, of GROUPS."""
    touched = FLAGS[flag].touches
    return tuple(group for group, starts in GROUPS.items() if any(one.startswith(starts) for one in touched))


def touches(flag, measure):
    """Whether the flag may change a measure."""
    return measure.startswith(FLAGS[flag].touches)


def diffusion_steps(path, published):
    """Steps of the schedule that weights at `path` are given: published, 4000 wherever CIFAR10 is in it (D23); else
    where CIFAR10 is a folder or file of it. Others have 1000."""
    found = "CIFAR10" in path if published else "CIFAR10" in path.replace(".", "/").split("/")
    return 4000 if found else 1000
