"""An evaluation computed piece by piece, each of them on disk as soon as it is finished."""

import time
from dataclasses import replace

import pandas as pd
from tqdm import tqdm

from oodcert.pieces import load_piece, ordered, save_piece


def in_pieces(function, evaluation, stages, folder, mark, against=None):
    """(rows, facts) of an evaluation, as function(evaluation) gives them.

    stages: name -> pieces (see oodcert.cutting). folder: of the finished pieces; those that bear the mark are read
    rather than computed. against: rows of the ID side, which those of the stage "ood" need; by default those of the
    stage before it.
    """
    count, done, found = sum(map(len, stages.values())), 0, []
    facts = {"network_calls": 0, "wall_seconds": 0.0}
    with tqdm(total=count, desc=f"pieces of {function.__name__}", unit="piece", disable=count == 1) as bar:
        for stage, pieces in stages.items():
            if stage == "ood" and against is None:
                against = pd.concat(found, ignore_index=True)
            for piece in pieces:
                done += 1
                path, own = folder / f"{done}-of-{count}.piece", f"{mark} {stage} {piece}"
                kept = load_piece(path, own)
                if kept is None:
                    started, parts = time.monotonic(), narrowed(evaluation, piece)
                    tables = [function(part) if against is None else function(part, against) for part in parts]
                    rows, calls = pd.concat(tables, ignore_index=True), sum(part.calls for part in parts)
                    save_piece(path, rows, own, network_calls=calls, wall_seconds=time.monotonic() - started)
                    kept = load_piece(path, own)
                elif not bar.disable:
                    bar.initial += 1
                found.append(kept[0])
                facts = {key: facts[key] + kept[1][key] for key in facts}
                bar.update()
    facts["wall_seconds"] = round(facts["wall_seconds"], 2)
    return ordered(pd.concat(found, ignore_index=True), function.__name__, evaluation.sets), facts


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
