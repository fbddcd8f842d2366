"""What a caption says where a method under attack is not what one expects of it."""

import pytest

import synthetic_evidence
from oodcert.reporting.tables import caption
from oodcert.reporting.tables.notes import unexpected

METHODS = ["plain", "oe", "acet"]


@pytest.fixture
def config():
    return synthetic_evidence.config(methods=METHODS)


def attacked(config, **scores):
    """Evidence whose attacked scores are these, of every method, where ID images score 1 and clean OOD images 0.5."""
    found = synthetic_evidence.evidence(config)
    clean, attack = found["clean"], found["attack_linf"]
    clean["score"] = clean["set"].map(lambda name: 1.0 if name == "id" else 0.5)
    attack["attacked"] = attack["method"].map(scores)
    return found


def test_a_method_that_is_better_under_attack_needs_no_word(config):
    assert unexpected(attacked(config, plain=2.0, oe=1.0, acet=0.9), config) == []


def test_a_method_trained_against_attacks_that_is_not_better_is_named_with_the_set(config):
    found = attacked(config, plain=2.0, oe=0.9, acet=0.9)
    rows = found["attack_linf"]
    rows.loc[(rows["method"] == "acet") & (rows["set"] == "photo_crops"), "attacked"] = 2.0
    (sentence,) = unexpected(found, config)
    assert "ACET, though trained on attacked outliers, is no better under attack than OE" in sentence
    assert "(adversarial AUC 75.0 against 100.0)" in sentence
    assert "behind most on photo crops (0.0 against 100.0; clean, 100.0 against 100.0)" in sentence
    assert sentence in caption("ood", found, config) and sentence in caption("headline", found, config)


def test_a_plain_classifier_that_hardly_suffers_is_explained_by_the_sanity_runs(config):
    (sentence,) = unexpected(attacked(config, plain=0.9, oe=1.0, acet=0.9), config)
    assert "Plain loses only 0.0 points of AUC" in sentence and "at ε = 0.05 and " in sentence
    assert "at ε = 0.1." in sentence


def test_methods_that_are_not_there_are_not_spoken_of():
    config = synthetic_evidence.config(methods=["vos", "acet"])
    assert unexpected(synthetic_evidence.evidence(config), config) == []
