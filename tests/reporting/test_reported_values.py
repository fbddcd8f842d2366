"""The reported values: one unit, known names, no duplicates; and how claims select them."""

import re

import numpy as np
import pytest

from oodcert.errors import InputError
from oodcert.reporting.reported_values import REPORTED, reported, reported_value
from synthetic_evidence import TEN

METRICS = {
    "accuracy",
    "auc",
    "adversarial_auc",
    "adversarial_id_auc",
    "adversarial_id_ood_auc",
    "adversarial_accuracy",
    "adversarial_fpr95",
    "guaranteed_auc",
    "certified_accuracy",
    "certified_confidence",
    "certified_margin",
    "certified_radius_increase",
    "average_certified_radius",
    "fpr95",
    "corrupted_auc",
    "corrupted_fpr95",
    "compositional_auc",
    "compositional_fpr95",
    "robust_detection",
    "headline_increase",
    "auc_gain",
    "adversarial_auc_gain",
    "draws",
}
ID_SETS = {"cifar10", "cifar100", "mnist", "svhn", "imagenet", "several"}
OOD_SETS = {"", "average", "near_ood", "far_ood", "cifar10", "cifar100", "svhn", "uniform_noise", "lsun_classroom"}
OOD_SETS |= {"fashion_mnist", "emnist_letters", "isun", "lsun", "places365"}


@pytest.fixture(scope="module")
def table():
    return reported()


def test_every_value_is_a_number_in_its_units_range(table):
    assert len(table) == 1318
    assert np.isfinite(table["value"]).all() and table["approximate"].dtype == bool
    assert set(table["unit"]) == {"percent", "points", "l2_radius", "count"}
    percent = table[table["unit"] == "percent"]
    signed = percent["metric"] == "certified_margin"
    assert percent.loc[~signed, "value"].between(0, 100).all()
    assert percent.loc[signed, "value"].between(-100, 100).all()
    assert set(table.loc[table["unit"] == "l2_radius", "metric"]) == {"average_certified_radius"}
    assert (table["spread"].dropna() >= 0).all() and table["spread"].notna().sum() == 346


def test_no_fraction_passes_for_a_percentage(table):
    """Of shares that are given as fractions the largest are near 100 by now, and no paper's are all below 2."""
    shares = table[(table["unit"] == "percent") & ~table["metric"].isin(["headline_increase"])]
    assert (shares.groupby(["paper", "metric"])["value"].max() > 2).all()


def test_every_name_is_known(table):
    assert set(table["metric"]) == METRICS
    assert set(table["id_set"]) == ID_SETS and set(table["ood_set"]) == OOD_SETS
    assert set(TEN) & set(table["method"]) == {*TEN} - {"prood"}
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in table["method"])
    for column in ("paper", "table", "source", "id_set_reported", "method_reported"):
        assert table[column].str.strip().str.len().min() > 0
    of_id_images = table["metric"].str.contains("accuracy|certified|draws")
    assert (table.loc[of_id_images, "ood_set"] == "").all() and (table.loc[~of_id_images, "ood_set"] != "").all()


def test_radii_stand_with_a_norm_and_where_they_must(table):
    assert set(table["norm"]) == {"", "linf", "l2"}
    assert (table.loc[table["radius"].notna(), "norm"] != "").all()
    assert table.loc[table["metric"].isin(["certified_accuracy", "guaranteed_auc"]), "radius"].notna().all()
    assert set(table.loc[table["norm"] == "linf", "radius"].dropna()) == {0.01, 0.03, 0.3, 0.031373}
    assert set(table["sigma"].dropna()) == {0.12, 0.25, 0.5, 1.0}


def test_no_number_is_there_twice(table):
    keys = [column for column in table if column not in ("value", "spread", "approximate", "source")]
    assert not table.duplicated(keys).any()


@pytest.mark.parametrize(
    ("selector", "value"),
    [
        ({"paper": "ATD", "id_set": "cifar10", "method": "at_msp", "metric": "adversarial_id_ood_auc"}, 17.4),
        ({"paper": "ATOM", "id_set": "cifar10", "method": "oe", "metric": "adversarial_auc"}, 0.34),
        ({"paper": "AROS", "id_set": "cifar10", "method": "aros", "metric": "robust_detection"}, 80.1),
        ({"paper": "AROS", "ood_set": "svhn", "metric": "auc"}, 90.97),
        ({"paper": "Cohen", "sigma": 0.5, "radius": 1.0}, 23.0),
        ({"paper": "Kumar", "method": "cdf", "metric": "certified_margin", "sigma": 0.25, "radius": 0.5}, None),
        ({"paper": "OpenOOD", "id_set": "cifar10", "ood_set": "near_ood", "method": "oe"}, 94.82),
        ({"paper": "GOOD", "id_set": "cifar10", "ood_set": "svhn", "method": "good", "metric": "guaranteed_auc"}, 38.0),
        ({"paper": "DISTRO", "id_set": "cifar10"}, 13.0),
    ],
)
def test_numbers_of_the_papers(table, selector, value):
    chosen = table
    for column, wanted in selector.items():
        chosen = chosen[chosen[column].str.startswith(wanted) if column == "paper" else chosen[column] == wanted]
    assert len(chosen) == 1
    if value is not None:
        assert chosen["value"].iloc[0] == value


def test_a_reported_value_is_a_mean_of_rows_or_a_difference_of_two():
    rows = {"paper": "GOOD", "id_set": "cifar10", "method": "oe", "metric": "adversarial_auc"}
    assert reported_value({"rows": rows}) == "27.6"  # of 11.0, 3.7, 20.0 and 75.7
    assert reported_value({"rows": rows, "minus": {"method": "acet"}}) == "−60.6"
    assert reported_value({"rows": {"paper": "DISTRO", "id_set": "cifar100"}}) == "about 5.0"
    assert reported_value({"says": "more robust"}) == "more robust"
    with pytest.raises(InputError, match=rf"{REPORTED.name} has no row with .*'method': 'oee'"):
        reported_value({"rows": rows | {"method": "oee"}})
