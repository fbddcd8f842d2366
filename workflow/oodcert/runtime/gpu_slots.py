"""Which GPU a job runs on: one of those that it may see, shared with no more jobs than the config allows."""

import os
import sys
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from oodcert.errors import InputError
from oodcert.runtime.gpu_list import visible_gpus

WAIT = 1  # seconds between two looks for a free slot
_held: list[FileLock] = []  # this process's slot, which the system frees when the process ends, however that happens


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


def free_gpu() -> None:
    """Gives the GPU of this process back, for a job that does not use it after all."""
    while _held:
        _held.pop().release()


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
        lock = FileLock(folder / f"{gpu.replace('/', '_')}.{slot}", timeout=0)  # old names of MIG have a slash
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
