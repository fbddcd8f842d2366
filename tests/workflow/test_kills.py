"""SIGKILL at random moments, while evidence is written and portions are computed: nothing half-written is left."""

import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tqdm import tqdm

from divided_runs import divided_config
from oodcert.evaluations import attack_linf
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import sidecar, write_evidence
from oodcert.execution.partial_results import load_partial, save_partial
from oodcert.execution.portions import Resumable, compute_portions
from oodcert.execution.shards import portions
from oodcert.runtime.files import sha256
from untrained_runs import computed, evaluation

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


@pytest.mark.parametrize("kind", ["evidence", "partial result"])
def test_a_file_that_was_being_written_is_whole_or_is_not_used(kind, tmp_path):
    contents = [pd.DataFrame({"value": np.random.default_rng(one).random(20_000)}) for one in range(2)]
    path, moments, seen = tmp_path / "rows.parquet", random.Random(0), Counter()

    def write():
        for turn in range(10_000):
            rows = contents[turn % 2]
            if kind == "partial result":
                save_partial(path, rows, "key")
            else:
                write_evidence(rows, path, Provenance({}))

    for _ in range(WRITERS):
        assert not killed(write, moments.uniform(0.01, 0.15))
        if not path.exists():
            continue
        seen["file"] += 1
        if kind == "partial result":
            found, _ = load_partial(path, "key")
        else:
            found = pd.read_parquet(path)
            if sidecar(path).exists():
                seen[f'"{sha256(path)}"' in sidecar(path).read_text()] += 1
        assert any(found.equals(rows) for rows in contents)
    assert {file.name for file in tmp_path.iterdir()} <= {
        *("rows.parquet", "rows.json", ".rows.partial.parquet", ".rows.partial.json"),
    }
    assert seen["file"] > WRITERS / 2 and (kind == "partial result" or seen[True])


def recorded(evaluation):
    """attack_linf, with a character for each call in the file that the environment names."""
    rows = attack_linf.attack_linf(evaluation)
    with open(os.environ["COMPUTED"], "a") as file:
        file.write(".")
    return rows


def test_a_job_that_is_killed_again_and_again_loses_at_most_the_portion_under_way(tmp_path, monkeypatch):
    moments, log, folder = random.Random(1), tmp_path / "computed", tmp_path / "partial"
    monkeypatch.setenv("COMPUTED", str(log))
    config = divided_config(chunk=1)
    phases = portions(config, "attack_linf", "distro")
    spec = replace(EVALUATIONS["attack_linf"], function=f"{__name__}:recorded")

    def run():
        resumable = Resumable(evaluation("attack_linf", "distro", config=config), folder, "key")
        return compute_portions(spec, [resumable], phases)

    started = time.monotonic()
    run()
    of_a_portion = (time.monotonic() - started) / len(phases["all"])
    kills, rounds = 0, 1
    while kills < KILLS:
        if killed(run, moments.uniform(0, 2 * of_a_portion)):
            shutil.rmtree(folder)
            rounds += 1
        else:
            kills += 1
    [(rows, _)] = run()
    pd.testing.assert_frame_equal(rows, computed("attack_linf", "distro", config=config), check_exact=True)
    assert len(log.read_text()) <= rounds * len(phases["all"]) + kills
