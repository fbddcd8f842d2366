"""The config: read, checked against the schema key by key, and checked for what a schema cannot say."""

from difflib import get_close_matches
from functools import cache
from math import isfinite
from textwrap import shorten

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from oodcert import paths
from oodcert.config.components import declared, known_components
from oodcert.config.external_weights import imported
from oodcert.config.method_specs import components_of, needed_components
from oodcert.config.safe_yaml import oversized, read_yaml
from oodcert.data.noise_sets import NOISE
from oodcert.data.registry import entry_of, registry
from oodcert.data.sources import BUNDLED, RESERVED, bundled, named
from oodcert.errors import InputError

SCHEMA = paths.SCHEMAS / "config.schema.yaml"
YTE = "__use_yte__"
LONGEST = 500  # characters of a value in a message


def _is_integer(_, value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_, value):
    return _is_integer(_, value) or (isinstance(value, float) and isfinite(value))


# JSON Schema counts 8.0 as an integer, and Python's validator NaN and infinities as numbers; a config may not
Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number}),
)


def read_configs(paths):
    """The checked config of YAML files, later ones over earlier ones, as `snakemake --configfile A B` has it: mappings
    are merged key by key, other values replaced. Raises InputError on unreadable files, and as check_config does."""
    config = {}
    for path in paths:
        found = read_yaml(path)
        if not isinstance(found, dict):
            raise InputError(f"Config {path} holds {type(found).__name__}, not keys: see config/config.yaml.")
        if YTE in found:
            raise InputError(
                f"Config {path} has the key {YTE}, with which snakemake would run expressions in it as Python. Take it "
                "away, and read the file before you hand it to snakemake."
            )
        config = _merged(config, found)
    return check_config(config)


def _merged(config, changes):
    config = dict(config) if isinstance(config, dict) else {}
    for key, value in changes.items():
        config[key] = _merged(config.get(key), value) if isinstance(value, dict) else value
    return config


def check_config(config):
    """Returns the config, a dict, if it is valid. Raises InputError naming the key, the value and the remedy."""
    fault = oversized(config)
    if fault:
        raise InputError(f"The config can't be used: {fault}. See config/config.yaml for what it needs.")
    error = best_match(Validator(schema()).iter_errors(config))
    if error is not None:
        raise InputError(_explain(error))
    _check_methods(config)
    certify, attack = config["evaluation"]["certify_l2"], config["evaluation"]["attack_l2"]
    for key in ("certify_l2", "certify_id"):
        if 0 not in config["evaluation"][key]["radii"]:
            raise InputError(f"Config key evaluation.{key}.radii lacks 0: add 0.0, the radius of the ID side's bounds.")
    if not set(attack["sigmas"]) <= set(certify["sigmas"]):
        raise InputError(
            f"Config key evaluation.attack_l2.sigmas = {attack['sigmas']} are not all among "
            f"those of evaluation.certify_l2, {certify['sigmas']}: attack where there is a certificate to compare with."
        )
    _check_images(config["data"])
    _check_published(config)
    _check_sanity(config["evaluation"])
    _check_denoiser(config)
    return config


@cache
def schema():
    """The config's JSON schema: the file, and what every training file declares as its part's settings."""
    found = yaml.safe_load(SCHEMA.read_text())
    types, networks, training = found["$defs"], found["properties"]["networks"], found["properties"]["training"]
    for name, part in known_components().items():
        for setting, kind in part.settings.items():
            if kind not in types:
                raise InputError(
                    f"workflow/oodcert/training/{name}.py declares {setting!r} of type {kind!r}, which is not among "
                    f"the $defs of {SCHEMA.name}{_hint(kind, types)}."
                )
        kind = "bounded_network" if part.bounded else "network"
        networks["properties"].setdefault(name, {"$ref": f"#/$defs/{kind}"})
        training.setdefault("properties", {})[name] = {
            **types["recipe"],
            "required": [*types["recipe"]["required"], *part.settings],
            "properties": types["recipe"]["properties"]
            | {setting: {"$ref": f"#/$defs/{kind}"} for setting, kind in part.settings.items()},
        }
    networks["additionalProperties"] = training["additionalProperties"] = False
    return found


def _check_methods(config):
    """Whether every method is made of parts that exist and are trained or imported, and fit together."""
    imports = imported(config)
    for name in config["imports"].keys() - imports.keys():
        raise InputError(f"Config key imports.{name} is no part of any method: name it as a classifier, or remove it.")
    if "classifier" in imports:
        raise InputError("Config key imports.classifier: that name is the default network's. Choose another one.")
    if "denoiser" not in imports:
        _check_start("denoiser", config)
    for method, method_spec in config["methods"].items():
        where, classifier = f"Config key methods.{method}", method_spec["classifier"]
        classifiers = known_components().keys() - {"discriminator", "denoiser"}
        if classifier not in classifiers | imports.keys():
            raise InputError(
                f"{where}.classifier = {classifier!r} is no classifier that a file of workflow/oodcert/training trains"
                f"{_hint(classifier, classifiers)}, nor one under imports."
            )
        for name in _trained(method_spec, config, imports, where):
            if declared(name).bounded and name not in config["networks"]:
                raise InputError(
                    f"{where} needs the part {name!r}, which is trained on interval bounds: add networks.{name} to the "
                    "config, such as {name: ibp_cnn_xl, width: 8}, since that of classifier may have batch norm."
                )
        if method_spec["discriminator"] and method_spec["score"] != "msp":
            raise InputError(
                f"{where}: with a discriminator the score is msp, not {method_spec['score']!r}, for its network gives "
                "log-probabilities."
            )
        if classifier not in known_components():
            continue
        extra = declared(classifier).extra_outputs
        if (method_spec["score"] == "atom") != bool(extra):
            raise InputError(
                f"{where}: the score {method_spec['score']!r} does not suit the classifier {classifier!r}, which has "
                f"{extra} outputs beside the classes. The score atom, and no other, needs one (of a class of outliers)."
            )


def _trained(method_spec, config, imports, where):
    """The parts to be trained for a method, if all of them are in the config's training and can start as it says."""
    waiting, found = [*components_of(method_spec)], {}
    while waiting:
        name = waiting.pop()
        if name in imports or name in found:
            continue
        if name not in config["training"]:
            raise InputError(f"{where} needs the part {name!r}: add training.{name} to the config.")
        _check_start(name, config)
        found[name] = True
        waiting += needed_components(name, config["training"])
    return found


def _check_start(name, config):
    """Whether a part can start from the one that its training names: a classifier with the same network."""
    start, networks = config["training"][name]["start_from"], config["networks"]
    if start is None:
        return
    where, others = f"Config key training.{name}.start_from = {start!r}", ("discriminator", "denoiser")
    if name in others or start in others or config["training"].get(start, {}).get("start_from"):
        raise InputError(f"{where}: only a classifier starts from another one, which starts from nothing itself.")
    if start not in config["training"]:
        raise InputError(f"{where}: add training.{start} to the config, or name a part that is there.")
    if networks.get(name, networks["classifier"]) != networks.get(start, networks["classifier"]):
        raise InputError(f"{where}: the two have different networks. Give them the same, or start from null.")
    if declared(start).extra_outputs > declared(name).extra_outputs:
        raise InputError(f"{where}: that one has more outputs. Start from a part that has none beside the classes.")


def _check_images(data):
    """Whether the numbers of images go together, and every name under own or unavailable has a meaning."""
    if data["accuracy_images"] < data["test_images"]:
        raise InputError(
            f"Config key data.accuracy_images = {data['accuracy_images']} is less than data.test_images = "
            f"{data['test_images']}, which are among them: raise it."
        )
    for name, split in named(data):
        if name not in data["own"] and not bundled(name, split):
            entry_of(name, split)
    used = {data["id"], data["outliers"], *data["ood"]}
    for key, allowed in (("own", used), ("unavailable", set(data["ood"]))):
        for name in data[key].keys() - allowed:
            raise InputError(
                f"Config key data.{key}.{name} is not used{_hint(name, allowed)}: name it under data.ood, or remove it."
            )
    for name in data["own"]:
        if name in (*NOISE, *RESERVED) or any(name == known for known, _ in [*BUNDLED, *registry()]):
            raise InputError(f"Config key data.own.{name}: that name means something else already. Choose another one.")
    if len(used) < 2 + len(data["ood"]):
        raise InputError("Config keys data.id, data.outliers and data.ood name a set twice: each needs another one.")


def _check_sanity(evaluation):
    """Whether the sanity runs' radii rise, through the attack's own, to one that reaches every image."""
    epsilons, epsilon = evaluation["sanity"]["epsilons"], evaluation["epsilon"]
    if epsilons != sorted(epsilons) or epsilon not in epsilons or epsilons[-1] < 1:
        raise InputError(
            f"Config key evaluation.sanity.epsilons = {epsilons}: let them rise, with evaluation.epsilon = {epsilon} "
            "among them and with 1.0, at which a perturbation can reach any image, as the last."
        )


def _check_published(config):
    """Whether the published protocol can be evaluated, and compared with the sound one on the same images."""
    evaluation = config["evaluation"]
    settings, sigma = evaluation["published"], evaluation["sigma"]
    if settings is None:
        if config["protocol"] == "published":
            raise InputError(
                "Config key protocol = 'published' needs the published protocol's evidence: give evaluation.published "
                "its settings, such as {images: 20, n0: 100, n: 800}, or set protocol to sound."
            )
        return
    if settings["images"] > config["data"]["test_images"]:
        raise InputError(
            f"Config key evaluation.published.images = {settings['images']}: there are {config['data']['test_images']} "
            "of every set (data.test_images). Lower it."
        )
    for key in ("certify_l2", "certify_id"):
        if sigma not in evaluation[key]["sigmas"]:
            raise InputError(
                f"Config key evaluation.{key}.sigmas lacks evaluation.sigma = {sigma}, at which the published protocol "
                "is compared with the sound one: add it, or set evaluation.published to null."
            )


def _check_denoiser(config):
    """Whether the images divide into the patches of a UNet, and the patches' grid into its levels."""
    denoiser, (_, height, width) = config["networks"]["denoiser"], config["data"]["image_shape"]
    if "name" in denoiser:
        return
    patch, levels = denoiser["patch"], len(denoiser["channels"])
    if height % patch or width % patch:
        raise InputError(
            f"Config key networks.denoiser.patch = {patch} does not divide the images' height {height} and width "
            f"{width} (data.image_shape): use a common divisor of both."
        )
    halvings = levels - 1
    if height // patch % 2**halvings or width // patch % 2**halvings:
        raise InputError(
            f"Config key networks.denoiser.channels = {denoiser['channels']} has {levels} levels, which halve a grid "
            f"of {height // patch} x {width // patch} patches {halvings} times (data.image_shape over "
            "networks.denoiser.patch): give fewer channels or a smaller patch, so that every halving is even."
        )


def _explain(error):
    where = ".".join(map(_plain, error.absolute_path)) or "the top level"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = sorted(set(error.instance) - set(known), key=str)
        hints = "; ".join(f"{key!r}{_hint(key, known)}" for key in unknown)
        return f"Unknown config key at {where}: {hints}. Remove or rename it: unknown keys are refused."
    if error.validator == "required":
        missing = sorted(set(error.schema["required"]) - set(error.instance))
        return f"The config lacks {', '.join(missing)} at {where}: add it, as in config/config.yaml."
    expects = error.schema.get("description", "see workflow/schemas/config.schema.yaml")
    subject = f"{where}: the name" if "propertyNames" in error.absolute_schema_path else f"{where} ="
    value, message = (shorten(text, LONGEST) for text in (repr(error.instance), error.message))
    return f"Config key {subject} {value} is not valid: {message}. It expects: {expects}."


def _plain(key):
    """A key as it is, or as Python writes it where it would not be read as one."""
    return str(key) if str(key).isprintable() and len(str(key)) < LONGEST else shorten(repr(key), LONGEST)


def _hint(name, allowed):
    close = get_close_matches(str(name), list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(sorted(allowed))})"
