"""Evaluations computed piece by piece, each of them on disk as soon as it is finished."""

import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from oodcert.evaluations.base import Evaluation
from oodcert.execution.partial_results import load_piece, ordered, save_piece


class Kept(NamedTuple):
    """An evaluation, the folder of its finished pieces, and the mark of those that are its own."""

    evaluation: Evaluation
    folder: Path
    mark: str


def in_pieces(function, kept, stages, against=None):
    """(rows, facts) of every evaluation, as function(*evaluations) gives them, in a list.

    kept: of one method, or of several that are computed together, a Kept each; pieces that bear its mark are read
    rather than computed, and only the methods that lack a piece are computed. stages: name -> pieces (see
    oodcert.execution.shards). against: rows of the ID side, which those of the stage "ood" need; by default those of the stage
    before it.
    """
    count, done, found = sum(map(len, stages.values())), 0, [[] for _ in kept]
    with tqdm(total=count, desc=f"pieces of {function.__name__}", unit="piece", disable=count == 1) as bar:
        for stage, pieces in stages.items():
            if stage == "ood" and against is None:
                against = pd.concat([rows for rows, _ in chain(*found)], ignore_index=True)
            for piece in pieces:
                done += 1
                files = [(one.folder / f"{done}-of-{count}.piece", f"{one.mark} {stage} {piece}") for one in kept]
                loaded = [load_piece(*file) for file in files]
                lacking = [index for index, one in enumerate(loaded) if one is None]
                if lacking:
                    parts = [narrowed(kept[index].evaluation, piece) for index in lacking]
                    _compute(function, parts, [files[index] for index in lacking], against)
                    for index in lacking:
                        loaded[index] = load_piece(*files[index])
                elif not bar.disable:
                    bar.initial += 1
                for own, one in zip(found, loaded, strict=True):
                    own.append(one)
                bar.update()
    return [_joined(function, *both) for both in zip(kept, found, strict=True)]


def _compute(function, parts, files, against):
    """Computes a piece and saves it: of every method its narrowed evaluations and its file, (path, mark).

    The seconds are shared out equally, so that those of all files add up to what was spent.
    """
    started, more = time.monotonic(), {} if against is None else {"against": against}
    rows = pd.concat([function(*several, **more) for several in zip(*parts, strict=True)], ignore_index=True)
    seconds = (time.monotonic() - started) / len(parts)
    for own, file in zip(parts, files, strict=True):
        calls = sum(part.calls for part in own)
        of_method = rows[rows["method"] == own[0].method].reset_index(drop=True)
        path, mark = file
        save_piece(path, of_method, mark, network_calls=calls, wall_seconds=seconds)


def _joined(function, kept, pieces):
    rows = pd.concat([rows for rows, _ in pieces], ignore_index=True)
    facts = {key: sum(facts[key] for _, facts in pieces) for key in ("network_calls", "wall_seconds")}
    facts["wall_seconds"] = round(facts["wall_seconds"], 2)
    return ordered(rows, function.__name__, kept.evaluation.sets), facts


def narrowed(evaluation, piece):
    """The evaluations of one piece, one a quantity: of images start to stop - 1 of the sets that it names.

    A quantity of published gets whole sets, for it chooses its images itself (D6).
    """
    return [
        replace(
            evaluation,
            quantities=evaluation.quantities if quantity is None else (quantity,),
            sets={name: evaluation.sets[name].chosen(slice(*span)) for name, span in spans.items()}
            if quantity is None
            else {name: evaluation.sets[name] for name in spans},
        )
        for quantity, spans in piece.items()
    ]
