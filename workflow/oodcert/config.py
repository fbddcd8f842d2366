"""The config: read, checked against the schema key by key, and checked for what a schema cannot say."""

from difflib import get_close_matches
from math import isfinite
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

from oodcert.errors import InputError
from oodcert.methods import METHODS

SCHEMA = Path(__file__).parents[1] / "schemas" / "config.schema.yaml"


def _is_integer(_, value):
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_, value):
    return _is_integer(_, value) or (isinstance(value, float) and isfinite(value))


# JSON Schema counts 8.0 as an integer, and Python's validator NaN and infinities as numbers; a config may not
Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number}),
)


def check_config(config):
    """Returns the config, a dict, if it is valid. Raises InputError naming the key, the value and the remedy."""
    schema = yaml.safe_load(SCHEMA.read_text())
    error = best_match(Validator(schema).iter_errors(config))
    if error is not None:
        raise InputError(_explain(error))
    for method in config["methods"]:
        if method not in METHODS:
            raise InputError(f"Config key methods names {method!r}, which does not exist{_hint(method, METHODS)}.")
    certify, attack = config["evaluation"]["certify_l2"], config["evaluation"]["attack_l2"]
    for key in ("certify_l2", "certify_id"):
        if 0 not in config["evaluation"][key]["radii"]:
            raise InputError(f"Config key evaluation.{key}.radii lacks 0: add 0.0, the radius of the ID side's bounds.")
    if not set(attack["sigmas"]) <= set(certify["sigmas"]):
        raise InputError(
            f"Config key evaluation.attack_l2.sigmas = {attack['sigmas']} are not all among "
            f"those of evaluation.certify_l2, {certify['sigmas']}: attack where there is a certificate to compare with."
        )
    _check_denoiser(config)
    return config


def _check_denoiser(config):
    """Whether the images divide into the denoiser's patches, and the patches' grid into its levels."""
    denoiser, (_, height, width) = config["networks"]["denoiser"], config["data"]["image_shape"]
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
    where = ".".join(str(part) for part in error.absolute_path) or "the top level"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = sorted(set(error.instance) - set(known), key=str)
        hints = "; ".join(f"{key!r}{_hint(key, known)}" for key in unknown)
        return f"Unknown config key at {where}: {hints}. Remove or rename it: unknown keys are refused."
    if error.validator == "required":
        missing = sorted(set(error.schema["required"]) - set(error.instance))
        return f"The config lacks {', '.join(missing)} at {where}: add it, as in config/config.yaml."
    expects = error.schema.get("description", "see workflow/schemas/config.schema.yaml")
    return f"Config key {where} = {error.instance!r} is not valid: {error.message}. It expects: {expects}."


def _hint(name, allowed):
    close = get_close_matches(str(name), list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(sorted(allowed))})"
