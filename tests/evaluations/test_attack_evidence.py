"""The evidence of the attacks on untrained methods: its columns, and what must hold between them."""

import numpy as np
import pytest

from untrained_runs import computed, image_sets

METHODS = pytest.mark.parametrize("method", ["plain", "vos", "atom", "prood", "distro"])
RANDOMISED = ("diffusion", "distro")


@METHODS
def test_attack_linf_keeps_the_best_candidate_of_every_image(method):
    frame = computed("attack_linf", method)
    assert list(frame) == [
        *("method", "set", "sample", "epsilon", "clean", "attacked", "attack", "white_box", "square"),
        *("standard_error", "apgd_iterations", "apgd_restarts", "pgd_iterations", "pgd_restarts", "queries", "draws"),
    ]
    assert len(frame) == 24 and not frame.isna().to_numpy().any()
    assert (frame["attacked"] == frame[["white_box", "square"]].max(axis=1)).all()
    assert (frame["white_box"] >= frame["clean"]).all() and (frame["attacked"] > frame["clean"]).any()
    assert ((frame["attack"] == "clean") == (frame["attacked"] == frame["clean"])).all()
    by_square = frame["attack"] == "square"
    assert (frame["square"] > frame["white_box"])[by_square].all()
    assert (frame["square"] <= frame["white_box"])[~by_square].all()
    before = computed("clean", method).query("set != 'id'")["score"].to_numpy()
    assert np.array_equal(frame["clean"], before)
    assert (frame["draws"] == (2 if method in RANDOMISED else 1)).all() and (frame["queries"] == 5).all()
    assert (frame["standard_error"] > 0).any() == (method in RANDOMISED)


@METHODS
def test_attack_linf_does_not_depend_on_the_order_of_the_images(method):
    reversed_sets = {
        name: type(one)(one.name, one.images[::-1], one.labels[::-1], one.ids[::-1])
        for name, one in image_sets().items()
    }
    columns = ["attacked", "white_box", "square"]
    frame, other = (
        computed("attack_linf", method, some).set_index(["set", "sample"])[columns].sort_index()
        for some in (image_sets(), reversed_sets)
    )
    assert (frame.index == other.index).all() and np.allclose(frame, other, atol=1e-5)


@METHODS
def test_attack_id_has_a_row_per_attack_and_one_of_the_worst_case(method):
    frame = computed("attack_id", method, epsilons=[0.01, 0.1])
    assert list(frame) == [
        *("method", "set", "sample", "label", "epsilon", "attack", "version", "iterations", "queries", "eot"),
        *("clean_correct", "correct"),
    ]
    attacks = ["apgd-ce", "apgd-dlr"] if method in RANDOMISED else ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert list(frame["attack"].unique()) == [*attacks, "worst-case"]
    assert len(frame) == 12 * 2 * (len(attacks) + 1)
    wide = frame.pivot(index=["epsilon", "sample"], columns="attack", values="correct")
    assert (wide["worst-case"] == wide[attacks].all(axis=1)).all()
    assert not (frame["correct"] & ~frame["clean_correct"]).any()


def test_attack_l2_never_falls_with_the_radius():
    frame = computed("attack_l2", "distro", radii=[0.0, 0.25, 0.5])
    for column in ("median", "mean_lower", "mean"):
        wide = frame.pivot(index=["set", "sample"], columns="radius", values=column)
        assert (wide.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert (wide[0.5] > wide[0.0]).any()
