"""The configuration as typed models. The description of each field documents its key (config/README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import AfterValidator, Discriminator, Field, Tag, create_model

from oodcert.config.components import declared_component, known_components
from oodcert.config.explain import hint
from oodcert.config.method_specs import MethodSpec
from oodcert.data.settings import DataSettings
from oodcert.errors import InputError
from oodcert.runtime.settings import (
    Alpha,
    Count,
    CountFromZero,
    Epsilons,
    Expects,
    Finite,
    ImageCount,
    Integer,
    Name,
    Nonnegative,
    Number,
    Positive,
    Radii,
    Settings,
    SeveralDraws,
    Share,
    Sigma,
    Sigmas,
    Size,
    Text,
    unique,
)

SETTING_TYPES: Mapping[str, Any] = {  # by the names that training files use in SETTINGS
    "count": Count,
    "size": Size,
    "images": ImageCount,
    "positive": Positive,
    "finite": Finite,
    "nonnegative": Nonnegative,
    "share": Share,
}
SETTING_MEANINGS = {  # of the settings that training files declare, with the component where they differ
    "temperature": "Temperature of the normalised logits.",
    "outlier_weight": "Weight of the loss on outliers.",
    "epsilon": "l-infinity radius around each outlier.",
    "attack_iterations": "Steps of the attack on outliers in each training step.",
    "pool": "Outliers that are drawn for each epoch, of which a quarter is used.",
    "atom.quantile": "Share of the pool, the hardest outliers first, that is passed over.",
    "good.quantile": "Share of each batch's outliers, the easiest first, that is trained on interval bounds.",
    "queue": "Latest features that each class keeps.",
    "start": "Share of the epochs before virtual outliers are drawn.",
    "candidates": "Draws of which the least likely one becomes a virtual outlier.",
    "energy_weight": "Weight of the loss on virtual outliers.",
    "epsilon_ramp": "Share of the epochs in which `epsilon` rises from 0.",
    "weight_ramp": "Share of the epochs in which the weight of the loss on outliers rises from 0.",
    "bias_shift": "What is added to the bias of the output after training.",
}
Sampling = Annotated[Literal["fixed", "adaptive"], Expects("fixed, or adaptive with n as the most")]
Precision = Annotated[Literal["float32", "bfloat16"], Expects("float32, as where it is absent, or bfloat16")]
Bound = Annotated[
    Literal["percentile", "cdf", "gaussian", "lipschitz"], Expects("percentile, cdf, gaussian or lipschitz")
]
Depth = Annotated[Integer, Field(ge=1, le=1000), Expects("an integer of at least 1, and at most 1000")]
Width = Annotated[
    Integer, Field(ge=8, le=10_000, multiple_of=8), Expects("a width: a multiple of 8, and at most 10000")
]


class WidthNetwork(Settings):
    """A network with a width."""

    name: Literal["cnn", "resnet18", "ibp_cnn_s", "ibp_cnn_xl"]
    """Name of the network."""
    width: Size
    """Channels of its first layer."""


class ResNetNetwork(Settings):
    """A residual network."""

    name: Literal["resnet", "patch_resnet"]
    """Name of the network."""
    depth: Depth
    """Layers: 6n + 2 for a whole number n."""
    width: Size
    """Channels of its first stage."""


class WideResNetNetwork(Settings):
    """A wide residual network."""

    name: Literal["wideresnet"]
    """Name of the network."""
    depth: Depth
    """Layers: 6n + 4 for a whole number n."""
    widen: Size
    """How many times wider than the plain residual network it is."""


class DenseNetNetwork(Settings):
    """A densely connected network."""

    name: Literal["densenet"]
    """Name of the network."""
    depth: Depth
    """Layers: 6n + 4 for a whole number n."""
    growth: Size
    """Channels that each layer adds."""


NetworkSpec = Annotated[
    WidthNetwork | ResNetNetwork | WideResNetNetwork | DenseNetNetwork,
    Field(discriminator="name"),
    Expects("the name of a network"),
]


class BoundedNetwork(Settings):
    """A network without batch norm, for training on interval bounds."""

    name: Annotated[
        Literal["ibp_cnn_s", "ibp_cnn_xl"],
        Expects("ibp_cnn_s or ibp_cnn_xl, for this component is trained on interval bounds, without batch norm"),
    ]
    """Name of the network."""
    width: Size
    """Channels of its first layer."""


class DiscriminatorNetwork(Settings):
    """The discriminator's network."""

    name: Annotated[
        Literal["ibp_cnn_s"],
        Expects("ibp_cnn_s, for a discriminator is trained on interval bounds, without batch norm"),
    ]
    """Name of the network."""
    width: Size
    """Channels of its first layer."""


Timesteps = Annotated[
    Integer,
    Field(ge=200, le=100_000),
    Expects("the length of the noise schedule, at least 200: a shorter one starts above sigma 0.01"),
]


class UNetDenoiser(Settings):
    """A small UNet as the noise model of the denoiser."""

    channels: Annotated[tuple[Width, ...], Field(min_length=1, max_length=16), Expects("widths, multiples of 8")]
    """Channels per resolution."""
    patch: Size
    """Side of the pixel blocks that are folded into channels first; 1: none are."""
    timesteps: Timesteps
    """Length of the noise schedule."""


class MLPDenoiser(Settings):
    """A residual network of linear layers as the noise model of the denoiser, for images of a few pixels."""

    name: Annotated[Literal["mlp"], Expects("mlp, or no name: a UNet")]
    """`mlp`."""
    width: Size
    """Units of its hidden layers."""
    timesteps: Timesteps
    """Length of the noise schedule."""


def _denoiser_kind(value: Any) -> str:
    named = "name" in value if isinstance(value, Mapping) else isinstance(value, MLPDenoiser)
    return "mlp" if named else "unet"


DenoiserSpec = Annotated[
    Annotated[MLPDenoiser, Tag("mlp")] | Annotated[UNetDenoiser, Tag("unet")],
    Discriminator(_denoiser_kind),
    Expects("a UNet (channels, patch and timesteps), or an mlp (name, width and timesteps)"),
]


class Networks(Settings):
    """The network of each component: its entry, or that of classifier."""

    classifier: NetworkSpec
    """The network of every component without an entry."""
    discriminator: DiscriminatorNetwork
    """The discriminator's network."""
    denoiser: DenoiserSpec
    """The denoiser's noise model."""

    def spec_of(self, component: str) -> Settings:
        """The network of a component."""
        return cast(Settings, getattr(self, component, None) or self.classifier)


class Recipe(Settings):
    """How a component is trained. The settings that its training file declares come beside these."""

    start_from: (
        Annotated[Text, Expects("null, or a trained component of the same network, whose weights it starts from")]
        | None
    )
    """A trained component of the same network whose weights it starts from; null: fresh weights."""
    epochs: Count
    """Passes over the ID training images."""
    batch_size: Count
    """ID images of a training step."""
    learning_rate: Positive
    """Learning rate at the start."""
    schedule: Annotated[Literal["steps", "cosine"], Expects("steps, at the component's milestones, or cosine")]
    """How the learning rate falls: `steps`, at the milestones in the component's training file, or `cosine`."""
    weight_decay: Nonnegative
    """Weight decay."""
    augmentation: Annotated[Literal["none", "flip_crop", "auto"], Expects("none, flip_crop or auto")]
    """Random changes of the training images: `none`, `flip_crop`, or `auto` (flip_crop, then AutoAugment)."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A setting that the component's training file declares."""


class Training(Settings):
    """The recipe of each trained component, by its name."""

    def __getitem__(self, component: str) -> Recipe:
        if component not in self:
            raise KeyError(component)
        return cast(Recipe, getattr(self, component))

    def __contains__(self, component: object) -> bool:
        return component in self.model_fields_set


class ImportSpec(Settings):
    """A component of yours that is not trained here."""

    network: Annotated[
        Text, Field(pattern=r"\A[^:]+:[^:]+\z"), Expects("MODULE:NAME, of an nn.Module or what makes one")
    ]
    """MODULE:NAME of an nn.Module, or of a function without arguments that gives one."""
    weights: Annotated[Text, Expects("the path of a .safetensors file or a state dict")]
    """Path of its weights: a .safetensors file, or a state dict by torch.save."""


class RestartedAttack(Settings):
    """The budget of an attack with restarts."""

    iterations: Count
    """Steps of each run."""
    restarts: Count
    """Runs, each from another random point."""


class SquareAttack(Settings):
    """The budget of Square."""

    queries: Count
    """Evaluations of the score for each image."""


class LinfAttackBudget(Settings):
    """The budget of the l-infinity attack on OOD confidence: one for all methods."""

    apgd: RestartedAttack
    """Auto-PGD."""
    pgd: RestartedAttack
    """Monotone PGD."""
    square: SquareAttack
    """Square, which needs no gradient."""
    draws: Count
    """Noise draws of each gradient or query, for randomised methods."""


class SanitySettings(Settings):
    """Sanity runs of the l-infinity attack: other radii and budgets, on few images."""

    images: Count
    """Images of every OOD set."""
    epsilons: Epsilons
    """l-infinity radii. They rise, have `epsilon` among them, and end with one that reaches any image."""


class CertifyL2Settings(Settings):
    """The l2 certificates of the smoothed score."""

    sigmas: Sigmas
    """Standard deviations of the noise, in the pixel scale [0, 1]."""
    radii: Radii
    """l2 radii of the certificates, in the pixel scale [0, 1]. 0 must be among them."""
    n: Count
    """Noise draws of each image and sigma; the most that `adaptive` sampling takes."""
    alpha: Alpha
    """Error probability of each single bound: per image, bound, radius and side."""
    bounds: Annotated[
        tuple[Bound, ...],
        AfterValidator(unique),
        Expects("percentile, which the figures need, and cdf, gaussian, lipschitz if wanted"),
    ]
    """Which bounds are computed: `percentile` of the median; `cdf`, `gaussian`, `lipschitz` of the mean."""
    sampling: Sampling
    """`fixed`: n draws; `adaptive`: draws until further ones would hardly change an image's share in the metrics."""
    precision: Precision = "float32"
    """Precision of the networks. `bfloat16` is meant for GPUs, and draws other noise."""


class AttackL2Settings(Settings):
    """The l2 attack on the smoothed score."""

    sigmas: Sigmas
    """Noise levels at which it attacks, among those of certify_l2."""
    iterations: Count
    """Steps of Auto-PGD at each radius."""
    restarts: CountFromZero
    """Further starts from random points of the ball."""
    draws: Count
    """Noise draws of each gradient (expectation over transformation)."""
    n: Count
    """Fresh draws on which the attacked images are judged."""


class OnePassSettings(Settings):
    """The certified ROC of the detector that takes one noisy pass a query."""

    sigmas: Sigmas
    """Standard deviations of the noise, in the pixel scale [0, 1]."""
    draws: Count
    """Noise draws of each image."""
    confidence: Annotated[Number, Field(gt=0.5, lt=1), Expects("a confidence between 0.5 and 1, such as 0.99")]
    """Probability with which each certified metric holds, at each radius of certify_l2."""


class CertifyIdSettings(Settings):
    """Certified labels of ID images."""

    sigmas: Sigmas
    """Standard deviations of the noise, in the pixel scale [0, 1]."""
    radii: Radii
    """l2 radii at which certified accuracy is reported. 0 must be among them."""
    n0: Count
    """Draws that choose the class."""
    n: Count
    """Draws that bound its probability; the most that `adaptive` sampling takes."""
    alpha: Alpha
    """Error probability of each image's radius."""
    sampling: Sampling
    """`fixed`: n draws; `adaptive`: draws until an image will not reach another of the radii."""
    precision: Precision = "float32"
    """Precision of the networks. `bfloat16` is meant for GPUs, and draws other noise."""


class _AutoAttackBudget(Settings):
    iterations: Count
    """Steps of APGD and FAB."""
    queries: CountFromZero
    """Square's queries of each image."""
    eot: Count
    """Noise draws of each gradient (expectation over transformation)."""


class StandardAutoAttack(_AutoAttackBudget):
    """AutoAttack on deterministic methods."""

    version: Annotated[Literal["standard"], Expects("standard, AutoAttack's version for deterministic methods")]
    """`standard`, AutoAttack's version for deterministic methods."""


class RandAutoAttack(_AutoAttackBudget):
    """AutoAttack on randomised methods."""

    version: Annotated[Literal["rand"], Expects("rand, AutoAttack's version for randomised methods")]
    """`rand`, AutoAttack's version for randomised methods."""


class AttackIdSettings(Settings):
    """AutoAttack on the labels of ID images."""

    epsilons: Epsilons
    """l-infinity radii."""
    deterministic: StandardAutoAttack
    """Budget for methods that are not randomised."""
    randomised: RandAutoAttack
    """Budget for randomised methods."""

    def budget_of(self, spec: MethodSpec) -> StandardAutoAttack | RandAutoAttack:
        """The budget for a method."""
        return self.randomised if spec.is_randomised else self.deterministic


class AuthorsCodeSettings(Settings):
    """What the public code of the paper's authors computes, and each of its departures corrected by itself."""

    images: Count
    """Images of every set."""
    n0: Count
    """Draws that choose the class."""
    n: Count
    """Draws that vote on it."""


class EvaluationSettings(Settings):
    """What is evaluated, and how."""

    batch_size: Count
    """Images of a forward pass. Every batch has this size: the last one is padded."""
    sigma: Sigma
    """Noise of randomised methods in the clean and l-infinity evaluations."""
    epsilon: Positive
    """l-infinity radius of the guarantee and of the attack on OOD images."""
    draws: SeveralDraws
    """Noise draws of a randomised method's score in these evaluations."""
    attack_linf: LinfAttackBudget
    """Budget of the l-infinity attack on OOD confidence."""
    sanity: SanitySettings
    """Sanity runs of that attack."""
    certify_l2: CertifyL2Settings
    """l2 certificates of the smoothed score."""
    attack_l2: AttackL2Settings
    """l2 attack on the smoothed score."""
    one_pass: OnePassSettings | None = None
    """Certified ROC of the detector that takes one noisy pass a query; null: not certified."""
    certify_id: CertifyIdSettings
    """Certified labels of ID images."""
    attack_id: AttackIdSettings
    """AutoAttack on the labels of ID images."""
    authors_code: (
        Annotated[
            AuthorsCodeSettings,
            Expects(
                "images of every set, and the draws n0 and n of its votes, such as `{images: 20, n0: 100, n: 800}`, "
                "or null"
            ),
        ]
        | None
    )
    """The authors' code and its departures, on few images of every set; null: not evaluated."""


class FigureSettings(Settings):
    """How figures look."""

    context: Annotated[
        Literal["paper", "notebook", "talk", "poster"], Expects("a seaborn context: paper, notebook, talk or poster")
    ]
    """seaborn's context: sizes of fonts and lines."""
    palette: Annotated[
        Literal["colorblind", "deep", "muted", "bright", "dark", "tab10", "Set1", "Set2", "Dark2"],
        Expects(
            "a qualitative seaborn palette: colorblind, deep, muted, bright, dark, tab10, Set1, Set2 or Dark2",
        ),
    ]
    """A qualitative palette of seaborn."""
    dpi: Annotated[Integer, Field(ge=30, le=1200), Expects("an integer between 30 and 1200")]
    """Resolution of the png files."""


def _not_a_folder(name: str) -> str:
    if name in ("reference", "downloads", "splits"):
        raise ValueError("a folder of that name holds other things")
    return name


class Config(Settings):
    """The configuration of a profile. Lengths and noise are in the pixel scale [0, 1]."""

    profile: Annotated[
        Name,
        AfterValidator(_not_a_folder),
        Expects(
            "a name of lower-case letters, digits, - and _, used in paths, other than those of folders that hold other "
            "things, reference, downloads and splits"
        ),
    ]
    """Name of the profile: results go to `results/<profile>`, figures to `figures/<profile>`."""
    seed: Annotated[Integer, Field(ge=0, le=2**63 - 1), Expects("an integer of at least 0")]
    """Seed of all random numbers but those of image sets."""
    device: Annotated[Literal["cpu", "cuda", "auto"], Expects("cpu, cuda or auto")]
    """Where networks run; `auto` takes a GPU if there is one."""
    threads: Count
    """Torch threads of a job. The last bits of results may depend on it."""
    protocol: Annotated[
        Literal["sound", "authors_code"],
        Expects("sound, or authors_code: the tables ood and headline are computed as the authors' code does"),
    ]
    """`sound`, or `authors_code`: the tables ood and headline are computed as the authors' code does."""
    shards: Size
    """Jobs that each certification and attack of a method is split into. No result depends on it."""
    chunk: Count
    """About how many passes through the networks lie between two partial results of a job. No result depends on it."""
    jobs_per_gpu: Size
    """Jobs that share a GPU, where Snakemake itself starts them. No result depends on it."""
    profile_trace: Annotated[Literal[True, False, "true", "false"], Expects("true or false, as where it is absent")] = (
        False
    )
    """Whether every job writes a trace of what torch does, of ten seconds."""
    data_mirror: Annotated[Text, Expects("a folder that holds the image sets, or null: they are downloaded")] | None
    """A folder that holds the image sets; null: sets of data/registry.csv are downloaded."""
    data: DataSettings
    """Which image sets are used, and how many images of each."""
    methods: Annotated[
        dict[Name, MethodSpec],
        Field(min_length=1),
        Expects("methods, such as `plain: {classifier: plain, discriminator: false, denoiser: false, score: msp}`"),
    ]
    """Methods: a name of your choice, and what it is made of. Tables and figures keep this order."""
    weights: Annotated[
        Literal["train", "released"], Expects("train, or released: those of data/weights.csv are imported")
    ]
    """`train`, or `released`: components with weights in data/weights.csv are imported, not trained."""
    imports: Annotated[
        dict[Name, ImportSpec],
        Expects("components of yours, such as `{mine: {network: mynets:resnet18, weights: mine.safetensors}}`, or {}"),
    ]
    """Components of yours that are not trained here, by name."""
    networks: Networks
    """The network of each component."""
    training: Training
    """How each component is trained. `denoiser` must be there: examples of it are shown in any case."""
    evaluation: EvaluationSettings
    """What is evaluated, and how."""
    figures: FigureSettings
    """How figures look."""

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, which does not find the class of `config_model` by its name."""
        return _restored, (self.as_json(),)


def _restored(values: dict[str, Any]) -> Config:
    return config_model().model_validate(values)


@cache
def recipe_model(component: str) -> type[Recipe]:
    """Recipe with the settings that the component's training file declares.

    Args:
        component: Its name.

    Returns:
        The pydantic model.

    Raises:
        InputError: if the file declares a setting of an unknown type.
    """
    declared: dict[str, Any] = {}
    for setting, kind in declared_component(component).settings.items():
        if kind not in SETTING_TYPES:
            raise InputError(
                f"workflow/oodcert/training/{component}.py declares {setting!r} of type {kind!r}, which is no type of "
                f"a setting{hint(kind, SETTING_TYPES)}. Correct SETTINGS there."
            )
        meaning = SETTING_MEANINGS.get(f"{component}.{setting}") or SETTING_MEANINGS.get(setting)
        declared[setting] = (SETTING_TYPES[kind], Field(description=meaning))
    return create_model(f"Recipe_{component}", __base__=Recipe, __doc__=Recipe.__doc__, **declared)


@cache
def config_model() -> type[Config]:
    """Config with an entry for every component that a training file declares.

    Returns:
        The class, which checks a whole configuration.

    Raises:
        InputError: if a training file declares a setting of an unknown type.
    """
    networks: dict[str, Any] = {}
    recipes: dict[str, Any] = {}
    for name, component in known_components().items():
        if name not in Networks.model_fields:
            spec = BoundedNetwork if component.bounded else NetworkSpec
            networks[name] = (spec, Field(default=None, description=f"The network of {name}."))
        recipe = recipe_model(name)
        absent = ... if name == "denoiser" else None
        recipes[name] = (recipe, Field(default=absent, description=f"The recipe of {name}."))
    return create_model(
        "Config",
        __base__=Config,
        __doc__=Config.__doc__,
        networks=(
            create_model("Networks", __base__=Networks, __doc__=Networks.__doc__, **networks),
            Field(description=Config.model_fields["networks"].description),
        ),
        training=(
            create_model("Training", __base__=Training, __doc__=Training.__doc__, **recipes),
            Field(description=Config.model_fields["training"].description),
        ),
    )
