"""The public certificate of scores: rows, several detectors, adaptive sampling, any score, any network."""

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from scipy.stats import binom
from torch import nn

from oodcert.certification.certify import certify
from oodcert.errors import InputError
from oodcert.models.detector import Detector
from oodcert.models.wrappers import DenoisedNetwork, NoisyNetwork
from oodcert.statistics.failing_bounds import most_failing
from oodcert.statistics.metrics import certified_rates, guaranteed_metrics, tpr_threshold
from smoothed_networks import IMAGES, draws_of, small_network

SHIFTED = IMAGES / 2
RADII = [0.0, 0.25]
FAST = {"n": 100, "alpha": 0.01, "batch_size": 32}


def detector():
    return Detector(small_network())


def test_a_row_per_image_bound_and_radius():
    table = certify(detector(), IMAGES, 0.25, RADII, **FAST, name="set")
    assert len(table) == 7 * 4 * 2
    expected = ["image", "bound", "sigma", "radius", "estimate", "lower", "upper", "n", "alpha"]
    assert table.columns.tolist() == expected
    assert table["image"].tolist() == np.repeat(range(7), 8).tolist()
    assert table["bound"].tolist() == np.repeat(["percentile", "cdf", "gaussian", "lipschitz"], 2).tolist() * 7
    assert table["radius"].tolist() == RADII * 28 and (table["n"] == 100).all() and (table["alpha"] == 0.01).all()
    assert (table["lower"] <= table["estimate"]).all() and (table["estimate"] <= table["upper"]).all()


def test_the_estimates_are_those_of_the_draws():
    scores = torch.from_numpy(np.stack(draws_of())).double().softmax(2).amax(2).numpy()
    table = certify(detector(), IMAGES, 0.25, [0.0], **FAST, name="set").set_index("bound")["estimate"]
    assert np.allclose(table["gaussian"], scores.mean(1)) and np.allclose(table["cdf"], scores.mean(1))
    assert np.allclose(table["percentile"], np.sort(scores, 1)[:, 49])
    other = certify(detector(), IMAGES, 0.25, [0.0], **FAST, name="set", bounds=["percentile"], p=0.2)
    assert np.allclose(other["estimate"], np.sort(scores, 1)[:, 19])


@pytest.mark.parametrize("sampling", ["fixed", "adaptive"])
@pytest.mark.parametrize("shards", [2, 5])
def test_shards_and_order_do_not_change_a_bit(shards, sampling):
    settings = {**FAST, "n": 400, "sampling": sampling, "decision_thresholds": 0.4}
    whole = certify(detector(), IMAGES, 0.25, RADII, **settings)
    pieces = torch.randperm(7, generator=torch.Generator().manual_seed(1)).tensor_split(shards)
    tables = [certify(detector(), IMAGES[i], 0.25, RADII, ids=i.tolist(), **settings) for i in pieces]
    together = pd.concat(tables).sort_values("image", kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(together, whole, check_exact=True)


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_batch_size_changes_bounds_by_rounding_alone(batch_size):
    one, other = (certify(detector(), IMAGES, 0.25, RADII, n=100, batch_size=size) for size in (batch_size, 32))
    assert np.allclose(one[["lower", "upper"]], other[["lower", "upper"]], atol=1e-5)


@pytest.mark.parametrize("sampling", ["fixed", "adaptive"])
def test_several_detectors_get_what_each_gets_alone(sampling):
    settings = {**FAST, "n": 400, "sampling": sampling, "bounds": ["percentile", "vote"], "threshold": 0.5}
    both = {"msp": detector(), "energy": Detector(small_network(), "energy")}
    together = certify(both, IMAGES, 0.25, RADII, **settings)
    assert together.columns[0] == "detector"
    for name, alone in both.items():
        rows = together[together["detector"] == name].drop(columns="detector").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, certify(alone, IMAGES, 0.25, RADII, **settings), check_exact=True)


def test_a_detector_that_has_finished_is_left_out():
    flat = Detector(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    torch.nn.init.zeros_(flat.network[1].weight)
    passes = {"flat": 0, "other": 0}
    detectors = {"flat": flat, "other": detector()}
    for name, one in detectors.items():
        one.network.register_forward_hook(
            lambda _, inputs, __, name=name: passes.update({name: passes[name] + len(inputs[0])})
        )
    common = {"radii": [0.0], "n": 2000, "bounds": ["percentile"], "sampling": "adaptive", "batch_size": 128}
    together = certify(detectors, IMAGES, 0.25, **common, tolerance=1e-6)
    assert passes["other"] >= 2000 * len(IMAGES) > 2 * passes["flat"] > 0
    for name, one in detectors.items():
        alone = certify(one, IMAGES, 0.25, **common, tolerance=1e-6)
        rows = together[together["detector"] == name].drop(columns="detector").reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, alone)


def test_the_tolerance_of_a_score_without_a_range_is_in_standard_deviations():
    net, common = small_network(), {"radii": [0.0], "n": 5000, "bounds": ["percentile"], "sampling": "adaptive"}
    scaled = Detector(nn.Sequential(net, Scaled(1000.0)), "max_logit")
    once, scaled = (certify(one, IMAGES, 0.25, **common, tolerance=0.1) for one in (Detector(net, "max_logit"), scaled))
    assert once["n"].tolist() == scaled["n"].tolist() and (once["n"] < 5000).any()
    narrow = certify(Detector(net, "max_logit"), IMAGES, 0.25, **common, tolerance={"": 0.01})
    assert (narrow["n"] >= once["n"]).all() and (narrow["n"] > once["n"]).any()


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits):
        return self.factor * logits


@pytest.mark.parametrize("score", ["energy", "max_logit", "atom"])
def test_unbounded_scores_take_percentile_and_vote(score):
    settings = {"bounds": ["percentile", "vote"], "threshold": -1.0, **FAST}
    table = certify(Detector(small_network(), score), IMAGES, 0.25, [0.0], **settings)
    assert np.isfinite(table[["lower", "upper"]]).all(axis=None)
    with pytest.raises(InputError, match=r"percentile.*vote"):
        certify(Detector(small_network(), score), 0 * IMAGES, 0.25, [0.0], **FAST)


def test_a_callable_score_outside_0_1_has_no_mean_bound():
    larger = Detector(small_network(), lambda logits: 4 * logits.softmax(1).amax(1))
    with pytest.raises(InputError, match="percentile"):
        certify(larger, IMAGES, 0.25, [0.0], **FAST)
    halved = Detector(small_network(), lambda logits: logits.softmax(1).amax(1) / 2)
    assert certify(halved, IMAGES, 0.25, [0.0], **FAST)["upper"].le(1).all()


def test_atom_is_minus_the_log_probability_of_the_last_class():
    logits = torch.tensor([[2.0, 1.0, 0.5]])
    score = Detector(nn.Flatten(), "atom").score_of(logits)
    assert score.item() == pytest.approx(-torch.log_softmax(logits, 1)[0, 2].item())


def test_torchvision_models_with_batch_norm_are_certified_in_evaluation_mode():
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18(weights=None, num_classes=3).train()
    images = torch.rand(2, 3, 32, 32)
    table = certify(Detector(resnet), images, 0.25, [0.0], n=20, batch_size=20)
    alone = certify(Detector(resnet), images[:1], 0.25, [0.0], n=20, batch_size=20)
    assert not resnet.training
    assert np.allclose(table[table["image"] == 0]["estimate"], alone["estimate"])


def test_a_networks_own_randomness_is_part_of_the_smoothing():
    torch.manual_seed(0)
    randomised = certify(Detector(NoisyNetwork(small_network(), 0.3)), IMAGES, 0.4, [0.0], n=4000, bounds=["gaussian"])
    expected = certify(detector(), IMAGES, 0.5, [0.0], n=4000, bounds=["gaussian"])
    assert np.allclose(randomised["estimate"], expected["estimate"], atol=0.01)


def test_simultaneous_bounds_share_alpha():
    settings = {**FAST, "n": 500}
    single = certify(detector(), IMAGES, 0.25, RADII, **settings)
    jointly = certify(detector(), IMAGES, 0.25, RADII, simultaneous=True, **settings)
    assert np.allclose(jointly["alpha"], 0.01 / (2 * 7 * 2))
    assert (jointly["upper"] >= single["upper"]).all() and (jointly["lower"] <= single["lower"]).all()


class Ramp(nn.Module):
    """Scores by one direction of the image space: the median of the smoothed score is known everywhere."""

    def forward(self, images):
        return images.flatten(1).sum(1, keepdim=True) / 8


def ramp(n):
    images = torch.linspace(0.2, 0.8, n).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    return Detector(Ramp(), lambda logits: logits[:, 0]), images, 8 * images[:, 0, 0, 0].double().numpy()


def test_simultaneous_bounds_hold_together_and_single_ones_need_not():
    """Over repetitions with other noise, all images and radii at once."""
    scorer, images, median = ramp(20)
    truth = np.add.outer(median, RADII)
    settings = {"n": 200, "alpha": 0.2, "bounds": ["percentile"]}

    def all_hold(simultaneous):
        tables = [
            certify(scorer, images, 0.25, RADII, seed=seed, simultaneous=simultaneous, **settings)
            for seed in range(150)
        ]
        return [(table["upper"].to_numpy().reshape(20, 2) >= truth).all() for table in tables]

    assert np.mean(all_hold(True)) >= binom.ppf(1e-6, 150, 0.8) / 150
    assert np.mean(all_hold(False)) < 0.5


def test_adaptive_bounds_cover_at_their_level():
    """Sampling stops where further draws seem to change nothing. That must not spoil the level."""
    scorer, images, median = ramp(1)
    images, alpha = images.expand(2000, -1, -1, -1), 0.05
    settings = {"n": 600, "alpha": alpha, "bounds": ["percentile"], "sampling": "adaptive"}
    for thresholds in (float(median[0]) + 0.3, None):
        table = certify(scorer, images, 0.25, RADII, decision_thresholds=thresholds, tolerance=0.1, **settings)
        upper = table["upper"].to_numpy().reshape(2000, 2)
        assert table["n"].nunique() > 1
        assert ((upper >= median[0] + np.array(RADII)).mean(0) >= binom.ppf(1e-6, 2000, 1 - alpha) / 2000).all()


def test_adaptive_lower_bounds_cover_at_their_level_whatever_the_cap():
    scorer, images, median = ramp(1)
    images, alpha = images.expand(2000, -1, -1, -1), 0.05
    settings = {"n": 600, "alpha": alpha, "bounds": ["percentile"], "sampling": "adaptive"}
    for cap in (float(median[0]) - 0.3, float(median[0]), float(median[0]) + 0.3):
        table = certify(scorer, images, 0.25, [0.0], lower_bound_cap=cap, tolerance=0.1, **settings)
        assert (table["lower"] <= median[0]).mean() >= binom.ppf(1e-6, 2000, 1 - alpha) / 2000


def test_a_cap_leaves_the_threshold_below_it_and_saves_draws():
    scorer, images, _ = ramp(60)
    settings = {"n": 3000, "alpha": 0.01, "bounds": ["percentile"], "sampling": "adaptive", "tolerance": 0.02}
    sharp = certify(scorer, images, 0.25, [0.0], **settings)
    threshold = tpr_threshold(sharp["lower"].to_numpy())
    for cap in (threshold + 0.2, {"percentile": threshold + 0.2}, sharp[:1].assign(lower=threshold + 0.2)):
        few = certify(scorer, images, 0.25, [0.0], lower_bound_cap=cap, **settings)
        assert few["n"].sum() < sharp["n"].sum() / 3 and (few["lower"] <= sharp["lower"] + 0.1).all()
        assert threshold - 0.02 <= tpr_threshold(few["lower"].to_numpy()) <= threshold + 0.02


def test_adaptive_sampling_saves_draws_and_decides_alike():
    scorer, images, _ = ramp(60)
    settings = {"n": 3000, "alpha": 0.01, "bounds": ["percentile"]}
    threshold = 4.0
    fixed = certify(scorer, images, 0.25, RADII, **settings)
    adaptive = certify(scorer, images, 0.25, RADII, sampling="adaptive", decision_thresholds=threshold, **settings)
    assert adaptive["n"].sum() < fixed["n"].sum() / 5
    accepted = fixed["upper"] < threshold
    assert not ((adaptive["upper"] < threshold) & ~accepted).any()
    assert ((adaptive["upper"] < threshold) == accepted).mean() > 0.97


def test_the_vote_certifies_what_the_percentile_bound_does():
    scorer, images, median = ramp(60)
    settings = {"n": 500, "alpha": 0.01, "bounds": ["percentile", "vote"], "threshold": 4.0}
    table = certify(scorer, images, 0.25, RADII, **settings)
    rates, confident = (certified_rates(table, table, confidence=one).set_index("radius") for one in (None, 0.99))
    percentile = table[table["bound"] == "percentile"]
    assert rates["fpr"].tolist() == [(percentile.query("radius == @r")["upper"] >= 4.0).mean() for r in RADII]
    assert (rates["fpr"] >= [(median + r >= 4.0).mean() for r in RADII]).all()
    assert (rates["tpr"] <= [(median - r >= 4.0).mean() for r in RADII]).all()
    failing = most_failing(60, 0.01, 0.005) / 60  # of each side, counted against the detector
    assert failing > 0 and (confident["confidence"] == 0.99).all() and (rates["per_image_alpha"] == 0.01).all()
    assert confident["fpr"].tolist() == pytest.approx((rates["fpr"] + failing).clip(upper=1).tolist())
    assert confident["tpr"].tolist() == pytest.approx((rates["tpr"] - failing).clip(lower=0).tolist())
    with pytest.raises(InputError, match="vote"):
        certified_rates(table, percentile)


def test_two_sided_metrics_let_the_adversary_move_id_images_too():
    settings = {"n": 500, "alpha": 0.01, "bounds": ["percentile"]}
    id_table, ood_table = (certify(detector(), x, 0.25, RADII, **settings) for x in (IMAGES, SHIFTED))
    one, two = (guaranteed_metrics(id_table, ood_table, two_sided=flag)["auc"] for flag in (False, True))
    assert one[0] == two[0] and two[1] <= one[1]
    with pytest.raises(InputError, match=r"0\.25"):
        guaranteed_metrics(id_table[id_table["radius"] == 0], ood_table, two_sided=True)


def test_a_table_of_thresholds_keeps_the_guaranteed_auc():
    settings = {"n": 2000, "alpha": 0.01, "bounds": ["percentile", "gaussian"]}
    id_table = certify(detector(), IMAGES, 0.25, [0.0], **settings)
    fixed = certify(detector(), SHIFTED, 0.25, RADII, **settings)
    adaptive = certify(detector(), SHIFTED, 0.25, RADII, sampling="adaptive", decision_thresholds=id_table, **settings)
    before, after = (guaranteed_metrics(id_table, ood_table)["auc"] for ood_table in (fixed, adaptive))
    assert (after <= before + 1e-12).all() and (after >= before - 0.1).all() and adaptive["n"].mean() < 2000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": ["percentil"]}, "percentil"),
        ({"bounds": []}, "one or more"),
        ({"bounds": ["vote"]}, "threshold"),
        ({"threshold": 0.5}, "vote"),
        ({"p": 1.0}, "p = 1.0"),
        ({"alpha": 0}, "alpha = 0"),
        ({"sampling": "sometimes"}, "sometimes"),
        ({"n": 0}, "n = 0"),
        ({"sigma": -0.1}, "sigma = -0.1"),
        ({"radii": [-0.25]}, "-0.25"),
        ({"radii": []}, "radii"),
        ({"bounds": "percentile"}, r"\['percentile'\]"),
        ({"bounds": ["vote"], "threshold": float("nan")}, "threshold = nan"),
        ({"ids": [0, 1, 2]}, "3 ids for 7"),
        ({"ids": [0] * 7}, "7 ids for 7"),
        ({"n": 10.5}, r"n = 10\.5"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"decision_thresholds": {"cdf": 0.5}, "sampling": "adaptive"}, "decision_thresholds.*percentile"),
        ({"lower_bound_cap": {"cdf": 0.5}, "sampling": "adaptive"}, "lower_bound_cap.*percentile"),
        ({"lower_bound_cap": {"percentile": [0.4, 0.5]}, "sampling": "adaptive"}, "lower_bound_cap.*several"),
        ({"lower_bound_cap": 0.5, "decision_thresholds": 0.5, "sampling": "adaptive"}, "Both"),
    ],
)
def test_unusable_settings_are_named(change, message):
    settings = {"sigma": 0.25, "radii": [0.0], "n": 20, "alpha": 0.01, "bounds": ["percentile"], **change}
    with pytest.raises(InputError, match=message):
        certify(detector(), IMAGES, **settings)


def test_nan_logits_stop_the_certificate():
    broken = small_network()
    broken[-1].bias.data[0] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        certify(Detector(broken), IMAGES, 0.25, [0.0], 10)


@pytest.mark.parametrize("score", [lambda logits: logits[:, 0].sign().log(), lambda logits: logits, torch.mean])
def test_scores_that_are_nan_or_of_another_shape_are_refused(score):
    with pytest.raises(InputError, match="one number an image"):
        certify(Detector(small_network(), score), IMAGES, 0.25, [0.0], 50, bounds=["percentile"])


def test_an_empty_dict_of_detectors_is_refused():
    with pytest.raises(InputError, match="No detector"):
        certify({}, IMAGES, 0.25)


def test_an_error_leaves_gradients_on_and_inference_mode_is_no_obstacle():
    with pytest.raises(InputError) as caught:
        certify(Detector(small_network(), lambda logits: logits[:, 0] + 5), IMAGES, 0.25, [0.0], 50, bounds=["cdf"])
    assert caught and torch.is_grad_enabled()
    with torch.inference_mode():
        certify(detector(), IMAGES, 0.25, [0.0], 50, bounds=["cdf"])


class NeverCalled(nn.Module):
    def forward(self, images):
        pytest.fail("a draw was taken")


def test_a_band_that_takes_too_long_is_refused_before_any_draw():
    with pytest.raises(InputError, match="berk-jones"):
        certify(Detector(NeverCalled()), IMAGES, 0.25, bounds=["cdf"], n=2_000_000)


def test_a_network_in_training_mode_is_certified_in_evaluation_mode():
    expected, trained = certify(detector(), IMAGES, 0.25, [0.0], **FAST), detector()
    trained.network.train()
    pd.testing.assert_frame_equal(certify(trained, IMAGES, 0.25, [0.0], **FAST), expected)


def test_tables_that_do_not_belong_together_are_refused():
    settings = {**FAST, "bounds": ["percentile", "vote"]}
    one, other, quantile = (
        certify({"a": detector(), "b": detector()}, IMAGES, 0.25, [0.0], **settings, threshold=0.4),
        certify(detector(), IMAGES, 0.5, [0.0], **settings, threshold=0.5),
        certify(detector(), IMAGES, 0.5, [0.0], **settings, threshold=0.4, p=0.2),
    )
    with pytest.raises(InputError, match="detector = a, b"):
        guaranteed_metrics(one, one)
    with pytest.raises(InputError, match=r"sigma = 0\.25, 0\.5"):
        certified_rates(one[one["detector"] == "a"], other)
    with pytest.raises(InputError, match=r"vote at 0.4 and vote at 0.5"):
        certified_rates(other, quantile)
    with pytest.raises(InputError, match=r"p=0.2"):
        guaranteed_metrics(other[other["bound"] == "percentile"], quantile[quantile["bound"] != "vote at 0.4"])


class InPlace(nn.Module):
    def forward(self, images):
        return images.sub_(0.5).flatten(1)[:, :3]


def test_a_network_that_changes_its_input_is_refused_in_company():
    certify(Detector(InPlace()), IMAGES, 0.25, [0.0], n=10)
    with pytest.raises(InputError, match="in place"):
        certify({"a": Detector(InPlace()), "b": detector()}, IMAGES, 0.25, [0.0], n=10)
    denoised = {name: Detector(DenoisedNetwork(InPlace(), lambda noisy, _: noisy / 2, 0.25)) for name in "ab"}
    denoiser = denoised["a"].network.denoiser
    denoised["b"].network.denoiser = denoiser
    with pytest.raises(InputError, match="in place"):
        certify(denoised, IMAGES, 0.25, [0.0], n=10)


def test_a_constant_detector_and_one_that_abstains_guarantee_at_most_one_half():
    constant = Detector(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    nn.init.zeros_(constant.network[1].weight)
    for n in (1, 300):  # one draw certifies nothing
        for sampling in ("fixed", "adaptive"):
            id_table, ood_table = (certify(constant, x, 0.25, RADII, n=n, sampling=sampling) for x in (IMAGES, SHIFTED))
            assert (guaranteed_metrics(id_table, ood_table)["auc"] <= 0.5).all()
