"""Batches that do not fit in memory are halved, with the same result; freed memory is kept."""

import subprocess
import sys

import pandas as pd
import pytest
import torch
from torch import nn

from oodcert import Detector, certify
from oodcert.errors import InputError
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.runtime.faults import explained
from oodcert.runtime.memory import is_out_of_memory, with_oom_backoff, within_memory
from untrained_runs import CONFIG, computed, evaluation

FEW = 5  # images that fit


class Small(nn.Module):
    """A network on a device with memory for FEW images: the allocator itself refuses more."""

    def __init__(self, network):
        super().__init__()
        self.network, self.sizes = network, []

    def forward(self, images):
        self.sizes.append(len(images))
        if len(images) > FEW:
            torch.empty(1 << 60)
        return self.network(images)


def small(evaluated):
    """The evaluation with a Small classifier, and the sizes of the batches that this gets."""
    classifier = evaluated.settings.method_spec.classifier
    evaluated.components[classifier] = Small(evaluated.components[classifier])
    return evaluated, evaluated.components[classifier].sizes


@pytest.mark.parametrize("method", ["plain", "distro"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("clean", {"draws": 2}),
        ("certify_l2", {}),
        ("attack_linf", {"budget": CONFIG.evaluation.attack_linf.as_json() | {"draws": 1}}),
        ("attack_l2", {"draws": 1, "radii": [0.0, 0.25]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_batch_that_does_not_fit_is_halved_with_the_same_result(name, settings, method, capsys):
    whole = computed(name, method, **settings)
    halved, sizes = small(evaluation(name, method, **settings))
    rows = EVALUATIONS[name].load()(halved)
    pd.testing.assert_frame_equal(rows, whole, rtol=1e-5, atol=1e-6)
    assert max(sizes) > FEW and "going on with" in capsys.readouterr().err


def test_a_size_that_fits_is_kept_for_the_batches_to_come():
    network = Small(nn.Flatten())
    compute = with_oom_backoff(network)
    images = torch.arange(64.0).reshape(16, 1, 2, 2)
    for _ in range(2):
        assert torch.equal(compute(images), images.flatten(1))
    assert network.sizes == [16, 8, *[4] * 8]


def test_the_five_line_certificate_halves_its_batches_too(capsys):
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    whole, halved = (
        certify(Detector(one), images, sigma=0.25, n=100, batch_size=50) for one in (network, Small(network))
    )
    pd.testing.assert_frame_equal(whole, halved, rtol=1e-5, atol=1e-6)
    assert "batches of 50: going on with 25" in capsys.readouterr().err


def test_a_network_that_changed_its_input_before_memory_gave_out_is_not_tried_again():
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.ReLU(inplace=True), Small(nn.Sequential(nn.Flatten(), nn.Linear(16, 4))))
    with pytest.raises(InputError, match="in place"):
        certify(Detector(network), images, sigma=0.25, n=100, batch_size=50)


def test_one_image_that_does_not_fit_ends_with_the_remedy():
    def never(batch):
        return torch.empty(1 << 60)

    with pytest.raises(RuntimeError) as caught:
        with_oom_backoff(never)(torch.zeros(4))
    assert is_out_of_memory(caught.value) and "batch_size" in explained(caught.value)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(batch):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        with_oom_backoff(broken)(torch.zeros(4))
    assert explained(RuntimeError("shapes do not match")) is None
    assert computed("guarantee_linf", "prood").notna().all().all()


def test_autoattack_whose_noise_depends_on_its_batch_names_a_size_that_fits():
    evaluated, sizes = small(evaluation("attack_id", "plain"))
    message = (
        r"batch of 12 .*numbers depend on its size\. A batch of 3 fits: set evaluation\.batch_size to that or less"
    )
    with pytest.raises(InputError, match=message):
        EVALUATIONS["attack_id"].load()(evaluated)
    assert sizes[-2:] == [6, 3]


def test_a_single_image_that_does_not_fit_has_no_smaller_batch():
    def never(count=1):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    with pytest.raises(InputError, match=r"single image \(CUDA out of memory.*larger|more memory"):
        within_memory(never, 8, never, "batch_size")


@pytest.mark.parametrize(
    "message",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "CUDA error: cudaErrorMemoryAllocation",
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
    ],
)
def test_exhaustion_is_known_by_every_message(message, capsys):
    """CUDA's own error is an AcceleratorError, cuBLAS's and cuDNN's are RuntimeErrors."""
    error = getattr(torch, "AcceleratorError", RuntimeError) if message.startswith("CUDA error: out") else RuntimeError

    def compute(batch):
        if len(batch) > 2:
            raise error(message)
        return batch

    assert torch.equal(with_oom_backoff(compute)(torch.arange(8)), torch.arange(8))
    assert "going on with 2" in capsys.readouterr().err
    assert "does not fit in memory" in explained(error(message))


@pytest.mark.parametrize("message", ["CUDA error: device-side assert triggered", "CUDNN_STATUS_EXECUTION_FAILED", ""])
def test_other_faults_of_a_gpu_are_no_exhaustion(message):
    assert not is_out_of_memory(RuntimeError(message))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_freed_memory_is_kept_for_the_next_tensor():
    script = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from oodcert.runtime.memory import keep_freed_memory\n"
        "if sys.argv[1] == 'kept': keep_freed_memory()\n"
        "def resident(): return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()\n"
        "begun = resident()\n"
        "[torch.ones(15_000_000) for _ in range(3)]\n"
        "print(resident() - begun)\n"
    )
    left = {}
    for how in ("kept", "returned"):
        done = subprocess.run([sys.executable, "-c", script, how], capture_output=True, text=True, check=True)
        left[how] = int(done.stdout)
    assert left["kept"] > 150e6 > 2 * left["returned"]
