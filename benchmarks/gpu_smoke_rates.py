"""The steps of the smoke run that compile networks and take times."""

import time
from typing import Any

import torch
from torch import nn

from gpu_smoke_setting import ROOT, Failed, Smoke
from oodcert.certification.certify import certify
from oodcert.config.load import read_configs
from oodcert.config.method_specs import trained_components
from oodcert.execution.throughput import best_batches, measured_rates
from oodcert.models.architectures.denoiser import DiffusionDenoiser, cosine_schedule
from oodcert.models.architectures.improved_unet import ImprovedUNet
from oodcert.models.detector import Detector
from oodcert.models.networks import build_network
from oodcert.models.wrappers import DenoisedNetwork

SIGMA, GAP = 0.25, 0.05  # noise; what bfloat16 may change of a mean score


def compiled(smoke: Smoke) -> dict[str, Any]:
    """Certificates in bfloat16: compiled once for each shape, and near those of the CPU."""
    from torch._dynamo.utils import counters

    network = _denoised(smoke)
    images = torch.rand(1 if smoke.tiny else 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"n": 16 if smoke.tiny else 100, "batch_size": 8 if smoke.tiny else 500}
    options |= {"bounds": ["percentile"], "precision": "bfloat16"}
    seconds, graphs, tables = [], [], []
    for device in ("cpu", smoke.device, smoke.device):
        began = time.monotonic()
        tables.append(certify(Detector(network), images, SIGMA, [0.0], device=device, **options))
        seconds.append(round(time.monotonic() - began, 2))
        graphs.append(counters["stats"]["unique_graphs"])
    if graphs[2] != graphs[1]:
        raise Failed(f"the second call of certify compiled {graphs[2] - graphs[1]} graphs again.")
    if not tables[1].equals(tables[2]):
        raise Failed("two calls of certify on the device have other bounds.")
    gap = float((tables[0]["estimate"] - tables[1]["estimate"]).abs().max())
    if gap > GAP:
        raise Failed(f"the device is off by {gap:.2g} from the CPU in bfloat16.")
    return {"seconds": seconds, "graphs": graphs[1] - graphs[0], "gap to the CPU": gap}


def _denoised(smoke: Smoke) -> nn.Module:
    """A classifier behind the denoiser of 52.5 million parameters."""
    torch.manual_seed(0)
    denoiser = DiffusionDenoiser(ImprovedUNet(32 if smoke.tiny else 128), cosine_schedule(4000))
    classifier = build_network({"name": "resnet18", "width": 4 if smoke.tiny else 64}, (3, 32, 32), 10)
    return DenoisedNetwork(classifier, denoiser, SIGMA).eval()


def rates(smoke: Smoke) -> dict[str, Any]:
    """What `oodcert cost --measure` measures for the paper's networks, and certify in bfloat16."""
    config = smoke.config if smoke.tiny else read_configs([ROOT / "config" / "paper.yaml"])
    names = ["discriminator"] if smoke.tiny else [*trained_components(config.methods, config.training), "denoiser"]
    found: dict[str, Any] = {"images a second": measured_rates(config, names, smoke.device)}
    found["best batches"] = best_batches(config, names, smoke.device)
    network = _denoised(smoke)
    images, n, size = torch.rand(2, 3, 32, 32), *((8, 8) if smoke.tiny else (10_000, 500))
    for _ in range(2):  # the first call compiles
        began = time.monotonic()
        certify(Detector(network), images, SIGMA, [0.0], n, batch_size=size, device=smoke.device, precision="bfloat16")
        found["certify in bfloat16, images a second"] = len(images) * n / (time.monotonic() - began)
    return found
