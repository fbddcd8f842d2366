"""SIGKILL at random moments, while evidence is written and while pieces are computed: nothing half-written is left."""

import os
import random
import shutil
import signal
import threading
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from oodcert.evaluations.linf import attack_linf
from oodcert.execution.partial_runs import Kept, in_pieces
from tqdm import tqdm

from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import sidecar, write_evidence
from oodcert.execution.partial_results import load_piece, save_piece
from oodcert.execution.shards import pieces
from oodcert.runtime.files import sha256
from test_shards import cut_config, settings_of
from untrained_runs import evaluation

WRITERS, KILLS = 40, 12


def killed(work, seconds):
    """Runs work() in a process of its own and kills it after so many seconds; whether it had ended well before."""
    child = os.fork()
    if child == 0:
        try:
            tqdm.set_lock(threading.RLock())  # its own is shared with this process, and may be held when it is killed
            work()
            os._exit(0)
        finally:
            os._exit(1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return True
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.parametrize("kind", ["evidence", "piece"])
def test_a_file_that_was_being_written_is_whole_or_is_not_used(kind, tmp_path):
    contents = [pd.DataFrame({"value": np.random.default_rng(one).random(20_000)}) for one in range(2)]
    path, moments, seen = tmp_path / "rows.parquet", random.Random(0), Counter()

    def write():
        for turn in range(10_000):
            rows = contents[turn % 2]
            if kind == "piece":
                save_piece(path, rows, "mark")
            else:
                write_evidence(rows, path, Provenance({}))

    for _ in range(WRITERS):
        assert not killed(write, moments.uniform(0.01, 0.15))
        if not path.exists():
            continue
        seen["file"] += 1
        if kind == "piece":
            found, _ = load_piece(path, "mark")
        else:
            found = pd.read_parquet(path)
            if sidecar(path).exists():
                seen[f'"{sha256(path)}"' in sidecar(path).read_text()] += 1
        assert any(found.equals(rows) for rows in contents)
    assert {file.name for file in tmp_path.iterdir()} <= {
        *("rows.parquet", "rows.json", ".rows.partial.parquet", ".rows.partial.json"),
    }
    assert seen["file"] > WRITERS / 2 and (kind == "piece" or seen[True])


def test_a_job_that_is_killed_again_and_again_loses_at_most_the_piece_under_way(tmp_path):
    own, moments, log = settings_of(attack_linf, "distro"), random.Random(1), tmp_path / "computed"
    stages = pieces(cut_config(chunk=1), "attack_linf", "distro")

    def recorded(part):
        rows = attack_linf(part)
        with open(log, "a") as file:
            file.write(".")
        return rows

    recorded.__name__ = "attack_linf"

    def work():
        return in_pieces(recorded, [Kept(evaluation("distro", **own), tmp_path / "pieces", "mark")], stages)

    started = time.monotonic()
    work()
    of_a_piece = (time.monotonic() - started) / len(stages["all"])
    kills, rounds = 0, 1
    while kills < KILLS:
        if killed(work, moments.uniform(0, 2 * of_a_piece)):
            shutil.rmtree(tmp_path / "pieces")
            rounds += 1
        else:
            kills += 1
    [(rows, _)] = work()
    pd.testing.assert_frame_equal(rows, attack_linf(evaluation("distro", **own)), check_exact=True)
    assert len(log.read_text()) <= rounds * len(stages["all"]) + kills
