"""Every flag: the defect is there where the authors' code is followed, and gone where the flag is corrected."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

import synthetic_evidence
from oodcert.attacks.pgd import monotone_pgd
from oodcert.authors_code import networks
from oodcert.authors_code.attack import authors_code_ensemble, mean_gradient_pgd
from oodcert.authors_code.bounds import joined, linf_bound
from oodcert.authors_code.flags import AUTHORS_CODE, SOUND, diffusion_steps, protocol
from oodcert.authors_code.l2 import l2_scores, own_radii
from oodcert.certification.linf_bounds import linf_score_upper_bound
from oodcert.certification.smoothing_bounds import score_bounds, vote_radius
from oodcert.config.method_specs import MethodSpec
from oodcert.evaluations.authors_code.votes import noisy_draws
from oodcert.models.detector import Detector
from oodcert.models.wrappers import DenoisedNetwork
from oodcert.reporting import tables
from oodcert.reporting.tables.authors_code import authors_code_ood_table, repeated
from oodcert.statistics.metrics import ood_metrics
from untrained_runs import computed, evaluation

JOINT = MethodSpec("classifier", discriminator=True, denoiser=False, score="msp")
DISTRO, PLAIN = replace(JOINT, denoiser=True), replace(JOINT, discriminator=False)
SIGMA = 0.12


class Denoiser(nn.Module):
    """Gives back what `restore` makes of its input, and keeps the inputs."""

    def __init__(self, restore):
        super().__init__()
        self.restore, self.seen = restore, []
        self.register_buffer("alphas_cumprod", torch.linspace(0.9999, 0.01, 100, dtype=torch.float64))

    def forward(self, noisy, sigma):
        self.seen.append(noisy)
        return self.restore(noisy)


class Brightness(nn.Module):
    """A discriminator: one logit, slope times the mean pixel plus an offset."""

    def __init__(self, slope, offset):
        super().__init__()
        self.layer = nn.Linear(64, 1)
        self.layer.weight.data[:], self.layer.bias.data[:] = slope / 64, offset

    def forward(self, images):
        return self.layer(images.flatten(1))


def linear(weight):
    """A classifier of 64 pixels with these weights [K, 64]."""
    layer = nn.Linear(64, len(weight), bias=False).requires_grad_(False)
    layer.weight[:] = torch.as_tensor(weight)
    return nn.Sequential(nn.Flatten(), layer)


def classifier(outputs=8, scale=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return linear(scale * torch.randn(outputs, 64, generator=generator))


def images(count=4, seed=1):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_d1_noise_is_added_twice():
    one = evaluation("authors_code", "diffusion", sigma=SIGMA, n0=40, n=200)
    grey = torch.full((5, 1, 8, 8), 0.5)
    for flags, expected in ((AUTHORS_CODE, 2**0.5 * SIGMA), (protocol("D1"), SIGMA)):
        denoiser = Denoiser(torch.sigmoid)
        detectors = [Detector(DenoisedNetwork(classifier(), denoiser, SIGMA))]
        noisy_draws(one, detectors, grey, np.arange(5), "grey", flags)
        assert float((torch.cat(denoiser.seen) - 0.5).std()) == pytest.approx(expected, rel=0.01)


def test_d2_the_bound_does_not_bound_the_smoothed_score():
    """A step of mean 0.3 under noise: its mean rises as the gaussian bound says, which is attained."""
    draws = (np.random.default_rng(0).uniform(size=10_000) < 0.3).astype(float)
    own = np.array([0.25])
    sound = score_bounds(["lipschitz"], draws, SIGMA, own, 0.01)["lipschitz"][2]
    worst = norm.cdf(norm.ppf(0.3) + own / SIGMA)
    arguments = np.array([0.3]), sound, own, 0.25, False
    assert l2_scores(*arguments, AUTHORS_CODE) < 0.55 < 0.9 < worst
    assert l2_scores(*arguments, protocol("D2")) >= worst


def test_d3_confidences_are_above_one():
    own = own_radii(np.array([10_000]), 10_000, SIGMA, 0.01, AUTHORS_CODE)
    for is_id in (True, False):
        assert l2_scores(np.ones(1), np.ones(1), own, 0.0, is_id, AUTHORS_CODE) == pytest.approx(1.317, abs=1e-3)
        assert l2_scores(np.ones(1), np.ones(1), own, 0.0, is_id, protocol("D3")) == 1


@pytest.mark.parametrize(("abstaining", "their_auc", "sound_auc"), [(1.0, 1.0, 0.0), (2 / 3, 5 / 6, 1 / 6)])
def test_d4_a_constant_detector_gets_a_guarantee(abstaining, their_auc, sound_auc):
    score, own = np.full(6, 0.5), np.full(6, 0.3)
    of_ood = np.where(np.arange(6) < round(6 * abstaining), 0, own)
    for flags, expected in ((AUTHORS_CODE, their_auc), (protocol("D4"), sound_auc)):
        pair = (l2_scores(score, score, radii, 0.0, is_id, flags) for radii, is_id in ((own, True), (of_ood, False)))
        assert ood_metrics(*pair)["auc"] == pytest.approx(expected)


def test_d5_radii_have_different_populations():
    score, own = np.full(10, 0.5), np.where(np.arange(10) < 4, 0, 0.3)
    for flags, populations in ((AUTHORS_CODE, [10, 6]), (protocol("D5"), [10, 10])):
        assert [len(l2_scores(score, score, own, radius, False, flags)) for radius in (0.0, 0.25)] == populations


def test_d6_the_first_images_of_the_source_stand_for_a_set():
    sets, rows = evaluation("authors_code", "plain").sets, computed("authors_code", "plain")
    rows = rows.query("quantity == 'one_pass'")
    for name in ("held_out_digits", "photo_crops"):
        ids, of_set = sets[name].ids, rows[rows["set"] == name]
        assert of_set[of_set["corrected_flag"] == ""]["sample"].tolist() == sorted(ids)[:5] != ids[:5].tolist()
        assert of_set[of_set["corrected_flag"] == "D6"]["sample"].tolist() == ids[:5].tolist()
    assert not rows.query("set == 'id' and corrected_flag == 'D6'").size


def test_d7_the_alphas_are_fixed_and_cap_the_radius():
    whole = np.array([10_000])
    for of_labels, alpha in ((False, 0.01), (True, 0.001)):
        radius = own_radii(whole, 10_000, SIGMA, 0.2, AUTHORS_CODE, of_labels)
        assert radius == vote_radius(whole, 10_000, SIGMA, alpha) and radius < 0.398
        assert own_radii(whole, 10_000, SIGMA, 0.2, protocol("D7"), of_labels) > radius


def test_d8_the_denoiser_is_nearly_off():
    components = {"classifier": classifier(), "denoiser": Denoiser(torch.sigmoid)}
    assert networks.deployed_sigma(SIGMA, components, AUTHORS_CODE) == pytest.approx(0.005, rel=0.01)
    assert networks.deployed_sigma(SIGMA, components, protocol("D8")) == SIGMA
    rows = computed("authors_code", "diffusion").query("quantity == 'score' and set == 'id'")
    by_flag = {flag: of_flag["value"].to_numpy() for flag, of_flag in rows.groupby("corrected_flag")}
    assert (by_flag[""] != by_flag["D8"]).all()


def test_d9_the_bound_is_of_another_input_than_the_score():
    """Of a black image, which the denoiser turns bright: the discriminator is sure of the bright one alone."""
    components = {"classifier": linear(np.eye(8, 64) * 20), "discriminator": Brightness(12, -6)}
    components["denoiser"] = Denoiser(lambda noisy: bright().expand(len(noisy), -1, -1, -1))
    black = torch.zeros(3, 1, 8, 8)
    for flags, violated in ((AUTHORS_CODE - {"D13"}, True), (protocol("D9") - {"D13"}, False)):
        network = networks.network(DISTRO, components, SIGMA, 8, flags, noisy=True)
        bound = linf_bound(DISTRO, components, black, 0.01, 8, flags)
        assert (bound < 0.2).all() and (Detector(network).score(black) > bound + 1e-6).all() == violated


def bright():
    """A bright image on which a classifier of the first eight pixels is sure of the first class."""
    pixels = torch.ones(64)
    pixels[1:8] = 0
    return pixels.reshape(1, 1, 8, 8)


def test_d10_the_guaranteed_auc_is_zero_by_construction():
    id_score = Detector(linear(np.eye(8, 64) * 20)).score(bright())
    components = {"classifier": classifier().double()}
    theirs, sound = (
        linf_bound(PLAIN, components, images().double(), 0.001, 8, flags) for flags in (AUTHORS_CODE, protocol("D10"))
    )
    assert (theirs > 1).all() and ood_metrics(id_score, theirs)["auc"] == 0
    assert (sound < 0.9).all() and ood_metrics(id_score, sound)["auc"] == 1


def test_d10_a_softmax_of_upper_bounds_is_no_bound():
    contrast = torch.eye(2, 64)[0] - torch.eye(2, 64)[1]
    components = {"classifier": linear(torch.stack([100 * contrast, -100 * contrast])).double()}
    grey = torch.full((1, 1, 8, 8), 0.5).double()
    attained = Detector(components["classifier"]).score(grey + 0.1 * contrast.reshape(1, 1, 8, 8))
    assert linf_bound(PLAIN, components, grey, 0.1, 2, AUTHORS_CODE).log() == 0.5 < 0.999999 < attained
    assert linf_bound(PLAIN, components, grey, 0.1, 2, protocol("D10")) >= attained


def test_d11_the_ball_leaves_the_pixel_range():
    components, black = {"classifier": classifier().double()}, torch.zeros(2, 1, 8, 8).double()
    uncut, cut = (linf_bound(PLAIN, components, black, 0.05, 8, flags) for flags in ({"D11"}, SOUND))
    assert (uncut > cut + 1e-3).all()
    assert torch.equal(cut, linf_score_upper_bound(components["classifier"], "msp", black, 0.05))


def test_d12_the_bound_of_one_image_cannot_be_joined():
    several, single = torch.rand(3, 1), torch.rand(1, 1)
    assert joined([several, several], AUTHORS_CODE).shape == (6,)
    with pytest.raises(RuntimeError):
        joined([single], AUTHORS_CODE)
    assert joined([single, several], protocol("D12")).shape == (4,)
    rows = computed("authors_code", "prood").query("quantity == 'single_image'")
    assert rows.set_index("corrected_flag")["value"].to_dict() == {"": 0, "D12": 1}


def test_d13_probabilities_sum_to_more_than_one():
    p_id = 4 / 90  # of a strongly OOD image
    components = {"classifier": classifier(100), "discriminator": Brightness(0, np.log(p_id / (1 - p_id)))}
    for flags, mass in ((AUTHORS_CODE, 9.6), (protocol("D13"), 1.0)):
        output = networks.network(JOINT, components, SIGMA, 100, flags, noisy=True)(images())
        assert output.exp().sum(1).tolist() == pytest.approx([mass] * 4, rel=1e-4)


def test_d13_the_bound_of_fewer_classes_is_violated():
    components = {"classifier": classifier(8, scale=2.0).double(), "discriminator": Brightness(0, -20.0).double()}
    for flags, violated in ((AUTHORS_CODE, True), (protocol("D13"), False)):
        network = networks.network(JOINT, components, SIGMA, 8, flags, noisy=True)
        bound = linf_bound(JOINT, components, images().double(), 0.01, 8, flags)
        assert ((Detector(network).score(images().double()) > bound).all()) == violated


def attack(flags, score="msp", network=None):
    budget = {"apgd": {"iterations": 10, "restarts": 1}, "pgd": {"iterations": 5, "restarts": 1}, "draws": 1}
    return authors_code_ensemble(
        network or classifier(), score, images(), np.arange(4), "far", epsilon=0.05, protocol=flags, **budget, seed=0
    )


def test_d14_apgd_perturbs_no_image():
    moved = {flags: (attack(flags)["apgd"] != images()).flatten(1).any(1) for flags in (AUTHORS_CODE, protocol("D14"))}
    assert not moved[AUTHORS_CODE].any() and moved[protocol("D14")].all()


def test_d17_epsilon_is_taken_for_sigma():
    arguments = SIGMA, 8 / 255, (3, 32, 32), {"denoiser": Denoiser(torch.sigmoid)}
    assert networks.label_sigma(*arguments, AUTHORS_CODE) == pytest.approx(1.74, abs=0.01)
    assert networks.label_sigma(*arguments, protocol("D17")) == SIGMA


def test_d18_an_attack_without_room_succeeds_by_luck():
    """With an epsilon of nothing no attack gains anything, but the maximum over fresh draws does."""
    rows = computed("authors_code", "diffusion", epsilon=1e-9, draws=50)
    rows = rows.query("set != 'id' and quantity in ('score', 'attacked')")
    values = rows.pivot_table(index=["set", "sample"], columns=["quantity", "corrected_flag"], values="value")
    assert (values["attacked", ""] > values["score", "D18"]).mean() > 0.8
    assert (values["attacked", ""] - values["score", "D18"]).mean() > 1e-4
    np.testing.assert_allclose(values["attacked", "D18"], values["score", "D18"], atol=1e-6)


def test_d19_the_step_depends_on_the_batch():
    def brightness(points):
        return points.flatten(1).mean(1)

    steps = {}
    for run in (mean_gradient_pgd, monotone_pgd):
        for count in (1, 16):
            grey = torch.full((count, 1, 8, 8), 0.5)
            adversarial, _ = run(brightness, grey, grey, 0.3, iterations=1, step=0.1)
            steps[run, count] = float((adversarial - grey)[0].mean())
    assert steps[mean_gradient_pgd, 1] == pytest.approx(16 * steps[mean_gradient_pgd, 16], rel=1e-3)
    assert steps[monotone_pgd, 1] == steps[monotone_pgd, 16] > 10 * steps[mean_gradient_pgd, 1]


def test_d20_noise_images_come_twice():
    assert len(np.unique(repeated(1000, 128))) == 512
    assert repeated(20, 16).tolist() == [*range(16), *range(4)]
    # two of 18 noise images are hard, and the second worker draws others in their place
    config, evidence = scored(lambda sample: np.where(sample < 16, 0.1, 0.9))
    auc = {flag: clean(evidence, config, flag, "gaussian_noise")["auc"] for flag in ("", "D20")}
    assert auc == {"": 1, "D20": pytest.approx(16 / 18)}
    assert clean(evidence, config, "", "photo_crops")["auc"] == pytest.approx(16 / 18)


def test_d21_chance_is_ten_elevenths():
    config, evidence = scored(lambda sample: np.full(len(sample), 0.5))
    aupr = {flag: clean(evidence, config, flag, "photo_crops")["aupr"] for flag in ("", "D21")}
    assert aupr == {"": pytest.approx(10 / 11), "D21": 1 / 2}


def scored(ood_value):
    """Config and evidence of distro in which every ID value is 0.5 and OOD values are ood_value(sample)."""
    config = synthetic_evidence.config(methods=["distro"])
    evidence = synthetic_evidence.evidence(config)
    rows = evidence["authors_code"]
    values = np.where(rows["set"] == "id", 0.5, ood_value(rows["sample"].to_numpy()))
    return config, {**evidence, "authors_code": rows.assign(value=values)}


def clean(evidence, config, corrected_flag, name):
    table = authors_code_ood_table(evidence, config, corrected_flag)
    return table.set_index(["set", "protocol"]).loc[name, "clean"]


def test_d22_perfect_separation_has_an_auc_of_zero():
    logits = torch.cat([torch.full((5, 8), 4.0), torch.full((5, 8), 1.0)])
    for flags, auc in ((AUTHORS_CODE, 0.0), (protocol("D22"), 1.0)):
        scores = networks.detector(nn.Identity(), "energy", flags).score_of(logits)
        assert ood_metrics(scores[:5], scores[5:])["auc"] == auc


def test_d22_the_attack_raises_another_score():
    """Two logits that fall with the brightness, one more steeply: the softmax rises with it, the energy falls."""
    network = linear(np.outer([-10.0, -40.0], np.full(64, 1 / 64)))
    gains = {}
    for corrected_flag in ("", "D22"):
        adversarial = attack(protocol(corrected_flag) - {"D19"}, "energy", network)["uniform"]
        before, after = (Detector(network, "energy").score(points) for points in (images(), adversarial))
        gains[corrected_flag] = after - before
    assert (gains[""] < 0).all() and (gains["D22"] > 0).all()


def test_d23_cifar100_contains_cifar10():
    for path, their_steps, sound_steps in (
        ("models/CIFAR100/ema.pt", 4000, 1000),
        ("models/CIFAR10/ema.pt", 4000, 4000),
        ("models/SVHN/ema.pt", 1000, 1000),
    ):
        assert (diffusion_steps(path, AUTHORS_CODE), diffusion_steps(path, SOUND)) == (their_steps, sound_steps)


def test_d24_has_a_reason_and_no_number():
    config = synthetic_evidence.config()
    table = tables.ablation_table(synthetic_evidence.evidence(config), config).query("flag == 'D24'")
    assert list(table["method"]) == list(config.methods)
    assert table[["authors_code", "sound", "effect"]].isna().all(axis=None)
    assert table["note"].str.startswith("no effect here: ").all()
