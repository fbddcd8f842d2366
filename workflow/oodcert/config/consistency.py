"""What the keys of a config must have in common."""

from __future__ import annotations

from oodcert.config.components import declared_component, known_components
from oodcert.config.explain import hint
from oodcert.config.external_weights import Import, imported
from oodcert.config.method_specs import MethodSpec, needed_components
from oodcert.config.models import Config, EvaluationSettings, MLPDenoiser, UNetDenoiser
from oodcert.data.noise_sets import NOISE
from oodcert.data.registry import entry_of, registry
from oodcert.data.settings import DataSettings
from oodcert.data.sources import BUNDLED, RESERVED, bundled, named
from oodcert.errors import InputError


def check_consistency(config: Config) -> None:
    """Checks what single keys cannot say: components, image sets, radii and noise levels that belong together.

    Args:
        config: one whose values are each valid.

    Raises:
        InputError: naming the key, the value and the remedy.
    """
    _check_methods(config)
    _check_radii(config.evaluation)
    _check_images(config.data)
    _check_authors_code(config)
    _check_sanity(config.evaluation)
    _check_denoiser(config)


def _check_radii(evaluation: EvaluationSettings) -> None:
    for key, radii in (("certify_l2", evaluation.certify_l2.radii), ("certify_id", evaluation.certify_id.radii)):
        if 0 not in radii:
            raise InputError(f"Config key evaluation.{key}.radii lacks 0: add 0.0, the radius of the ID side's bounds.")
    if "percentile" not in evaluation.certify_l2.bounds:
        raise InputError(
            f"Config key evaluation.certify_l2.bounds = {[*evaluation.certify_l2.bounds]} is not valid: it lacks "
            "percentile, which the figures need. Add it."
        )
    certified = evaluation.certify_l2.sigmas
    for key, settings in (("attack_l2", evaluation.attack_l2), ("one_pass", evaluation.one_pass)):
        if settings is not None and not set(settings.sigmas) <= set(certified):
            raise InputError(
                f"Config key evaluation.{key}.sigmas = {[*settings.sigmas]} are not all among those of "
                f"evaluation.certify_l2, {[*certified]}, with whose certificates the results are compared: take some."
            )


def _check_methods(config: Config) -> None:
    """Whether every method is made of components that exist and are trained or imported, and fit together."""
    imports = imported(config)
    for name in config.imports.keys() - imports.keys():
        raise InputError(
            f"Config key imports.{name} is no component of any method: name it as a classifier, or remove it."
        )
    if "classifier" in imports:
        raise InputError("Config key imports.classifier: that name is the default network's. Choose another one.")
    if "denoiser" not in imports:
        _check_start("denoiser", config)
    for method, spec in config.methods.items():
        _check_method(f"Config key methods.{method}", spec, config, imports)


def _check_method(where: str, spec: MethodSpec, config: Config, imports: dict[str, Import]) -> None:
    classifier, classifiers = spec.classifier, known_components().keys() - {"discriminator", "denoiser"}
    if classifier not in classifiers | imports.keys():
        raise InputError(
            f"{where}.classifier = {classifier!r} is no classifier that a file of workflow/oodcert/training trains"
            f"{hint(classifier, classifiers)}, nor one under imports."
        )
    for name in _to_be_trained(spec, config, imports, where):
        if declared_component(name).bounded and name not in config.networks.model_fields_set:
            raise InputError(
                f"{where} needs the component {name!r}, which is trained on interval bounds: add networks.{name} to "
                "the config, such as {name: ibp_cnn_xl, width: 8}, since that of classifier may have batch norm."
            )
    if spec.discriminator and spec.score != "msp":
        raise InputError(
            f"{where}: with a discriminator the score is msp, not {spec.score!r}, for its network gives "
            "log-probabilities."
        )
    if classifier not in known_components():
        return
    extra = declared_component(classifier).extra_outputs
    if (spec.score == "atom") != bool(extra):
        raise InputError(
            f"{where}: the score {spec.score!r} does not suit the classifier {classifier!r}, which has "
            f"{extra} outputs beside the classes. The score atom, and no other, needs one (of a class of outliers)."
        )


def _to_be_trained(spec: MethodSpec, config: Config, imports: dict[str, Import], where: str) -> list[str]:
    """The components to be trained for a method, if all of them are in the config and can start as it says."""
    waiting, names = spec.components, []
    while waiting:
        name = waiting.pop()
        if name in imports or name in names:
            continue
        if name not in config.training:
            raise InputError(f"{where} needs the component {name!r}: add training.{name} to the config.")
        _check_start(name, config)
        names.append(name)
        waiting += needed_components(name, config.training)
    return names


def _check_start(name: str, config: Config) -> None:
    """Whether a component can start from the one that its recipe names: a classifier with the same network."""
    start = config.training[name].start_from
    if start is None:
        return
    where, others = f"Config key training.{name}.start_from = {start!r}", ("discriminator", "denoiser")
    chained = start in config.training and config.training[start].start_from
    if name in others or start in others or chained:
        raise InputError(f"{where}: only a classifier starts from another one, which starts from nothing itself.")
    if start not in config.training:
        raise InputError(f"{where}: add training.{start} to the config, or name a component that is there.")
    if config.networks.spec_of(name) != config.networks.spec_of(start):
        raise InputError(f"{where}: the two have different networks. Give them the same, or start from null.")
    if declared_component(start).extra_outputs > declared_component(name).extra_outputs:
        raise InputError(
            f"{where}: that one has more outputs. Start from a component that has none beside the classes."
        )


def _check_images(data: DataSettings) -> None:
    """Whether the numbers of images go together, and every name under own or unavailable has a meaning."""
    if data.accuracy_images < data.test_images:
        raise InputError(
            f"Config key data.accuracy_images = {data.accuracy_images} is less than data.test_images = "
            f"{data.test_images}, which are among them: raise it."
        )
    for name, split in named(data):
        if name not in data.own and not bundled(name, split):
            entry_of(name, split)
    used = {data.id, data.outliers, *data.ood}
    for key, names, allowed in (("own", data.own, used), ("unavailable", data.unavailable, set(data.ood))):
        for name in names.keys() - allowed:
            raise InputError(
                f"Config key data.{key}.{name} is not used{hint(name, allowed)}: name it under data.ood, or remove it."
            )
    for name in data.own:
        if name in (*NOISE, *RESERVED) or any(name == known for known, _ in [*BUNDLED, *registry()]):
            raise InputError(f"Config key data.own.{name}: that name means something else already. Choose another one.")
    if len(used) < 2 + len(data.ood):
        raise InputError("Config keys data.id, data.outliers and data.ood name a set twice: each needs another one.")


def _check_sanity(evaluation: EvaluationSettings) -> None:
    """Whether the sanity runs' radii rise, through the attack's own, to one that reaches every image."""
    epsilons, epsilon = [*evaluation.sanity.epsilons], evaluation.epsilon
    if epsilons != sorted(epsilons) or epsilon not in epsilons or epsilons[-1] < 1:
        raise InputError(
            f"Config key evaluation.sanity.epsilons = {epsilons}: let them rise, with evaluation.epsilon = {epsilon} "
            "among them and with 1.0, at which a perturbation can reach any image, as the last."
        )


def _check_authors_code(config: Config) -> None:
    """Whether the authors' code can be evaluated, and compared with the sound protocol on the same images."""
    evaluation = config.evaluation
    settings, sigma = evaluation.authors_code, evaluation.sigma
    if settings is None:
        if config.protocol == "authors_code":
            raise InputError(
                "Config key protocol = 'authors_code' needs the evidence of the authors' code: give "
                "evaluation.authors_code its settings, such as {images: 20, n0: 100, n: 800}, or set protocol to sound."
            )
        return
    if settings.images > config.data.test_images:
        raise InputError(
            f"Config key evaluation.authors_code.images = {settings.images}: there are {config.data.test_images} "
            "of every set (data.test_images). Lower it."
        )
    for key, sigmas in (("certify_l2", evaluation.certify_l2.sigmas), ("certify_id", evaluation.certify_id.sigmas)):
        if sigma not in sigmas:
            raise InputError(
                f"Config key evaluation.{key}.sigmas lacks evaluation.sigma = {sigma}, at which the authors' code "
                "is compared with the sound protocol: add it, or set evaluation.authors_code to null."
            )


def _check_denoiser(config: Config) -> None:
    """Whether the images divide into the patches of a UNet, and the patches' grid into its levels."""
    denoiser, (_, height, width) = config.networks.denoiser, config.data.image_shape
    if isinstance(denoiser, MLPDenoiser):
        return
    assert isinstance(denoiser, UNetDenoiser)
    patch, levels = denoiser.patch, len(denoiser.channels)
    if height % patch or width % patch:
        raise InputError(
            f"Config key networks.denoiser.patch = {patch} does not divide the images' height {height} and width "
            f"{width} (data.image_shape): use a common divisor of both."
        )
    halvings = levels - 1
    if height // patch % 2**halvings or width // patch % 2**halvings:
        raise InputError(
            f"Config key networks.denoiser.channels = {[*denoiser.channels]} has {levels} levels, which halve a grid "
            f"of {height // patch} x {width // patch} patches {halvings} times (data.image_shape over "
            "networks.denoiser.patch): give fewer channels or a smaller patch, so that every halving is even."
        )
