"""The audit's bounds, on what certify and certify_labels give: it reports nothing of that, and every outlier."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import oodcert
from conftest import read_config
from oodcert.audit.bounds import check_certificates, check_radii
from oodcert.config.load import check_config

RADII = (0.0, 0.1, 0.3, 0.8)
SETTINGS = {"sigmas": (0.25,), "radii": RADII, "alpha": 0.01}


def run(evaluation, frame, **settings):
    """What the checks read of a run: the frames of one method and the config."""
    config = check_config(read_config()).changed(evaluation={evaluation: SETTINGS | settings})
    return SimpleNamespace(frames={(evaluation, "plain"): frame}, config=config)


def network(steepness):
    torch.manual_seed(0)
    layer = nn.Linear(16, 3)
    layer.weight.data *= steepness
    return nn.Sequential(nn.Flatten(), layer)


def certified(n, sampling, score="msp", steepness=3.0):
    bounds = ["percentile"] if score == "energy" else ["percentile", "cdf", "gaussian", "lipschitz"]
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    bounded = oodcert.certify(
        oodcert.Detector(network(steepness), score),
        images,
        0.25,
        RADII,
        n,
        0.01,
        bounds,
        sampling=sampling,
        tolerance=0.2,
    )
    frame = bounded.rename(columns={"image": "sample"}).assign(method="plain", set="near").astype({"sample": int})
    return frame, run("certify_l2", frame, n=n, sampling=sampling)


@pytest.mark.parametrize("steepness", [0.0, 3.0, 100.0])
@pytest.mark.parametrize(
    ("n", "sampling", "score"),
    [(5, "fixed", "msp"), (301, "fixed", "msp"), (900, "adaptive", "msp"), (40, "fixed", "energy")],
)
def test_what_certify_gives_has_no_findings(n, sampling, score, steepness):
    """Also where all draws are equal, where hardly any rank is a bound, and where sampling stops early."""
    frame, made = certified(n, sampling, score, steepness)
    result = check_certificates(made)
    assert result.compared == len(frame) and not result.findings
    if (n, steepness) == (900, 0.0):
        assert (frame["n"] < n).all()


@pytest.mark.parametrize("sampling", ["fixed", "adaptive"])
def test_every_value_that_the_draws_rule_out_is_a_finding(sampling):
    frame, made = certified(900, sampling)
    generator = np.random.default_rng(0)
    for _ in range(40):
        forged = frame.copy()
        index, side = generator.integers(len(frame)), generator.choice(["lower", "upper", "estimate"])
        value = forged.loc[index, side]
        impossible = {"lower": forged.loc[index, "estimate"] + 0.01, "upper": forged.loc[index, "estimate"] - 0.01}
        forged.loc[index, side] = impossible.get(side, 0.3 if value > 0.5 else 0.9)
        made.frames["certify_l2", "plain"] = forged
        assert check_certificates(made).findings


@pytest.mark.parametrize(("n", "sampling"), [(100, "fixed"), (1000, "adaptive")])
def test_a_certified_radius_is_one_of_few(n, sampling):
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    certificates = oodcert.certify_labels(
        network(3.0), images, [0] * 8, 0.25, 20, n, 0.01, sampling=sampling, radii=RADII
    ).rename(columns={"image": "sample"})
    frame = certificates.assign(method="plain", set="id", sigma=0.25, label=0, n0=20, alpha=0.01)
    made = run("certify_id", frame, n0=20, n=n, sampling=sampling)
    assert not check_radii(made).findings and (frame["radius"] > 0).any()
    frame.loc[frame["radius"].idxmax(), "radius"] -= 1e-4
    assert len(check_radii(made).findings) == 1


def test_a_method_without_certificates_is_not_an_error():
    made = run("certify_l2", pd.DataFrame({"method": []}))
    assert check_certificates(made).compared == 0
