"""What is wrong with a config, in one sentence that names the key, the value and the remedy."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from textwrap import shorten
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from oodcert.runtime.settings import Expects

LONGEST = 500  # characters of a value in a message
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument", "invalid_key")  # pydantic's errors on unknown keys
RENAMED = {  # keys of earlier versions
    "evaluation.published": "evaluation.authors_code",
}
RENAMED_VALUES = {  # values of earlier versions, by key
    "protocol": {"published": "authors_code"},
    "weights": {"published": "released"},
}


def explain(error: ValidationError, model: type[BaseModel], config: Any) -> str:
    """One sentence on the first error of a validation: those nearest to the top come first.

    Args:
        error: what pydantic raised.
        model: the model that was to be built.
        config: the values that it was to be built from.

    Returns:
        The sentence.
    """
    errors = _causes(error.errors(include_url=False))
    details = min(errors, key=lambda one: (len(_keys(one, config)), one["type"] not in UNKNOWN))
    kind, keys = details["type"], _keys(details, config)
    siblings = [one for one in errors if _keys(one, config)[:-1] == keys[:-1]]
    where = _path(keys[:-1])
    if kind in UNKNOWN:
        unknown = [_keys(one, config)[-1] for one in siblings if one["type"] in UNKNOWN]
        renamed = [(old, RENAMED[old]) for old in (_path([*keys[:-1], key]) for key in unknown) if old in RENAMED]
        if renamed:
            return f"Config key {renamed[0][0]} is now called {renamed[0][1]}: rename it."
        known = _known(_step_all(model, details["loc"][:-1]))
        hints = "; ".join(f"{key!r}{hint(key, known)}" for key in sorted(unknown, key=str))
        return f"Unknown config key at {where}: {hints}. Remove or rename it: unknown keys are refused."
    if kind == "missing" and isinstance(keys[-1], int):  # of a list that is too short
        keys = keys[:-1]
        return _invalid({**details, "loc": details["loc"][:-1]}, keys, model)
    if kind in ("missing", "missing_argument", "union_tag_not_found"):
        names = [str(_keys(one, config)[-1]) for one in siblings if one["type"] == kind]
        if kind == "union_tag_not_found" and isinstance(details["input"], Mapping | BaseModel):
            names, where = ["name"], _path(keys)
        elif kind == "union_tag_not_found":
            return _invalid(details, keys, model)
        return f"The config lacks {', '.join(sorted(names))} at {where}: add it, as in config/config.yaml."
    return _invalid(details, keys, model)


def hint(name: object, allowed: Collection[str]) -> str:
    """In brackets the allowed name that is meant, or all of them."""
    close = get_close_matches(str(name), list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(sorted(allowed))})"


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """The errors without those on the length of a list that others follow from: invalid items do not count in it."""
    places = [one["loc"] for one in errors]
    return [
        one
        for one in errors
        if one["type"] != "too_short" or not any(place[:-1] == one["loc"] for place in places if place)
    ]


def _invalid(details: ErrorDetails, keys: list[Any], model: type[BaseModel]) -> str:
    """The sentence on a value that is not valid."""
    value, annotation = details["input"], _step_all(model, details["loc"])
    if details["type"] == "union_tag_invalid":
        keys, value = [*keys, "name"], value["name"] if isinstance(value, Mapping) else value
    renamed = RENAMED_VALUES.get(_path(keys), {}).get(value) if isinstance(value, str) else None
    if renamed:
        return f"Config key {_path(keys)} = {value!r} is now {renamed!r}: change it."
    if details["loc"] and details["loc"][-1] == "[key]":
        subject, shown = f"{_path(keys[:-1])}: the name", repr(keys[-1])
    else:
        subject, shown = f"{_path(keys)} =", repr(value)
    expects = expected(annotation) or "see config/README.md"
    if details["type"] == "union_tag_invalid":
        expects += f", one of {details['ctx']['expected_tags']}"
    why = details["msg"].removeprefix("Value error, ") if details["type"] == "value_error" else ""
    return (
        f"Config key {subject} {shorten(shown, LONGEST)} is not valid{': ' if why else ''}{shorten(why, LONGEST)}. "
        f"It expects: {expects}."
    )


def _keys(details: ErrorDetails, config: Any) -> list[Any]:
    """The keys of a place in the config: pydantic's location without the names of types and the mark of keys."""
    keys: list[Any] = []
    place: tuple[Any, ...] = details["loc"]
    if details["type"] == "invalid_key":  # whose place holds the key as a string
        place = (*place[:-1], details["input"])
    for one in place:
        if one == "[key]":
            continue
        if not isinstance(config, Mapping | list | tuple):
            continue
        missing = details["type"] in ("missing", "missing_argument")
        if isinstance(config, Mapping) and one not in config and not (missing and one == details["loc"][-1]):
            continue  # the name of a type in a union
        keys.append(one)
        if isinstance(config, Mapping):
            config = config.get(one)
        elif isinstance(config, list | tuple) and isinstance(one, int) and one < len(config):
            config = config[one]
        else:
            config = None
    return keys


def _path(keys: Iterable[Any]) -> str:
    return ".".join(map(_plain, keys)) or "the top level"


def _plain(key: object) -> str:
    """A key as it is, or as Python writes it where it would not be read as one."""
    return str(key) if str(key).isprintable() and len(str(key)) < LONGEST else shorten(repr(key), LONGEST)


def _step_all(annotation: Any, keys: Iterable[Any]) -> Any:
    """The annotation of what lies at these keys."""
    for key in keys:
        annotation = _step(annotation, key) if key != "[key]" else _key_type
    return annotation


def _step(annotation: Any, key: Any) -> Any:
    bare, _ = unwrapped(annotation)
    origin, args = get_origin(bare), get_args(bare)
    if origin in (Union, types.UnionType):
        members = [one for one in args if one is not type(None)]
        for one in members:
            inner, metadata = unwrapped(one)
            names = [getattr(tag, "tag", None) for tag in metadata]
            fields = fields_of(inner)
            literal = get_args(unwrapped(fields["name"].annotation)[0]) if "name" in fields else ()
            if key in names or key in literal:
                return one
        return _step(members[0], key) if len(members) == 1 else None
    if origin is dict:
        return args[1]
    if origin is tuple:
        return args[0] if args[-1] is Ellipsis else args[min(key, len(args) - 1)] if isinstance(key, int) else None
    field = fields_of(bare).get(key)
    if field is None:
        return None
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def unwrapped(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without Annotated, and its metadata."""
    if get_origin(annotation) is Annotated:
        bare, *metadata = get_args(annotation)
        inner, further = unwrapped(bare)
        return inner, (*metadata, *further)
    return annotation, ()


def fields_of(model: Any) -> Mapping[str, Any]:
    """The fields of a model or a pydantic dataclass by name; none of other types."""
    return getattr(model, "model_fields", None) or getattr(model, "__pydantic_fields__", None) or {}


def _known(annotation: Any) -> list[str]:
    """Names of the keys of a section."""
    bare, _ = unwrapped(annotation)
    members = [one for one in get_args(bare) if one is not type(None)] if not fields_of(bare) else [bare]
    return [name for one in members for name in fields_of(unwrapped(one)[0])]


def expected(annotation: Any) -> str:
    """What a value of a type must be, in words; "" if unknown."""
    if annotation is _key_type:
        return "a name of lower-case letters, digits, - and _, used in paths"
    bare, metadata = unwrapped(annotation)
    for one in reversed(metadata):
        if isinstance(one, Expects):
            return one.text
    for member in get_args(bare) if get_origin(bare) in (Union, types.UnionType) else ():
        if text := expected(member):
            return text
    if origin := get_origin(bare):
        return ", ".join(map(str, get_args(bare))) if origin is Literal else ""
    return f"the keys {', '.join(fields_of(bare))}" if fields_of(bare) else ""


class _key_type:
    """Stands for the key of a mapping."""
