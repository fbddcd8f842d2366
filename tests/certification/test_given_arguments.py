"""Images, labels, ids and numbers that certificates are given: taken where they have one meaning, or refused first."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from oodcert.certification.certify import certify
from oodcert.certification.certify_labels import certify_labels
from oodcert.models.detector import Detector
from oodcert.runtime.keyed_noise import keyed_noise
from oodcert.statistics.metrics import certified_rates
from refusals import assert_refused

IMAGES = torch.zeros(3, 3, 8, 8)
IMAGES[range(3), range(3)] = 1  # of the classes 0, 1 and 2


class Brightest(nn.Module):
    """The class is the brightest channel. Counts its passes."""

    passes = 0

    def forward(self, images):
        self.passes += 1
        return 20 * images.mean((2, 3))


def scores(images=IMAGES, **settings):
    """A table of certify."""
    default = {"sigma": 0.25, "radii": [0.0], "n": 40, "alpha": 0.1, "bounds": ["percentile"]}
    return certify(Detector(Brightest()), images, **{**default, **settings})


def labels(given=(0, 1, 2), images=IMAGES, **settings):
    """A table of certify_labels."""
    return certify_labels(Brightest(), images, given, **{"sigma": 0.25, "n0": 10, "n": 40, "alpha": 0.1, **settings})


def refused_first(*words, given=(0, 1, 2), only=None, **settings):
    """Both certificates refuse the settings, and no network has been called."""
    network = Brightest()
    default = {"sigma": 0.25, "n": 40, "alpha": 0.1, "images": IMAGES, **settings}
    if only != "labels":
        assert_refused(lambda: certify(Detector(network), **{"bounds": ["percentile"], **default}), *words)
    if only != "scores":
        assert_refused(lambda: certify_labels(network, labels=given, **default), *words)
    assert network.passes == 0


def table_equals(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize(
    "given",
    [
        pd.Series([0, 1, 2], index=[2, 1, 0]),
        pd.Series([0, 1, 2], index=[5, 6, 7]),
        pd.Series(pd.Categorical([0, 1, 2])),
        pd.array([0, 1, 2], dtype="Int64"),
        pd.Index([0, 1, 2]),
        pd.DataFrame({"label": [0, 1, 2]}),
        np.array([0, 1, 2], np.uint8),
        np.array([[0], [1], [2]]),
        np.array([0, 1, 2], object),
        torch.tensor([0, 1, 2], dtype=torch.int8),
        torch.tensor([0.0, 1.0, 2.0], requires_grad=True),
        [torch.tensor(0), torch.tensor([1]), np.float32(2)],
        [[0], [1], [2]],
        (one for one in (0, 1, 2)),
        range(3),
    ],
)
def test_labels_are_taken_by_position(given):
    assert labels(given)["correct"].all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.eye(3), "argmax(1)"),
        (np.eye(3).tolist(), "argmax(1)"),
        ([0.9, 1.7, 2.0], "0.9"),
        ([0, 1, float("nan")], "nan"),
        (pd.array([0, None, 2], dtype="Int64"), "<NA>"),
        (np.ma.masked_equal([0, 1, 2], 1), "None"),
        ([True, False, True], "True"),
        (np.array([True, False, True]), "True"),
        (["0", "1", "2"], "'0'"),
        ("012", "'012'"),
        ([0, 1, -1], "-1"),
        ([0, 1], "2 labels for 3 images"),
        ({0, 1, 2}, "{0, 1, 2}"),
        ({0: 0, 1: 1, 2: 2}, "{0: 0"),
        (None, "None"),
        (1, "labels = 1"),
        ([0, 1, 2j], "2j"),
        ([0, 1, 2**70], "1180591620717411303424"),
    ],
)
def test_what_is_no_label_is_refused_before_any_draw(given, words):
    refused_first(words, given=given, only="labels")


def test_a_label_that_is_no_class_of_a_network_is_refused():
    assert_refused(lambda: labels([0, 1, 3]), "labels hold 3", "3 classes")
    both = {"three": Brightest(), "two": nn.Sequential(Brightest(), nn.Linear(3, 2))}
    assert_refused(lambda: certify_labels(both, IMAGES, [0, 1, 2], 0.25, n=20), "2 classes")


@pytest.mark.parametrize(
    "ids",
    [
        [7, 2**63 - 1, 2.0],
        pd.Series([7, 2**63 - 1, 2], index=[2, 0, 1]),
        pd.Index([7, 2**63 - 1, 2]),
        np.array([7, 2**63 - 1, 2], np.uint64),
        torch.tensor([7, 2**63 - 1, 2]),
    ],
)
def test_ids_are_whole_numbers_of_any_kind(ids):
    expected = [7, 2**63 - 1, 2]
    table_equals(scores(ids=ids), scores(ids=expected))
    table_equals(labels(ids=ids), labels(ids=expected))
    assert scores(ids=ids)["image"].tolist() == expected


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([0, 0, 1], "3 ids for 3 images"),
        ([0, 0.0, 1], "3 ids for 3 images"),
        ([0.2, 1.7, 2.2], "0.2"),
        ([-1, 0, 1], "-1"),
        ([2**63, 1, 2], str(2**63)),
        (np.array([2**64 - 1, 0, 1], np.uint64), str(2**64 - 1)),
        ([2.0**53, 1, 2], "9007199254740992.0"),
        (["a", "b", "c"], "'a'"),
        ([True, False, 2], "True"),
        ([0, 1], "2 ids for 3 images"),
        ("abc", "'abc'"),
    ],
)
def test_ids_that_would_share_noise_are_refused_before_any_draw(ids, words):
    refused_first(words, ids=ids)


@pytest.mark.parametrize("sample", [2**64 - 1, 2**63, -1])
def test_noise_has_no_sample_beyond_its_range(sample):
    assert_refused(lambda: keyed_noise(0, "set", sample, 0, 1, (2,)), str(sample))


@pytest.mark.parametrize(
    "images",
    [
        IMAGES.numpy(),
        IMAGES.numpy().astype(np.float16),
        IMAGES.numpy().astype(">f8"),
        IMAGES.numpy().astype(np.longdouble),
        IMAGES.double(),
        IMAGES.clone().requires_grad_(),
        nn.Parameter(IMAGES),
        IMAGES.transpose(2, 3),
        IMAGES.numpy()[:, :, ::-1],
        list(IMAGES),
        IMAGES.tolist(),
    ],
)
def test_images_are_floats_of_any_kind(images):
    table_equals(scores(images), scores())
    table_equals(labels(images=images), labels())
    assert torch.equal(Detector(Brightest()).score(images), Detector(Brightest()).score(IMAGES))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ((255 * IMAGES).byte(), "Divide uint8 images by 255"),
        (IMAGES.long().numpy(), "int64"),
        (255 * IMAGES, "[0, 255]"),
        (IMAGES * torch.nan, "[nan, nan]"),
        (IMAGES.permute(0, 2, 3, 1), "permute(0, 3, 1, 2)"),
        (IMAGES[0], "images[None]"),
        (IMAGES[:0], "empty"),
        (IMAGES[..., :0], "empty"),
        ([], "[N, C, H, W]"),
        ([IMAGES[0], IMAGES[1, :, :4]], "list"),
        (IMAGES > 0, "bool"),
        (IMAGES + 0j, "complex"),
        (np.ma.masked_less(IMAGES.numpy(), 0.5), "masked"),
        (IMAGES.to_sparse(), "sparse"),
        (IMAGES.to("meta"), "meta"),
        ("images.npz", "str"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_image_is_refused_before_any_draw(images, words):
    refused_first(words, images=images)
    assert_refused(lambda: Detector(Brightest()).score(images), words)


@pytest.mark.parametrize(
    ("setting", "given", "meant"),
    [
        ("sigma", np.float32(0.25), 0.25),
        ("sigma", torch.tensor(0.25), 0.25),
        ("n", np.int64(50), 50),
        ("n", 5e1, 50),
        ("alpha", np.float64(0.05), 0.05),
        ("seed", np.int32(4), 4),
        ("seed", 4.0, 4),
        ("seed", torch.tensor(4), 4),
        ("batch_size", np.int64(7), 7),
        ("radii", 0.25, [0.25]),
        ("radii", np.array([0.25, 0.0]), [0.25, 0.0]),
        ("radii", [0.25, 0.0, 0.25], [0.25, 0.0]),
        ("radii", torch.tensor([0.0, 0.25]), [0.0, 0.25]),
        ("radii", range(2), [0.0, 1.0]),
    ],
)
def test_numbers_of_any_kind_are_those_they_mean(setting, given, meant):
    table_equals(scores(**{setting: given}), scores(**{setting: meant}))
    table_equals(labels(**{setting: given}), labels(**{setting: meant}))


def test_other_arguments_are_taken_where_they_have_one_meaning():
    table_equals(labels(n0=np.int16(12)), labels(n0=12))
    for bounds in (("percentile",), np.array(["percentile"]), {"percentile"}, ["percentile", "percentile"]):
        table_equals(scores(bounds=bounds), scores())
    adaptive = {"n": 2000, "sampling": "adaptive"}
    for thresholds in ([0.6], np.float32(0.6), torch.tensor([0.6]), {"percentile": 0.6}, pd.Series([0.6])):
        table_equals(
            scores(decision_thresholds=thresholds, **adaptive),
            scores(decision_thresholds=float(torch.tensor(0.6)), **adaptive),
        )
    assert scores(seed=-1)["lower"].tolist() != scores(seed=1)["lower"].tolist()


@pytest.mark.parametrize(
    "settings",
    [
        *({"sigma": value} for value in (0, -1, float("nan"), float("inf"), [0.25], [0.1, 0.2], "0.25", True, None)),
        *({"n": value} for value in (0, -3, 60.5, True, "60", None, [60], float("inf"))),
        *({"alpha": value} for value in (0, -0.1, 0.5, 0.7, 1, "0.1", True, None, float("nan"))),
        *({"seed": value} for value in (0.5, "3", None, True, [1])),
        *({"batch_size": value} for value in (0, -1, 2.5, True, "4")),
        *({"radii": value} for value in ([], [-0.1], [float("nan")], float("inf"), "0.25", None, [[0.1, 0.2]], [True])),
        *({"sampling": value} for value in ("sometimes", None, True)),
        *({"precision": value} for value in ("half", None)),
        *({"name": value} for value in (None, 5)),
    ],
)
def test_settings_of_both_certificates_are_refused_before_any_draw(settings):
    ((key, _),) = settings.items()
    refused_first(key, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        *({"bounds": value} for value in ((), None, [1], [None], ["Percentile"], "percentile")),
        *({"p": value} for value in (0, 1, "0.5", True, None, float("nan"))),
        *({"tolerance": value, "sampling": "adaptive"} for value in (-1, "a", {}, {"x": 1}, float("nan"), True)),
        *({"mean": value, "bounds": ["gaussian"]} for value in ("median", None)),
        *({"band": value, "bounds": ["cdf"]} for value in ("wide", None)),
        *({"threshold": value, "bounds": ["vote"]} for value in ("a", True, float("inf"), None, [0.5])),
        *({"device": value} for value in ("gpu", 3.5, "cuda:99")),
        *(
            {"decision_thresholds": value, "sampling": "adaptive"}
            for value in ([], {}, {"percentile": []}, float("nan"), "a", pd.DataFrame(), [0.5, float("nan")], True)
        ),
        {"lower_bound_cap": pd.DataFrame(columns=["bound", "radius", "lower"]), "sampling": "adaptive"},
        {"lower_bound_cap": [], "sampling": "adaptive"},
    ],
)
def test_settings_of_scores_are_refused_before_any_draw(settings):
    refused_first(next(iter(settings)), only="scores", **settings)


@pytest.mark.parametrize("n0", [0, -1, 1.5, True, "5", None])
def test_draws_that_choose_the_class_are_a_whole_number(n0):
    refused_first("n0", n0=n0, only="labels")


@pytest.mark.parametrize(
    ("settings", "value", "near"),
    [
        ({"bounds": ["vote"]}, {"threshold": 0.9999996}, {"threshold": 0.99999999999}),
        ({"bounds": ["vote"]}, {"threshold": 0.1 + 0.2}, {"threshold": 0.3}),
        ({"bounds": ["vote"]}, {"threshold": 1234567.0}, {"threshold": 1234568.0}),
        ({"bounds": ["percentile"]}, {"p": 0.1234567}, {"p": 0.1234568}),
        ({"bounds": ["percentile"]}, {"p": 0.5}, {"p": 0.5000000001}),
    ],
)
def test_near_thresholds_and_quantiles_have_labels_of_their_own(settings, value, near):
    one, other = (scores(**settings, **change)["bound"].unique().tolist() for change in (value, near))
    assert one != other
    assert scores(bounds=["vote"], threshold=0.5)["bound"][0] == "vote at 0.5"
    assert scores(bounds=["vote"], threshold=4.0)["bound"][0] == "vote at 4"


def test_rates_of_near_thresholds_are_not_mixed():
    one, other = (scores(bounds=["vote"], threshold=threshold) for threshold in (0.9999996, 0.99999999999))
    assert_refused(lambda: certified_rates(one, other), "0.9999996", "0.99999999999")
