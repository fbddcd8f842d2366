"""What one evaluation is: its rows, its image sets, its settings, its cost, and the function that computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import pyarrow as pa

from oodcert.config.models import Config
from oodcert.evaluations.cost import Cost
from oodcert.evaluations.settings import NetworkJob

Side = Literal["id", "ood"]
TYPES = {"str": pa.large_string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}


@dataclass(frozen=True)
class Quantity:
    """A quantity of an evaluation that is computed by itself: its name and the image sets it is of."""

    name: str
    sides: tuple[Side, ...]


@dataclass(frozen=True)
class EvaluationSpec:
    """An evaluation. Sharding, partial results, planning, rules and the audit read here what they need.

    Attributes:
        name: of the evaluation: of its rule, and of its folder of evidence.
        message: what its job does, for the terminal; {} stands for the method.
        function: "module:name" of the function that computes it, from one Evaluation or, if methods are evaluated
            together, from several.
        schema: all columns and their types, in order.
        optional: columns of the schema that rows have only where the config asks for them.
        keys: columns that tell the rows of an image apart.
        order: columns whose values group the rows, the outermost first; the images come last.
        sides: the image sets that it runs on.
        settings: from the config and the method's name, what decides its rows.
        cost: from the config and the method's name, what it costs.
        whole_batches: the least number of a set's images that fill batches, from the config and the method's name.
            Results do not depend on where a set is divided between such numbers. None: it is never divided.
        images: how many images of each set it evaluates.
        needs_id_rows: whether the rows of OOD images depend on those of all ID images.
        quantities: those that are computed by themselves; () if there is a single one.
        has_quantity: whether a quantity is computed of a side's sets, for the method of that name.
        methods: whether it is of each method, or of none.
        priority: of its jobs; the longest ones start first.
        minutes: that a cluster grants its job at first.
        megabytes: of memory that its job asks for at first.
    """

    name: str
    message: str
    function: str
    schema: pa.Schema
    keys: tuple[str, ...]
    order: tuple[str, ...]
    sides: tuple[Side, ...]
    settings: Callable[[Config, str], NetworkJob]
    cost: Callable[[Config, str], Cost]
    whole_batches: Callable[[Config, str], int] | None = None
    images: Callable[[Config], int] = lambda config: config.data.test_images
    needs_id_rows: Callable[[Config], bool] = lambda config: False
    quantities: tuple[Quantity, ...] = ()
    has_quantity: Callable[[str, Side, Config, str], bool] = lambda quantity, side, config, method: True
    optional: tuple[str, ...] = ()
    methods: bool = True
    priority: int = 0
    minutes: int = 1440
    megabytes: int = 2000

    def load(self) -> Callable[..., Any]:
        """The function that computes the evaluation. Imports torch."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)  # type: ignore[no-any-return]

    def sets_of(self, config: Config) -> Iterator[str]:
        """Names of its image sets: "id" and those of data.ood."""
        for side in self.sides:
            yield from (["id"] if side == "id" else config.data.ood)


def schema(columns: str) -> pa.Schema:
    """The schema of an evaluation's rows, which begin with the columns method, set and sample.

    Args:
        columns: the other columns, as "name:type name:type …". Types are str, int, float and bool.

    Returns:
        The schema of all columns.
    """
    pairs = (column.split(":") for column in f"method:str set:str sample:int {columns}".split())
    return pa.schema([(name, TYPES[kind]) for name, kind in pairs])
