"""Scores and tables that metrics are computed from: taken where they have one meaning, else refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from oodcert.statistics.metrics import certified_rates, guaranteed_metrics, ood_metrics
from refusals import assert_refused

ID, OOD = [0.9, 0.4, 0.7], [0.1, 0.5]
EXPECTED = ood_metrics(ID, OOD)


@pytest.mark.parametrize(
    "given",
    [
        tuple(ID),
        np.array(ID)[:, None],
        [[one] for one in ID],
        pd.Series(ID, index=[4, 2, 9]),
        pd.DataFrame({"score": ID}),
        torch.tensor(ID, requires_grad=True),
        [torch.tensor(one) for one in ID],
        np.array(ID, object),
        (one for one in ID),
        np.array([9, 4, 7]) / 10,
    ],
)
def test_scores_of_any_kind_are_those_they_mean(given):
    assert ood_metrics(given, OOD) == EXPECTED


def test_integers_and_short_floats_are_scores():
    assert ood_metrics([9, 4, 7], torch.tensor([1, 5])) == EXPECTED
    assert ood_metrics(torch.tensor(ID).bfloat16(), np.float16(OOD)) == EXPECTED


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.ones((3, 2)), "(3, 2)"),
        ([torch.tensor([0.9, 0.4]), torch.tensor([0.7, 0.2])], "(2, 2)"),
        (np.array(ID) + 0j, "complex"),
        (["0.9", "0.4"], "<U3"),
        ("0.9", "<U3"),
        ([True, False], "bool"),
        (np.ma.masked_less(ID, 0.5), "MaskedArray"),
        (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
        ([0.9, float("nan")], "NaN"),
        (pd.array([0.9, None], dtype="Float64"), "NaN"),
        ([[0.9], [0.4, 0.7]], "list"),
        ({0.9, 0.4}, "set"),
        ({"a": 0.9}, "dict"),
        ([2**60, 2**60 + 1], "2**53"),
        (0.9, "()"),
        (None, "NoneType"),
        ([], "no scores"),
    ],
)
def test_what_is_no_list_of_scores_is_refused(given, words):
    assert_refused(lambda: ood_metrics(given, OOD), words, "ID")
    assert_refused(lambda: ood_metrics(ID, given), words, "OOD")


def table(count=3, **columns):
    """A table as of oodcert.certify."""
    frame = pd.DataFrame({"image": range(count), "bound": "vote at 0.5", "sigma": 0.25, "radius": 0.0})
    return frame.assign(estimate=0.5, lower=0.4, upper=0.6, n=10, alpha=0.01).assign(**columns)


@pytest.mark.parametrize("metrics", [guaranteed_metrics, certified_rates])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (table()[:0], "no rows"),
        (table().drop(columns="upper"), "no column upper"),
        (table(upper=np.nan, lower=np.nan), "3 cells without a value"),
        (table(radius=[0.0, np.nan, 0.0]), "radius"),
        (table(bound=["vote at 0.5", None, "vote at 0.5"]), "bound"),
        (table(bound=0.5), "bound"),
        (table(lower="0.4"), "lower"),
        (table(sigma=0.5), "sigma"),
        (table().to_dict(), "dict"),
        ([table()], "list"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_table_of_bounds_is_refused(metrics, bad, words):
    assert_refused(lambda: metrics(table(), bad), words)
    assert_refused(lambda: metrics(bad, table()), words)


def test_one_image_a_side_is_enough():
    assert guaranteed_metrics(table(1, lower=0.7), table(1), confidence=None)["auc"].tolist() == [1.0]
    rates = certified_rates(table(1, lower=0.7), table(1), confidence=None)[["radius", "tpr", "fpr"]]
    assert rates.to_dict("records") == [{"radius": 0.0, "tpr": 1.0, "fpr": 1.0}]
