"""The steps of the smoke run (gpu_smoke.py). Each returns what it found, and raises Failed with a sentence."""

import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import nn
from torch.nn.functional import cross_entropy

from gpu_smoke_rates import compiled, rates
from gpu_smoke_setting import PROFILE, ROOT, Failed, Smoke
from gpu_smoke_spot_check import spot_checked
from oodcert.config.components import known_components
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.models.architectures.improved_unet import ImprovedUNet
from oodcert.models.architectures.patch_unet import PatchUNet
from oodcert.models.networks import build_network
from oodcert.runtime.compiler import check_compiler
from oodcert.runtime.device_noise import device_noise
from oodcert.runtime.gpu_list import visible_gpus
from oodcert.runtime.keyed_noise import keyed_noise
from oodcert.runtime.memory import is_out_of_memory, with_oom_backoff
from oodcert.runtime.torch_setup import device_name, prepare_torch
from oodcert.training import train_component

FORK = """
import os, sys
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
from importlib import import_module
from oodcert.execution.fork_server import PRELOADED
for name in PRELOADED:
    if not name.startswith("snakemake"):
        import_module(name)
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
import torch
del os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"]
ones = torch.ones(8, 8, device=sys.argv[1])
code = int(torch.cuda._is_in_bad_fork() or (ones @ ones).sum().item() != 512)
sys.stdout.flush()
os._exit(code)
"""
NOISE_TOLERANCE, SCORE_TOLERANCE = 1e-5, 1e-3  # of a draw, and of a clean score, between two devices
LARGE = (3, 32, 32)
ARCHITECTURES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # at the paper's size, and as small as can be
    "cnn": ({"width": 32}, {"width": 4}),
    "resnet": ({"depth": 20, "width": 16}, {"depth": 8, "width": 4}),
    "resnet18": ({"width": 64}, {"width": 4}),
    "patch_resnet": ({"depth": 20, "width": 16}, {"depth": 8, "width": 4}),
    "wideresnet": ({"depth": 40, "widen": 2}, {"depth": 10, "widen": 1}),
    "densenet": ({"depth": 100, "growth": 12}, {"depth": 10, "growth": 4}),
    "ibp_cnn_s": ({"width": 128}, {"width": 4}),
    "ibp_cnn_xl": ({"width": 128}, {"width": 4}),
}


def versions(smoke: Smoke) -> dict[str, Any]:
    """Python, torch, driver, GPU and compiler."""
    device = prepare_torch(smoke.device)
    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__}
    found |= {"cuda": torch.version.cuda, "device": device_name(device), "gpus": visible_gpus()}
    if device == "cuda":
        check_compiler()
        found["memory"] = torch.cuda.mem_get_info()
        found["driver"] = _driver()
    return found


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip() or "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown: nvidia-smi does not answer"


def fork(smoke: Smoke) -> dict[str, Any]:
    """A fork of a process that has imported what jobs need computes on the GPU."""
    run = subprocess.run([sys.executable, "-c", FORK, smoke.device], capture_output=True, text=True, timeout=200)
    if run.returncode:
        raise Failed(f"a fork can't use {smoke.device}: {(run.stderr.strip().splitlines() or ['no message'])[-1]}")
    return {}


def noise(smoke: Smoke) -> dict[str, Any]:
    """Keyed and device noise are the same on the CPU and on the device."""
    keyed = keyed_noise(0, "smoke", 3, 5, 64, LARGE)
    if not np.array_equal(torch.from_numpy(keyed).to(smoke.device).cpu().numpy(), keyed):
        raise Failed("keyed noise changes on its way to the device.")
    samples, draws = torch.arange(64), torch.arange(64) + 2**20
    here = device_noise(0, "smoke", samples, draws, LARGE)
    there = device_noise(0, "smoke", samples.to(smoke.device), draws.to(smoke.device), LARGE).cpu()
    off = (here - there).abs()
    if off.max() > NOISE_TOLERANCE:
        raise Failed(f"noise made on the device is off by {off.max():.2g} from that of the CPU.")
    return {"largest difference": off.max().item(), "share that differs": (off > 0).double().mean().item()}


def architectures(smoke: Smoke) -> dict[str, Any]:
    """A training step of every architecture, twice, under deterministic switches: the gradients are the same bits."""
    size = 4 if smoke.tiny else 128
    seconds = {}
    for name, module, target in _modules(smoke):
        torch.manual_seed(0)
        images = torch.rand(size, *LARGE).to(smoke.device)
        module.to(smoke.device).train()
        both = []
        for _ in range(2):
            began = time.monotonic()
            torch.manual_seed(0)  # of dropout
            module.zero_grad()
            target(module, images).backward()
            both.append([weight.grad.cpu() for weight in module.parameters() if weight.grad is not None])
            seconds[name] = round(time.monotonic() - began, 4)
        if not all(torch.equal(one, other) for one, other in zip(*both, strict=True)):
            raise Failed(f"two steps of {name} on the same batch have other gradients.")
    return {"seconds a step": seconds}


Target = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def _modules(smoke: Smoke) -> list[tuple[str, nn.Module, Target]]:
    def of_labels(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        return cross_entropy(network(images), torch.arange(len(images)).to(images.device) % 10)

    def of_noise(denoiser: nn.Module, images: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(denoiser(images, torch.ones(len(images)).to(images.device)).square().mean())

    made = [
        (name, build_network({"name": name, **sizes[smoke.tiny]}, LARGE, 10), of_labels)
        for name, sizes in ARCHITECTURES.items()
    ]
    unet = PatchUNet(LARGE, [8] if smoke.tiny else [128, 256, 256, 256], 2)
    return [*made, ("patch_unet", unet, of_noise), ("improved_unet", ImprovedUNet(32 if smoke.tiny else 128), of_noise)]


def trainings(smoke: Smoke) -> dict[str, Any]:
    """Every training at tiny size; the values of the last epoch are finite."""
    config, finals, trained = smoke.config, {}, {}
    for name in sorted(known_components(), key=lambda name: name == "prood"):  # which needs the discriminator
        network, curve = train_component(
            name,
            trained,
            smoke.random_set("id", 64),
            smoke.random_set("outliers", 64),
            networks=config.networks.as_json(),
            num_classes=config.data.num_classes,
            recipe=getattr(config.training, name).changed(start_from=None),
            seed=0,
            device=smoke.device,
        )
        trained[name] = network
        finals[name] = float(curve[curve["term"] == "total"]["value"].iloc[-1])
    return {"loss": finals}


def evaluations(smoke: Smoke) -> dict[str, Any]:
    """Each evaluation on the CPU and on the device, with the largest difference of each column."""
    found, methods = {}, ("distro",) if smoke.tiny else ("vos", "atom", "prood", "distro")
    for name, spec in EVALUATIONS.items():
        for method in methods if spec.methods else ("linear",):
            here, there = (spec.load()(smoke.evaluation(name, method, device)) for device in ("cpu", smoke.device))
            found[f"{name} {method}"] = _differences(here, there)
    worst = max(found[f"clean {method}"].get("score", 0) for method in methods)
    if worst > SCORE_TOLERANCE:
        raise Failed(f"clean scores on {smoke.device} are off by {worst:.2g} from those of the CPU.")
    return found


def _differences(here: pd.DataFrame, there: pd.DataFrame) -> dict[str, float]:
    """The largest difference of a column of numbers, and the share of rows in which another one differs."""
    if list(here) != list(there) or len(here) != len(there) or there.isna().any(axis=None):
        raise Failed("an evaluation has other rows on the device, or NaN.")
    off = {}
    for name in here:
        one, other = here[name].to_numpy(), there[name].to_numpy()
        with np.errstate(invalid="ignore"):
            gap = (
                np.where(one == other, 0, np.abs(one - other)).max() if one.dtype.kind == "f" else (one != other).mean()
            )
        if gap:
            off[name] = float(gap)
    return off


def memory(smoke: Smoke) -> dict[str, Any]:
    """Memory runs out, batches are halved, and the result is the same."""
    sizes: list[int] = []

    def compute(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 5:
            torch.empty(1 << 60, dtype=torch.uint8, device=smoke.device)
        return batch.flatten(1).sum(1)

    images = torch.rand(32, *LARGE).to(smoke.device)
    if not torch.allclose(with_oom_backoff(compute)(images), images.flatten(1).sum(1)):
        raise Failed("halved batches have another result.")
    found: dict[str, Any] = {"sizes": sorted(set(sizes))}
    if smoke.device == "cuda" and not smoke.tiny:
        found["filled"] = _filled()
    return found


def _filled() -> str:
    """What a network says whose GPU has 300 MB left."""
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.Flatten(), nn.Linear(65536, 10)).cuda()
    images, sizes = torch.rand(4096, *LARGE, device="cuda"), []
    free, _ = torch.cuda.mem_get_info()
    filling = torch.empty(free - 300 * 2**20, dtype=torch.uint8, device="cuda")
    try:
        with_oom_backoff(lambda batch: (sizes.append(len(batch)), network(batch))[1])(images)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise Failed(f"a full GPU says what is not known as exhaustion: {str(error).splitlines()[0]}") from error
    del filling
    torch.cuda.empty_cache()
    return f"batches down to {min(sizes)}"


def pipeline(smoke: Smoke) -> dict[str, Any]:
    """The workflow on tiny settings, where Snakemake is there."""
    if find_spec("snakemake") is None:
        return {"skipped": "Snakemake is not installed"}
    values, methods = smoke.config.as_json(), ["plain"] if smoke.tiny else ["plain", "distro"]
    wanted = ["clean"] if smoke.tiny else ["clean", "certify_l2", "attack_linf", "attack_id", "authors_code"]
    targets = [f"results/{PROFILE}/evidence/{name}/{method}.parquet" for name in wanted for method in methods]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "smoke.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", folder]
        command += ["--cores", "all", "--configfile", f"{folder}/smoke.yaml", "--", *targets]
        run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if run.returncode:
        said = [line for line in (run.stdout + run.stderr).splitlines() if "Error" in line]
        raise Failed(f"the workflow ends with {run.returncode}: {said[0].strip() if said else 'no message'}")
    return {"targets": len(targets)}


STEPS: dict[str, Callable[[Smoke], dict[str, Any]]] = {
    step.__name__: step
    for step in (
        versions,
        fork,
        noise,
        architectures,
        trainings,
        evaluations,
        compiled,
        memory,
        spot_checked,
        rates,
        pipeline,
    )
}
