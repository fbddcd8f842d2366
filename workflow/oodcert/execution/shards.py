"""How an evaluation is divided: in shards, each a job of its own, and in portions, after which a job can resume.

No result depends on it. Noise is keyed by image, and portions end between batches, so that every batch holds what it
would hold anyway; with adaptive sampling it has the same shape, at least. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from oodcert.config.method_specs import computed_with
from oodcert.config.models import Config
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evaluations.spec import EvaluationSpec, Side
from oodcert.execution.cost import BACKWARD, evaluation_job

Spans = dict[str, tuple[int, int]]  # image set -> its images start to stop - 1
Portion = dict[str | None, Spans]  # quantity -> Spans


class Cell(NamedTuple):
    """What is never divided: images start to stop - 1 of a set, which fill batches.

    quantity: one of those of the evaluation, or None if there is a single one.
    """

    quantity: str | None
    name: str
    start: int
    stop: int


def cells(config: Config, evaluation: str, method: str) -> dict[str, list[Cell]]:
    """What is never divided of an evaluation, by phase.

    Args:
        config: with data.ood as it is available.
        evaluation: its name.
        method: its name.

    Returns:
        Phase -> its cells, in order. The phase is "all", or "id" before "ood" if sampling on OOD images needs all ID
        bounds.
    """
    spec = EVALUATIONS[evaluation]
    by_side: dict[str, list[Cell]] = {side: _cells_of_side(config, spec, method, side) for side in spec.sides}
    if spec.needs_id_rows(config):
        return by_side
    if not spec.quantities:
        return {"all": [*chain(*by_side.values())]}
    every = [cell for cells in by_side.values() for cell in cells]
    return {"all": [cell for quantity in spec.quantities for cell in every if cell.quantity == quantity.name]}


def _cells_of_side(config: Config, spec: EvaluationSpec, method: str, side: Side) -> list[Cell]:
    assert spec.whole_batches is not None
    names = ["id"] if side == "id" else list(config.data.ood)
    size, images = spec.whole_batches(config, method), spec.images(config)
    quantities: list[str | None] = [
        quantity.name
        for quantity in spec.quantities
        if side in quantity.sides and spec.has_quantity(quantity.name, side, config, method)
    ]
    return [
        Cell(quantity, name, start, min(start + size, images))
        for quantity in (quantities if spec.quantities else [None])
        for name in names
        for start in range(0, images, size)
    ]


def shards(config: Config, evaluation: str, method: str) -> dict[str, list[str]]:
    """The shards of an evaluation: as many a phase as config.shards, but no empty one.

    Args:
        config: with data.ood as it is available.
        evaluation: its name.
        method: its name.

    Returns:
        Phase -> names of its shards, "<phase>-<i>-of-<k>".
    """
    names = {}
    for phase, all_cells in cells(config, evaluation, method).items():
        count = min(config.shards, len(all_cells))
        names[phase] = [f"{phase}-{index + 1}-of-{count}" for index in range(count)]
    return names


def portions(config: Config, evaluation: str, method: str, shard: str | None = None) -> dict[str, list[Portion]]:
    """Phase -> its portions, in order, of about config.chunk passes each.

    Methods that are computed together have the same portions, by the passes of all of them.

    Args:
        config: the config.
        evaluation: its name.
        method: its name.
        shard: the name of one, whose portions alone are given.

    Returns:
        The portions by phase.
    """
    whole = cells(config, evaluation, method)
    if shard is not None:
        whole = {shard.split("-")[0]: _cells_of(shard, whole)}
    per_cell, divided = _passes_of_a_cell(config, evaluation, method), {}
    for phase, phase_cells in whole.items():
        count = min(len(phase_cells), max(1, round(len(phase_cells) * per_cell / config.chunk)))
        divided[phase] = [_joined(few) for few in _divided(phase_cells, count)]
    return divided


def content(config: Config, evaluation: str, method: str, shard: str) -> dict[str, dict[str, list[int]]]:
    """What a shard holds.

    Args:
        config: with data.ood as it is available.
        evaluation: its name.
        method: its name.
        shard: its name.

    Returns:
        Quantity -> set -> [start, stop], as JSON has it.
    """
    joined = _joined(_cells_of(shard, cells(config, evaluation, method)))
    return {str(quantity): {name: [*span] for name, span in spans.items()} for quantity, spans in joined.items()}


def _cells_of(shard: str, whole: dict[str, list[Cell]]) -> list[Cell]:
    phase, index, _, count = shard.split("-")
    return _divided(whole[phase], int(count))[int(index) - 1]


def _passes_of_a_cell(config: Config, evaluation: str, method: str) -> float:
    together = computed_with(evaluation, method, config.methods)
    planned = [evaluation_job(config, evaluation, one) for one in together]
    count = sum(map(len, cells(config, evaluation, method).values()))
    return sum(forward + BACKWARD * backward for job in planned for forward, backward in job.passes.values()) / count


def _divided(items: Sequence[Cell], count: int) -> list[list[Cell]]:
    return [list(items[len(items) * index // count : len(items) * (index + 1) // count]) for index in range(count)]


def _joined(few: Sequence[Cell]) -> Portion:
    """Quantity -> set -> (start, stop), from neighbouring cells."""
    portion: Portion = {}
    for quantity, name, start, stop in few:
        spans = portion.setdefault(quantity, {})
        spans[name] = (spans.get(name, (start,))[0], stop)
    return portion
