"""Which GPUs there are, known before torch is imported and without a touch of CUDA, which no fork could use then."""

import ctypes
import os
import re
import subprocess
import sys
from functools import cache

TIMEOUT = 60  # seconds for a look at the GPUs; with a broken driver it may never end
_UUID = re.compile(r"\(UUID: ((?:GPU|MIG)-[^)\s]+)\)")
_COUNT = "import torch; print(torch.cuda.device_count())"


def visible_gpus() -> list[str]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all of the machine.

    Returns:
        UUIDs of GPUs, or of the parts (MIG) that a GPU is divided into. Numbers in CUDA_VISIBLE_DEVICES count in the
        order of nvidia-smi. Where nvidia-smi does not work, GPUs are counted by torch and stay numbers.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = _listed_cards()
    if named is None:
        if cards is None:
            return [str(number) for number in range(_counted_by_torch())]
        return [part for card in cards for part in card]
    gpus: list[str] = []
    for name in filter(None, map(str.strip, named.split(","))):
        gpu = _resolved(name, cards or [])
        if gpu is None:  # CUDA sees none from there on
            break
        gpus.append(gpu)
    return list(dict.fromkeys(gpus))


def _resolved(name: str, cards: list[list[str]]) -> str | None:
    """The UUID of a name in CUDA_VISIBLE_DEVICES: a number, or the beginning of a UUID; None where there is none."""
    if name.lstrip("-").isdigit():
        number = int(name)
        if number < 0 or (cards and number >= len(cards)):
            return None
        return cards[number][0] if cards else name
    known = [gpu for card in cards for gpu in card if gpu.startswith(name)]
    return known[0] if len(known) == 1 else name


def _listed_cards() -> list[list[str]] | None:
    """The UUIDs by card that nvidia-smi lists: of the card, or of its parts if it is divided; None: it does not work.

    Only lines with a UUID count. nvidia-smi also writes messages to its standard output.
    """
    try:
        run = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    uuids = _UUID.findall(run.stdout)
    if not uuids and (run.returncode or not run.stdout.strip()) and "No devices" not in run.stdout:
        return None
    cards: list[list[str]] = []
    for uuid in uuids:
        if uuid.startswith("GPU-"):
            cards.append([uuid])
        elif cards:
            cards[-1] = [*(part for part in cards[-1] if part.startswith("MIG-")), uuid]
    return cards


@cache
def _counted_by_torch() -> int:
    """How many GPUs torch finds, in a process of its own, which asks the driver's library (NVML) first."""
    if not _has_driver():
        return 0
    environment = {**os.environ, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    command = [sys.executable, "-c", _COUNT]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment)
        return int(run.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return 0


def _has_driver() -> bool:
    """Whether CUDA's driver library is there, without which torch finds no GPU. Loading it starts nothing."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
