"""Which GPU a job runs on: one of those that it may see, shared with no more jobs than the config allows."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from oodcert.errors import InputError

WAIT = 1  # seconds between two looks for a free place
_held = []  # the open lock file of this job's place, which the system closes with the process, however that ends


def visible_gpus():
    """UUIDs of the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists.

    Numbers in CUDA_VISIBLE_DEVICES count in the order of nvidia-smi. Without nvidia-smi they stand as they are.
    """
    try:
        query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        listed = []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return listed
    numbered = {str(number): uuid for number, uuid in enumerate(listed)}
    return [numbered.get(name, name) for name in map(str.strip, named.split(",")) if name and name != "-1"]


def take_gpu(jobs_per_gpu):
    """Keeps this process to one GPU, by CUDA_VISIBLE_DEVICES, until it ends; call it before torch looks for GPUs.

    It is the one that fewest jobs of oodcert hold, of this user and in any folder. Where each is held by jobs_per_gpu
    of them, waits for one.
    """
    gpus = visible_gpus()
    if not gpus or _held:
        return
    folder = _lock_folder()
    while not (chosen := _take(gpus, jobs_per_gpu, folder)):
        print(f"Waiting for a GPU: of {len(gpus)} each is held by {jobs_per_gpu} jobs.", file=sys.stderr)
        time.sleep(WAIT)
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def _take(gpus, jobs_per_gpu, folder):
    """The GPU with most free places, one of which is now held; None where there is no free one."""
    with open(folder / "choosing", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        free = {gpu: [_locked(folder / f"{gpu}.{place}") for place in range(jobs_per_gpu)] for gpu in gpus}
        free = {gpu: [file for file in files if file] for gpu, files in free.items()}
        chosen = max(gpus, key=lambda gpu: len(free[gpu]))
        if free[chosen]:
            _held.append(free[chosen].pop())
        for file in (file for files in free.values() for file in files):
            file.close()
        return chosen if _held else None


def _lock_folder():
    folder = Path(tempfile.gettempdir()) / f"oodcert-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise InputError(f"{folder} belongs to another user: remove it, or set TMPDIR to a folder of your own.")
    return folder


def _locked(path):
    """The open file, locked; None where another process has it."""
    file = open(path, "w")  # noqa: SIM115, it is held open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
