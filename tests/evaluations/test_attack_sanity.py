"""The evidence on the attack itself: its runs at other radii and budgets, and its attack on a linear score."""

import pandas as pd
import pytest
import torch

from oodcert.attacks import REDUCED
from oodcert.config.models import LinfAttackBudget
from oodcert.evaluations.attack_linear import linear_detector
from oodcert.evaluations.sanity import reduced, sanity
from oodcert.runtime.keyed_noise import keyed_noise
from untrained_runs import CONFIG, computed, evaluation, image_sets

BUDGET = {
    "apgd": {"iterations": 8, "restarts": 1},
    "pgd": {"iterations": 4, "restarts": 2},
    "square": {"queries": 10},
    "draws": 2,
}
QUARTER = {
    "apgd": {"iterations": 2, "restarts": 1},
    "pgd": {"iterations": 1, "restarts": 2},
    "square": {"queries": 2},
    "draws": 2,
}


def few(images):
    return {name: image_set.first(images) for name, image_set in image_sets().items()}


def test_a_reduced_budget_has_a_quarter_of_the_iterations_and_queries():
    budget = LinfAttackBudget(**BUDGET)
    assert reduced(budget, REDUCED).as_json() == QUARTER
    assert reduced(budget, 1.0) == budget
    assert reduced(LinfAttackBudget(**QUARTER), 0.01).pgd.as_json() == {"iterations": 1, "restarts": 2}


@pytest.mark.parametrize(("method", "batch_size"), [("atom", 3), ("distro", 6)])  # three images, at two draws each
def test_every_run_is_the_attack_at_its_radius_and_budget(method, batch_size):
    epsilon = CONFIG.evaluation.epsilon
    one = evaluation("sanity", method, budget=BUDGET, images=3, epsilons=[epsilon, 1.0])
    found = sanity(one)
    runs = [(epsilon, BUDGET, 1.0), (1.0, BUDGET, 1.0), (epsilon, QUARTER, 0.25)]
    expected = [
        computed("attack_linf", method, few(3), budget=budget, epsilon=at, batch_size=batch_size).assign(share=share)
        for at, budget, share in runs
    ]
    pd.testing.assert_frame_equal(found, pd.concat(expected, ignore_index=True), check_exact=True)
    assert len(found) == 3 * 2 * 3 and (found["set"] != "id").all() and one.calls > 0
    assert (found["epsilon"] == 1.0).any()
    wide = found[found["share"] == 1].pivot(index=["set", "sample"], columns="epsilon", values="attacked")
    assert (wide[1.0] > wide[epsilon]).mean() > 0.8


def linear(**budget):
    whole = CONFIG.evaluation.attack_linf.as_json() | budget
    return computed("attack_linear", "linear", seed=3, epsilon=0.05, budget=whole)


def test_the_linear_score_has_its_maximum_in_closed_form():
    found = linear()
    weight = torch.from_numpy(keyed_noise(3, "attack_linear", 0, 0, 1, (1, 8, 8))[0])
    detector = linear_detector(weight)
    for name, image_set in list(image_sets().items())[1:]:
        rows = found[found["set"] == name]
        images = torch.from_numpy(image_set.floats())
        scores = (images * weight).flatten(1).sum(1)
        assert torch.allclose(detector.score(images), scores.double(), atol=1e-4)
        assert rows["clean"].to_numpy() == pytest.approx(scores.numpy(), abs=1e-4)
        for _ in range(20):  # no corner of the box is higher, and one is as high
            signs = torch.randint(2, images.shape) * 2 - 1
            corner = detector.score((images + 0.05 * signs).clamp(0, 1)).numpy()
            assert (corner <= rows["maximum"] + 1e-4).all()
        best = detector.score((images + 0.05 * weight.sign()).clamp(0, 1)).numpy()
        assert rows["maximum"].to_numpy() == pytest.approx(best, abs=1e-4)
    assert (found["attacked"] <= found["maximum"] + 1e-4).all() and (found["attacked"] > found["clean"]).all()
    assert (found["method"] == "linear").all() and len(found) == 24 and (found["epsilon"] == 0.05).all()


def test_the_committed_budget_reaches_the_linear_maximum(config):
    found = linear(**config["evaluation"]["attack_linf"])
    assert (found["attacked"] - found["clean"] >= 0.99 * (found["maximum"] - found["clean"])).all()


def test_an_attack_that_does_nothing_gains_nothing(monkeypatch):
    monkeypatch.setattr("oodcert.attacks.ood.linf_ensemble", lambda detector, images, *_, **__: {"no": images})
    found = linear()
    assert (found["attacked"] == found["clean"]).all() and (found["maximum"] > found["clean"] + 1).all()


def test_the_same_seed_attacks_the_same_linear_score():
    pd.testing.assert_frame_equal(linear(), linear(), check_exact=True)
