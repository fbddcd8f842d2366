"""Certified labels: radii against the truth, and adaptive sampling."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from oodcert.certification.certify_labels import certify_labels
from oodcert.errors import InputError

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)


class Sign(nn.Module):
    """Class 1 where the mean pixel exceeds one half: its smoothed label is known in closed form."""

    def forward(self, images):
        margin = images.flatten(1).mean(1) - 0.5
        return torch.stack([-margin, margin], 1)


def problem(count=21):
    images = torch.linspace(0.3, 0.7, count).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    return images, (images[:, 0, 0, 0] > 0.5).long(), 8 * (images[:, 0, 0, 0] - 0.5).abs().numpy()


def passed(table):
    return (np.less_equal.outer(RADII, table["radius"].to_numpy()).sum(0)) * (table["radius"] > 0)


def test_certified_radius_never_exceeds_the_true_distance():
    images, labels, distance = problem()
    table = certify_labels(Sign(), images, labels, sigma=0.5, n0=50, n=1000)
    assert (table["radius"] <= distance + 1e-6).all()
    assert (table["radius"] > 0.8 * np.minimum(distance, 1.0))[distance > 0.5].all()
    assert table["correct"][distance > 0.5].all() and (table["n"] == 1000).all()


def test_an_undecided_image_abstains():
    table = certify_labels(Sign(), torch.full((1, 1, 8, 8), 0.5), [1], sigma=0.5, n0=50, n=200)
    assert table.loc[0, "prediction"] == -1 and table.loc[0, "radius"] == 0 and not table.loc[0, "correct"]


def test_adaptive_sampling_passes_the_same_radii_with_fewer_draws():
    images, labels, distance = problem(201)
    settings = {"sigma": 0.5, "n0": 50, "n": 5000}
    fixed = certify_labels(Sign(), images, labels, **settings)
    adaptive = certify_labels(Sign(), images, labels, sampling="adaptive", radii=RADII, **settings)
    assert adaptive["n"].sum() < fixed["n"].sum() / 2
    assert (passed(adaptive) > passed(fixed)).mean() <= 0.01 and (passed(adaptive) < passed(fixed)).mean() <= 0.05
    assert (adaptive["radius"] <= distance + 1e-6).all()


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_do_not_change_a_bit_of_adaptive_labels(shards):
    images, labels, _ = problem()
    settings = {"sigma": 0.5, "n0": 50, "n": 1000, "sampling": "adaptive", "batch_size": 64}
    whole = certify_labels(Sign(), images, labels, **settings)
    tables = [
        certify_labels(Sign(), images[i], labels[i], ids=i.tolist(), **settings)
        for i in torch.arange(21).tensor_split(shards)
    ]
    pd.testing.assert_frame_equal(pd.concat(tables, ignore_index=True), whole, check_exact=True)


@pytest.mark.parametrize("change", [{"n": 0}, {"n0": 0}, {"sampling": "sometimes"}])
def test_unusable_settings_are_named(change):
    images, labels, _ = problem(3)
    with pytest.raises(InputError, match=str(next(iter(change.values())))):
        certify_labels(Sign(), images, labels, 0.5, **{"n0": 10, "n": 20, **change})
