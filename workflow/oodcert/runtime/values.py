"""Numbers and arrays as callers give them: converted where they have one meaning, else refused. Imports no torch."""

from collections.abc import Callable, Iterable, Mapping, Set
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodcert.errors import InputError

EXACT_FLOATS = 2**53  # from here on floats skip whole numbers
ID_LIMIT = 2**63  # the ids that a signed 64-bit integer holds are below it


def number(name: str, value: Any, valid: Callable[[float], bool], needed: str) -> float:
    """A number as a float.

    Args:
        name: Of the argument; the message names it.
        value: A number of Python, numpy or torch. Booleans and text are none.
        valid: Whether a float will do.
        needed: What is needed, in words.

    Returns:
        The number.

    Raises:
        InputError: The value is no such number.
    """
    scalar = _scalar(value)
    if scalar is None or not valid(float(scalar)):
        raise InputError(f"{name} = {_shown(value)}: {needed}.")
    return float(scalar) + 0.0  # no negative zero


def whole_number(name: str, value: Any, valid: Callable[[int], bool], needed: str) -> int:
    """A whole number as an int; 1e4 counts as one.

    Args:
        name: Of the argument; the message names it.
        value: A number of Python, numpy or torch without a fraction. Booleans and text are none.
        valid: Whether an int will do.
        needed: What is needed, in words.

    Returns:
        The number.

    Raises:
        InputError: The value is no such number.
    """
    whole = _whole(_scalar(value))
    if whole is None or not valid(whole):
        raise InputError(f"{name} = {_shown(value)}: {needed}.")
    return whole


def numbers(name: str, values: Any, valid: Callable[[float], bool], needed: str) -> list[float]:
    """Different numbers, in their order; one number alone counts as a list of it.

    Args:
        name: Of the argument; the message names it.
        values: A number, or an iterable of numbers.
        valid: Whether a float will do.
        needed: What is needed, in words.

    Returns:
        The numbers, each once; at least one.

    Raises:
        InputError: There are none, or one is no such number.
    """
    items = [values] if _scalar(values) is not None else _items(values)
    if not items:
        raise InputError(f"{name} = {_shown(values)}: {needed}.")
    return list(dict.fromkeys(number(name, one, valid, needed) for one in items))


def whole_numbers(name: str, values: Any, count: int, needed: str) -> list[int]:
    """Whole numbers in [0, 2**63), one an image, by position.

    Args:
        name: Of the argument; the message names it.
        values: A list, an array, a tensor or a pandas Series, [N] or [N, 1]. The index of a Series plays no part.
        count: N.
        needed: What is needed, in words.

    Returns:
        N ints.

    Raises:
        InputError: There are more or fewer, or one is no such number.
    """
    items = _items(values)
    if items is None:
        raise InputError(f"{name} = {_shown(values)}: {needed}.")
    if len(items) != count:
        raise InputError(f"{len(items)} {name} for {count} images: {needed}.")
    wholes = [_whole(_scalar(one)) for one in items]
    for item, whole in zip(items, wholes, strict=True):
        if whole is None or not 0 <= whole < ID_LIMIT:
            raise InputError(f"{name} hold {_shown(item)}: {needed}.")
    return [one for one in wholes if one is not None]


def score_array(name: str, values: Any) -> NDArray[np.float64]:
    """Scores as an array.

    Args:
        name: Of the scores; the message names it.
        values: A list, an array, a tensor or a pandas Series of real numbers, [N] or [N, 1].

    Returns:
        float64 [N].

    Raises:
        InputError: They have another shape or type.
    """
    needed = "give real numbers [N], one an image"
    array = _array(values)
    if array is None or array.dtype.kind not in "fiu":
        kind = type(values).__name__ if array is None else array.dtype
        raise InputError(f"The {name} scores are of type {kind}: {needed}.")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(f"The {name} scores have the shape {array.shape}: {needed}.")
    if array.dtype.kind in "iu" and array.size and int(np.abs(array.astype(object)).max()) > EXACT_FLOATS:
        raise InputError(f"The {name} scores hold integers beyond 2**53, which floats do not tell apart: rescale them.")
    return np.ascontiguousarray(array, np.float64)


def _array(values: Any) -> NDArray[Any] | None:
    """A numpy array of the values, on the host; None where there is none, as of ragged lists and masked values."""
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        return None
    try:
        array = np.asarray(values)
    except Exception:  # it is anything
        array = np.empty(0, object)
    if array.dtype.kind != "O":
        return array
    scalars = [_scalar(one) for one in _items(values) or [None]]
    return None if None in scalars else np.array(scalars)


def _items(values: Any) -> list[Any] | None:
    """The values [N] or [N, 1] of an iterable by position; None for what is none. A set has no order."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    if hasattr(values, "to_numpy") and getattr(values, "ndim", 1) != 1:  # a table of pandas
        values = values.to_numpy()
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        return None
    items = list(values)
    columns = [isinstance(one, list | tuple) and len(one) == 1 for one in items]
    return [one[0] for one in items] if items and all(columns) else items


def _scalar(value: Any) -> int | float | None:
    """The Python number that a value is; None for all else, booleans included."""
    if hasattr(value, "detach"):
        value = value.detach()
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "item") and tuple(shape) in ((), (1,)):
        value = value.item()
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real | Fraction) else None


def _whole(scalar: int | float | None) -> int | None:
    if isinstance(scalar, float):
        return int(scalar) if scalar.is_integer() and abs(scalar) < EXACT_FLOATS else None
    return scalar


def _shown(value: Any) -> str:
    """The value in at most a line."""
    scalar = _scalar(value)
    text = " ".join(repr(value if scalar is None or isinstance(value, str) else scalar).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
