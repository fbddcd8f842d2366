"""On an emulated GPU every evaluation gives the rows of the CPU, mixes no devices, and sampling waits only for rows."""

import pandas as pd
import pytest

from emulated_gpu import emulated_gpu
from oodcert.evaluations.registry import EVALUATIONS
from untrained_runs import computed, evaluation, evaluations

METHODS = ("vos", "atom", "prood", "distro")  # one network without a range, with more classes, joint, and denoised
EVERY = [(name, method) for name, spec in EVALUATIONS.items() for method in (METHODS if spec.methods else ("linear",))]
ADAPTIVE = {"n": 400, "sampling": "adaptive", "sigmas": [0.25]}


def moved(one):
    """The evaluation on the emulated GPU."""
    one.device = "cuda"
    one.__post_init__()
    return one


def on_gpu(name, method, **changes):
    return EVALUATIONS[name].load()(moved(evaluation(name, method, **changes)))


def close(found, expected):
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "method"), EVERY)
def test_an_evaluation_gives_the_same_rows_on_a_gpu(name, method):
    expected = computed(name, method)
    with emulated_gpu():
        found = on_gpu(name, method)
    close(found, expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("settings", [{}, ADAPTIVE], ids=["fixed", "adaptive"])
def test_certificates_are_the_same_on_a_gpu(settings, precision):
    changes = {**settings, "precision": precision}
    expected = computed("certify_l2", "distro", **changes)
    with emulated_gpu():
        found = on_gpu("certify_l2", "distro", **changes)
    close(found, expected)


def test_methods_behind_one_denoiser_are_certified_together_on_a_gpu():
    several = evaluations("certify_l2", ["diffusion", "distro"], precision="bfloat16")
    compute = EVALUATIONS["certify_l2"].load()
    expected = compute(*several)
    with emulated_gpu():
        found = compute(*map(moved, evaluations("certify_l2", ["diffusion", "distro"], precision="bfloat16")))
    close(found, expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["certify_l2", "certify_id"])
def test_sampling_waits_for_the_rows_of_each_batch_and_for_nothing_else(name, precision):
    """The host waits once for each of twice as many batches, and else as often as before."""
    waited = []
    for n in (64, 128):
        changes = {"n": n, "n0": 64} if name == "certify_id" else {"n": n}
        with emulated_gpu() as waits:
            on_gpu(name, "distro", **changes, sigmas=[0.25], precision=precision, batch_size=64)
            waited.append(dict(waits))
    few, many = (one.pop("event") for one in waited)
    assert waited[0] == waited[1]
    draws = [36 * 64, 36 * 128] if name == "certify_l2" else [12 * 128, 12 * 192]
    assert [few, many] == [count // 64 for count in draws]
