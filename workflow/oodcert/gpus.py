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
_held = []  # open lock files, which the system closes with the process, however that ends


def visible_gpus():
    """Names of the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in map(str.strip, named.split(",")) if name and name != "-1"]
    try:
        query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def take_gpu(jobs_per_gpu):
    """Keeps this process to one GPU, by CUDA_VISIBLE_DEVICES, until it ends; call it before torch looks for GPUs.

    Where several are visible, it is one that fewest other jobs of oodcert on this machine hold, of this user and of any
    folder; if each is held by jobs_per_gpu of them, waits for one. A single visible GPU, as a cluster gives a job, is
    taken as it is.
    """
    gpus = visible_gpus()
    if len(gpus) < 2:
        return
    folder = _lock_folder()
    waiting = False
    while not _held:
        for place in range(jobs_per_gpu):
            for gpu in gpus:
                if not _held and _lock(folder / f"{gpu.replace('/', '_')}.{place}"):
                    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        if not _held:
            if not waiting:
                print(f"Waiting for a GPU: {len(gpus)} are held by {jobs_per_gpu} jobs each.", file=sys.stderr)
            waiting = True
            time.sleep(WAIT)


def _lock_folder():
    folder = Path(tempfile.gettempdir()) / f"oodcert-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise InputError(f"{folder} belongs to another user: remove it, or set TMPDIR to a folder of your own.")
    return folder


def _lock(path):
    file = open(path, "w")  # noqa: SIM115, it is held open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _held.append(file)
    return True
