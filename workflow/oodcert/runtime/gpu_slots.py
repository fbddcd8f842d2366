"""Which GPU a job runs on: one of those that it may see, shared with no more jobs than the config allows."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from oodcert.errors import InputError

WAIT = 1  # seconds between two looks for a free slot
_held: list[FileLock] = []  # this process's slot, which the system frees when the process ends, however that happens


def visible_gpus() -> list[str]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists.

    Returns:
        UUIDs. Numbers in CUDA_VISIBLE_DEVICES count in the order of nvidia-smi; without nvidia-smi they stay numbers.
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


def take_gpu(jobs_per_gpu: int) -> None:
    """Keeps this process to one GPU, by CUDA_VISIBLE_DEVICES, until it ends. Call it before torch looks for GPUs.

    The GPU is the one that fewest jobs of oodcert hold, of this user and in any folder. Where each is held by
    jobs_per_gpu jobs, this waits for one. Without GPUs nothing happens.

    Args:
        jobs_per_gpu: How many jobs may hold a GPU at a time.

    Raises:
        InputError: The folder of the locks belongs to another user.
    """
    gpus = visible_gpus()
    if not gpus or _held:
        return
    folder = _lock_folder()
    while not (chosen := _take(gpus, jobs_per_gpu, folder)):
        print(f"Waiting for a GPU: of {len(gpus)} each is held by {jobs_per_gpu} jobs.", file=sys.stderr)
        time.sleep(WAIT)
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def _take(gpus: list[str], jobs_per_gpu: int, folder: Path) -> str | None:
    """The GPU with most free slots, one of which is now held; None where there is no free one."""
    with FileLock(folder / "choosing"):
        free = {gpu: _lock_free_slots(gpu, jobs_per_gpu, folder) for gpu in gpus}
        chosen = max(gpus, key=lambda gpu: len(free[gpu]))
        if free[chosen]:
            _held.append(free[chosen].pop())
        for lock in (lock for locks in free.values() for lock in locks):
            lock.release()
        return chosen if _held else None


def _lock_free_slots(gpu: str, jobs_per_gpu: int, folder: Path) -> list[FileLock]:
    """The locks, now held, of all slots of a GPU that no other process holds."""
    taken = []
    for slot in range(jobs_per_gpu):
        lock = FileLock(folder / f"{gpu}.{slot}", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        taken.append(lock)
    return taken


def _lock_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"oodcert-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise InputError(f"{folder} belongs to another user: remove it, or set TMPDIR to a folder of your own.")
    return folder
