"""The config: read, checked against the schema key by key, and checked for what a schema cannot say."""

from difflib import get_close_matches
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from oodcert.errors import InputError
from oodcert.methods import METHODS

SCHEMA = Path(__file__).parents[1] / "schemas" / "config.schema.yaml"


def load_config(path):
    """The checked config of a YAML file. Raises InputError naming the file, or the key, value and remedy."""
    try:
        config = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(
            f"The config {path} cannot be read: {error}. Give a YAML file such as config/config.yaml."
        ) from error
    return check_config(config)


def check_config(config):
    """Returns the config, a dict, if it is valid. Raises InputError naming the key, the value and the remedy."""
    schema = yaml.safe_load(SCHEMA.read_text())
    error = best_match(Draft202012Validator(schema).iter_errors(config))
    if error is not None:
        raise InputError(_explain(error))
    for method in config["methods"]:
        if method not in METHODS:
            raise InputError(f"Config key methods names {method!r}, which does not exist{_hint(method, METHODS)}.")
    certify, attack = config["evaluation"]["certify_l2"], config["evaluation"]["attack_l2"]
    for key in ("certify_l2", "certify_id"):
        if 0 not in config["evaluation"][key]["radii"]:
            raise InputError(f"Config key evaluation.{key}.radii lacks 0: add 0.0, the radius of the ID side's bounds.")
    if attack["sigma"] not in certify["sigmas"] or not set(attack["radii"]) <= set(certify["radii"]):
        raise InputError(
            f"Config key evaluation.attack_l2 has sigma {attack['sigma']} and radii {attack['radii']}, which are not "
            f"all certified (evaluation.certify_l2: sigmas {certify['sigmas']}, radii {certify['radii']}): "
            "attack where there is a certificate to compare with."
        )
    return config


def _explain(error):
    where = ".".join(str(part) for part in error.absolute_path) or "the top level"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        unknown = sorted(set(error.instance) - set(known))
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
