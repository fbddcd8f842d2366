"""On an emulated GPU every training gives the weights of the CPU, and mixes no devices."""

import pandas as pd
import pytest
import torch
from test_training import NETWORKS, SETTINGS, toy_set
from torch.nn import Module

from conftest import RECIPE
from emulated_gpu import emulated_gpu
from oodcert.config.components import known_components
from oodcert.config.models import recipe_model
from oodcert.models.components import build_component
from oodcert.training import train_component


def trained(component: str, device: str, **changes) -> tuple[Module, pd.DataFrame]:
    settings = {**RECIPE, **SETTINGS.get(component, {}), "epochs": 3, "learning_rate": 0.01, **changes}
    discriminator = build_component("discriminator", NETWORKS, (1, 8, 8), 2)
    return train_component(
        component,
        {"discriminator": discriminator} if component == "prood" else {},
        toy_set("id", True),
        toy_set("out", False),
        networks=NETWORKS,
        num_classes=2,
        recipe=recipe_model(component)(**settings),
        seed=0,
        device=device,
    )


@pytest.mark.parametrize("component", known_components())
def test_a_training_on_a_gpu_stays_there_and_learns_as_on_a_cpu(component):
    with emulated_gpu():
        network, curve = trained(component, "cuda")
        assert all(tensor.is_cuda for tensor in network.state_dict().values())
    expected = trained(component, "cpu")[1]
    assert (curve[["epoch", "term"]] == expected[["epoch", "term"]]).all(axis=None)
    assert curve["value"].to_numpy() == pytest.approx(expected["value"].to_numpy(), rel=0.05, abs=0.05)  # of bfloat16


@pytest.mark.parametrize("augmentation", ["flip_crop", "auto"])
def test_a_bounded_training_is_the_same_on_a_gpu(augmentation):
    """It uses no bfloat16, so the numbers are those of the CPU: batches made ahead are the same batches."""
    with emulated_gpu():
        network, curve = trained("discriminator", "cuda", augmentation=augmentation)
        weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    expected, theirs = trained("discriminator", "cpu", augmentation=augmentation)
    pd.testing.assert_frame_equal(curve, theirs, rtol=1e-5)
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(weights[name], tensor, atol=1e-6)


def test_a_step_waits_once_for_its_values_and_its_batch_is_made_before():
    """While the device works on a batch the next one is made, on another stream; only then are the values looked at."""
    with emulated_gpu() as waits:
        counts = []
        for epochs in (1, 2):
            waits.clear()
            trained("plain", "cuda", epochs=epochs)
            counts.append(dict(waits))
    few, many = counts
    steps = 64 // RECIPE["batch_size"]
    assert (few.pop("event"), many.pop("event")) == (steps, 2 * steps)
    made = {"to the GPU": 2 * steps}  # the indices of a batch, which wait for the stream of the batches alone
    assert {name: many[name] - few[name] for name in many if many[name] != few[name]} == made
