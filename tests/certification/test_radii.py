"""Bounds at radii that were not certified."""

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from oodcert.certification.radii import at_radius
from oodcert.errors import InputError
from oodcert.evidence.store import read_evidence


@pytest.fixture(scope="module")
def evidence():
    """The committed certificates of one method at one sigma."""
    return read_evidence([ROOT / "results/reference/digits/evidence/certify_l2/distro.parquet"]).query("sigma == 0.25")


@pytest.mark.parametrize("bound", ["percentile", "cdf", "gaussian", "lipschitz"])
@pytest.mark.parametrize("radius", [0.0, 0.25, 0.5, 1.0])
def test_a_certified_radius_gives_what_was_certified(evidence, bound, radius):
    rows = evidence[evidence["bound"] == bound]
    at_new_radius = at_radius(rows, radius).reset_index(drop=True)
    certified = rows[rows["radius"] == radius].reset_index(drop=True)
    pd.testing.assert_frame_equal(at_new_radius, certified, rtol=0, atol=1e-15)


@pytest.mark.parametrize("bound", ["percentile", "cdf", "gaussian", "lipschitz"])
def test_between_certified_radii_bounds_lie_between_and_grow(evidence, bound):
    rows = evidence[evidence["bound"] == bound]
    uppers = np.array([at_radius(rows, radius)["upper"] for radius in (0.25, 0.3, 0.4, 0.5)])
    lowers = np.array([at_radius(rows, radius)["lower"] for radius in (0.25, 0.3, 0.4, 0.5)])
    assert (uppers[1:] >= uppers[:-1]).all() and (lowers[1:] <= lowers[:-1]).all()
    if bound in ("percentile", "cdf"):
        assert (uppers[1] == uppers[3]).all()  # never better than what was certified
    else:
        assert (uppers[1] < uppers[3]).any()


@pytest.mark.parametrize("bound", ["percentile", "cdf"])
def test_beyond_the_certified_radii_nothing_is_guaranteed(evidence, bound):
    at_new_radius = at_radius(evidence[evidence["bound"] == bound], 1.01)
    assert (
        len(at_new_radius) == 600
        and np.isposinf(at_new_radius["upper"]).all()
        and np.isneginf(at_new_radius["lower"]).all()
    )


def test_mixtures_and_impossible_radii_are_refused(evidence):
    rows = evidence[evidence["bound"] == "gaussian"]
    with pytest.raises(InputError, match="bound = percentile, cdf, gaussian, lipschitz"):
        at_radius(evidence, 0.1)
    with pytest.raises(InputError, match=r"-0\.1"):
        at_radius(rows, -0.1)
    with pytest.raises(InputError, match="no radius 0"):
        at_radius(rows[rows["radius"] > 0], 0.1)
