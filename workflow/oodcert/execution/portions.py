"""Evaluations computed portion by portion, each of them on disk as soon as it is finished."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.row_order import ordered
from oodcert.evaluations.spec import EvaluationSpec
from oodcert.execution.partial_results import Facts, load_partial, save_partial
from oodcert.execution.shards import Portion

Result = tuple[pd.DataFrame, Facts]


@dataclass(frozen=True)
class Resumable:
    """An evaluation, the folder of its partial results, and the cache key of those that are valid."""

    evaluation: Evaluation[Any]
    folder: Path
    key: str


def compute_portions(
    spec: EvaluationSpec,
    resumables: Sequence[Resumable],
    phases: Mapping[str, Sequence[Portion]],
    id_rows: pd.DataFrame | None = None,
) -> list[Result]:
    """Rows and facts of every evaluation, as if they were computed at once.

    Partial results with the right cache key are read, and only the methods that lack one are computed.

    Args:
        spec: of the evaluation.
        resumables: of one method, or of several that are computed together.
        phases: name -> portions (see oodcert.execution.shards).
        id_rows: rows of the ID images, which the phase "ood" needs; by default those of the phase before it.

    Returns:
        (rows, facts) of each method, in the order of the resumables.
    """
    count, done = sum(map(len, phases.values())), 0
    results: list[list[Result]] = [[] for _ in resumables]
    with tqdm(total=count, desc=f"portions of {spec.name}", unit="portion", disable=count == 1) as bar:
        for phase, portions in phases.items():
            if phase == "ood" and id_rows is None:
                id_rows = pd.concat([rows for rows, _ in chain(*results)], ignore_index=True)
            for portion in portions:
                done += 1
                name = f"{done}-of-{count}.partial"
                files = [(one.folder / name, f"{one.key} {phase} {portion}") for one in resumables]
                for own, result in zip(results, _portion(spec, resumables, portion, files, id_rows), strict=True):
                    own.append(result)
                bar.update()
    return [_joined(spec, *both) for both in zip(resumables, results, strict=True)]


def _portion(
    spec: EvaluationSpec,
    resumables: Sequence[Resumable],
    portion: Portion,
    files: Sequence[tuple[Path, str]],
    id_rows: pd.DataFrame | None,
) -> list[Result]:
    """The results of one portion, read or computed."""
    loaded = [load_partial(*file) for file in files]
    lacking = [index for index, one in enumerate(loaded) if one is None]
    if lacking:
        narrow = [narrowed(resumables[index].evaluation, portion) for index in lacking]
        _compute(spec, narrow, [files[index] for index in lacking], id_rows)
        for index in lacking:
            loaded[index] = load_partial(*files[index])
    return [one for one in loaded if one is not None]


def _compute(
    spec: EvaluationSpec,
    narrow: Sequence[Sequence[Evaluation[Any]]],
    files: Sequence[tuple[Path, str]],
    id_rows: pd.DataFrame | None,
) -> None:
    """Computes a portion and saves it: of every method its narrowed evaluations and its file, (path, cache key).

    The seconds are shared out equally, so that those of all files add up to what was spent.
    """
    started, more = time.monotonic(), {} if id_rows is None else {"id_rows": id_rows}
    function = spec.load()
    rows = pd.concat([function(*several, **more) for several in zip(*narrow, strict=True)], ignore_index=True)
    seconds = (time.monotonic() - started) / len(narrow)
    for own, (path, key) in zip(narrow, files, strict=True):
        calls = sum(one.calls for one in own)
        of_method = rows[rows["method"] == own[0].method].reset_index(drop=True)
        save_partial(path, of_method, key, network_calls=calls, wall_seconds=seconds)


def _joined(spec: EvaluationSpec, resumable: Resumable, results: Sequence[Result]) -> Result:
    rows = pd.concat([rows for rows, _ in results], ignore_index=True)
    facts = {key: sum(facts[key] for _, facts in results) for key in ("network_calls", "wall_seconds")}
    facts["wall_seconds"] = round(facts["wall_seconds"], 2)
    return ordered(rows, spec.order, list(resumable.evaluation.sets)), facts


def narrowed(evaluation: Evaluation[Any], portion: Portion) -> list[Evaluation[Any]]:
    """The evaluations of one portion, one a quantity: of images start to stop - 1 of the sets that it names.

    A quantity gets whole sets, for the evaluation of the authors' code chooses its images itself (D6).

    Args:
        evaluation: of all images.
        portion: which of its images.

    Returns:
        The evaluations.
    """
    return [
        replace(
            evaluation,
            quantities=evaluation.quantities if quantity is None else (quantity,),
            sets={name: evaluation.sets[name].chosen(slice(*span)) for name, span in spans.items()}
            if quantity is None
            else {name: evaluation.sets[name] for name in spans},
        )
        for quantity, spans in portion.items()
    ]
