"""The methods as the config composes them: components, networks, and a class of outliers beside the labels."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from oodcert.config.components import known_components
from oodcert.config.method_specs import MethodSpec, Score, trained_components
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.models.composition import deployed_network, smoothed_network
from oodcert.models.detector import Detector
from oodcert.models.wrappers import noisy_modules, replayed_logits
from untrained_runs import CONFIG, evaluation, image_sets

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CLASSIFIERS = sorted(known_components().keys() - {"discriminator", "denoiser"})
BOUNDS = ["percentile", "cdf", "gaussian", "lipschitz"]


def composed(
    classifier: str = "oe", discriminator: bool = False, denoiser: bool = False, score: Score = "msp"
) -> MethodSpec:
    return MethodSpec(classifier, discriminator, denoiser, score)


def untrained(spec: MethodSpec) -> dict[str, nn.Module]:
    """The untrained components of a method."""
    return evaluation("clean", "one", config=CONFIG.changed(methods={"one": spec})).components


def test_a_method_is_made_of_its_components_and_needs_those_they_need():
    assert composed().components == ["oe"]
    assert composed("prood", True, True).components == ["prood", "discriminator", "denoiser"]
    assert trained_components({"a": composed("prood", denoiser=True)}, CONFIG.training) == [
        "discriminator",
        "prood",
        "denoiser",
    ]
    ten = trained_components(CONFIG.methods, CONFIG.training)
    assert set(ten) == set(known_components()) and len(ten) == 10 and ten.index("discriminator") < ten.index("prood")


def test_the_denoiser_randomises_and_the_score_decides_on_the_bounds():
    assert [name for name, spec in CONFIG.methods.items() if spec.is_randomised] == ["diffusion", "distro"]
    assert composed().admitted_bounds(BOUNDS) == BOUNDS
    for score in ("energy", "max_logit", "atom"):
        assert composed(score=score).admitted_bounds(BOUNDS) == ["percentile"]
        assert composed(score=score).admitted_bounds(["gaussian"]) == []


@pytest.mark.parametrize(  # a class of outliers has no place in the joint model
    ("classifier", "discriminator"), [one for one in product(CLASSIFIERS, [False, True]) if one != ("atom", True)]
)
def test_any_classifier_goes_behind_the_denoiser(classifier, discriminator):
    method = composed(classifier, discriminator, True, "atom" if classifier == "atom" else "msp")
    components = untrained(method)
    classes, outputs = CONFIG.data.num_classes, CONFIG.data.num_classes + (classifier == "atom")
    smoothed = smoothed_network(method, components, 0.25, classes)
    deployed = deployed_network(method, components, 0.25, classes)
    noise = torch.randn(3, *IMAGES.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert smoothed(IMAGES).shape == deployed(IMAGES).shape == (4, outputs)
        drawn = replayed_logits(deployed, IMAGES, noise)
        assert not smoothed.training and not noisy_modules(smoothed)
        if not discriminator:  # which sees no noise when deployed
            expected = torch.stack([smoothed(IMAGES + 0.25 * one) for one in noise])
            assert torch.allclose(drawn, expected, atol=1e-5)
            denoised = components["denoiser"](IMAGES + 0.25 * noise[0], 0.25)
            assert torch.allclose(drawn[0], components[classifier](denoised), atol=1e-5)
        assert Detector(deployed, method.score).score(IMAGES).isfinite().all()


def test_without_a_denoiser_both_networks_are_the_same():
    method = composed("prood", True)
    components = untrained(method)
    smoothed, deployed = (build(method, components, 0.25, 8)(IMAGES) for build in (smoothed_network, deployed_network))
    assert torch.equal(smoothed, deployed)


def test_the_discriminator_of_a_deployed_method_sees_the_raw_image():
    method, seen = composed("prood", True, True), []
    components = untrained(method)
    components["discriminator"].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    deployed_network(method, components, 0.25, 8)(IMAGES)
    assert len(seen) == 1 and torch.equal(seen[0], IMAGES)


class Outlier(nn.Module):
    """Whatever the image: class 5 of eight, and before all classes the ninth, of outliers."""

    def forward(self, images):
        logits = torch.zeros(9)
        logits[5], logits[8] = 5.0, 9.0
        return logits.expand(len(images), -1) + 0 * images.flatten(1).sum(1, keepdim=True)


@pytest.fixture(scope="module")
def outlier():
    """The rows of an evaluation of ATOM with every ID image of class 5, or of class 4."""

    def evaluate(name, label, **settings):
        id_set = image_sets()["id"]
        sets = {"id": replace(id_set, labels=np.full(len(id_set), label))}
        one = evaluation(name, "atom", sets, **settings)
        one.components = {"atom": Outlier()}
        return EVALUATIONS[name].load()(one)

    return evaluate


def test_predictions_ignore_the_class_of_outliers(outlier):
    rows = outlier("clean", 5)
    assert (rows["prediction"] == 5).all()
    assert rows["score"].to_numpy() == pytest.approx(-np.log(np.exp(9) / (np.exp(9) + np.exp(5) + 7)), rel=1e-5)


@pytest.mark.parametrize("label", [5, 4])
def test_certified_labels_ignore_the_class_of_outliers(outlier, label):
    settings = {"sigmas": [0.25], "n0": 10, "n": 100, "alpha": 0.01, "sampling": "fixed", "radii": [0.0, 0.25]}
    rows = outlier("certify_id", label, **settings)
    assert (rows["prediction"] == 5).all() and (rows["correct"] == (label == 5)).all()
    assert (rows["radius"] > 0.25).all()


@pytest.mark.parametrize("label", [5, 4])
def test_the_attack_on_labels_ignores_the_class_of_outliers(outlier, label):
    budget = {"version": "standard", "iterations": 2, "queries": 2, "eot": 1}
    rows = outlier("attack_id", label, epsilons=[0.1], budget=budget)
    assert (rows["clean_correct"] == (label == 5)).all() and (rows["correct"] == (label == 5)).all()
