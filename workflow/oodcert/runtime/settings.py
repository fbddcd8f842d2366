"""The base of all settings, and the types that they share: frozen, checked value by value, unknown keys refused.

Each package declares the settings that it needs with these; `oodcert.config` composes them to the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

T = TypeVar("T")


@dataclass(frozen=True)
class Expects:
    """What a value of a type must be, as messages say it."""

    text: str


class Settings(BaseModel):
    """A section of settings. The description of each field is the documentation of its key."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def changed(self, **values: Any) -> Self:
        """The same settings with other values, which are not checked.

        Args:
            values: the new values by setting. A mapping changes a subsection.

        Returns:
            A changed copy.

        Raises:
            KeyError: if a name is not that of a setting.
        """
        unknown = values.keys() - type(self).model_fields.keys()
        if unknown:
            raise KeyError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        updates = {
            key: getattr(self, key).changed(**value)
            if isinstance(value, Mapping) and isinstance(getattr(self, key), Settings)
            else value
            for key, value in values.items()
        }
        return self.model_copy(update=updates)

    def as_json(self) -> dict[str, Any]:
        """The keys that were given, with values as JSON has them."""
        return self.model_dump(mode="json", exclude_unset=True)


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values, if none of them is there twice."""
    if any(value in values[:place] for place, value in enumerate(values)):
        raise ValueError("a value is there twice")
    return values


Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Truth = Annotated[bool, Strict(), Expects("true or false")]
Text = Annotated[str, Strict(), Field(min_length=1)]

Count = Annotated[Integer, Field(ge=1, le=10**9), Expects("an integer of at least 1, and at most a billion")]
CountFromZero = Annotated[Integer, Field(ge=0, le=10**9), Expects("an integer of at least 0, and at most a billion")]
SeveralDraws = Annotated[Integer, Field(ge=2, le=10**9), Expects("an integer of at least 2, and at most a billion")]
Size = Annotated[Integer, Field(ge=1, le=10_000), Expects("an integer of at least 1, and at most 10000")]
ImageCount = Annotated[Integer, Field(ge=1, le=10**7), Expects("an integer of at least 1, and at most ten million")]
Finite = Annotated[Number, Expects("a finite number")]
Positive = Annotated[Number, Field(gt=0), Expects("a finite number above 0")]
Nonnegative = Annotated[Number, Field(ge=0), Expects("a finite number of at least 0")]
Share = Annotated[Number, Field(ge=0, le=1), Expects("a share between 0 and 1")]
Alpha = Annotated[Number, Field(gt=0, le=0.5), Expects("an error probability above 0 and at most 0.5")]
Sigma = Annotated[
    Number,
    Field(ge=0.01, le=10),
    Expects("a noise level between 0.01 and 10, which every denoiser's schedule covers"),
]
Name = Annotated[
    str,
    Strict(),
    Field(pattern=r"\A[a-z0-9][a-z0-9_-]*\z", max_length=100),
    Expects("a name of lower-case letters, digits, - and _, used in paths"),
]
Sigmas = Annotated[
    tuple[Sigma, ...],
    Field(min_length=1),
    AfterValidator(unique),
    Expects("a list of noise levels between 0.01 and 10"),
]
Epsilons = Annotated[
    tuple[Positive, ...], Field(min_length=1), AfterValidator(unique), Expects("a list of l-infinity radii above 0")
]
Radii = Annotated[
    tuple[Nonnegative, ...], Field(min_length=1), AfterValidator(unique), Expects("a list of radii of at least 0")
]
