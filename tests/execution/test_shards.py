"""Shards and pieces: every image is in exactly one, and no row depends on how an evaluation was cut."""

from itertools import chain

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import read_config, shrink
from oodcert.certification.adaptive import PILOT_IMAGES
from oodcert.evaluations.authors_code import published
from oodcert.evaluations.l2 import attack_l2, certify_l2
from oodcert.evaluations.labels import attack_id, certify_id
from oodcert.evaluations.linf import attack_linf
from oodcert.evaluations.sanity import sanity
from oodcert.execution.partial_results import ordered
from oodcert.execution.partial_runs import Kept, in_pieces
from oodcert.execution.shards import SETS, cells, pieces, shards
from untrained_runs import CONFIG, evaluation, image_sets

FUNCTIONS = (certify_l2, certify_id, attack_linf, attack_l2, attack_id, sanity, published)
WHOLE = CONFIG["evaluation"]


def settings_of(function, method):
    """The settings of an evaluation beside those of all evaluations, on few draws and small batches."""
    budget = WHOLE["attack_id"]["randomised" if method == "distro" else "deterministic"]
    return {"batch_size": 8, "test_images": 12} | {
        certify_l2: WHOLE["certify_l2"],
        certify_id: WHOLE["certify_id"],
        attack_linf: {"budget": WHOLE["attack_linf"]},
        attack_l2: {**WHOLE["attack_l2"], "sigmas": [0.5, 0.25], "radii": [0.0, 0.25]},
        attack_id: {"budget": budget, "epsilons": [0.1, 0.03]},
        sanity: {"budget": WHOLE["attack_linf"], **WHOLE["sanity"]},
        published: {
            **WHOLE["published"],
            "budget": {key: WHOLE["attack_linf"][key] for key in ("apgd", "pgd", "draws")},
            "bounds": WHOLE["certify_l2"]["bounds"],
            "alpha": 0.01,
            "epsilons": [0.1],
            "autoattack": budget,
        },
    }[function]


def cut_config(**changes):
    """The config of those evaluations: two OOD sets and batches of eight."""
    config = shrink(read_config())
    config["data"]["ood"] = [name for name in image_sets() if name != "id"]
    config["evaluation"]["batch_size"] = 8
    return config | changes


@pytest.mark.parametrize("method", ["plain", "prood", "distro"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_rows_do_not_depend_on_how_the_evaluation_is_cut(function, method, tmp_path):
    own = settings_of(function, method)
    uncut = evaluation(method, **own)
    whole = function(uncut)
    for chunk in (1, 500):
        stages = pieces(cut_config(chunk=chunk), function.__name__, method)
        kept = Kept(evaluation(method, **own), tmp_path / str(chunk), "mark")
        [(rows, facts)] = in_pieces(function, [kept], stages)
        pd.testing.assert_frame_equal(rows, whole, check_exact=True)
        assert facts["network_calls"] == uncut.calls


@pytest.mark.parametrize("pilot", [3, PILOT_IMAGES])
def test_adaptive_sampling_is_cut_between_the_id_images_and_those_that_need_all_of_them(pilot, tmp_path, monkeypatch):
    monkeypatch.setattr("oodcert.evaluations.l2.PILOT_IMAGES", pilot)
    own = WHOLE["certify_l2"] | {"sampling": "adaptive", "n": 400, "batch_size": 8}
    config = cut_config(chunk=1, shards=5)
    config["evaluation"]["certify_l2"] |= {"sampling": "adaptive", "n": 400}
    whole = certify_l2(evaluation("plain", **own))
    assert whole["n"].nunique() > 1
    stages = pieces(config, "certify_l2", "plain")
    assert list(stages) == ["id", "ood"]
    kept = Kept(evaluation("plain", **own), tmp_path / "a", "mark")
    [(rows, facts)] = in_pieces(certify_l2, [kept], stages)
    pd.testing.assert_frame_equal(rows, whole, check_exact=True)
    used = rows.drop_duplicates(["sigma", "set", "sample"])["n"].sum()
    padding = (len(own["sigmas"]) * sum(map(len, stages.values()))) * 3 * own["batch_size"]  # of up to three stages
    assert used <= facts["network_calls"] <= used + padding  # without pilots
    against, names = whole[whole["set"] == "id"], shards(config, "certify_l2", "plain")
    for stage, before in (("id", None), ("ood", against)):
        found = []
        for name in names[stage]:
            one = Kept(evaluation("plain", **own), tmp_path / name, "mark")
            found += [in_pieces(certify_l2, [one], pieces(config, "certify_l2", "plain", name), before)[0][0]]
        expected = whole[(whole["set"] == "id") == (stage == "id")]
        found = ordered(pd.concat(found), "certify_l2", image_sets())
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_exact=True)


CUTS = {
    "images": st.integers(1, 60),
    "batch": st.integers(1, 40),
    "count": st.integers(1, 12),
    "chunk": st.integers(1, 10**7),
    "sampling": st.sampled_from(["fixed", "adaptive"]),
    "method": st.sampled_from(["plain", "distro"]),
    "one": st.sampled_from(list(SETS)),
}


@settings(max_examples=200, deadline=None)
@given(**CUTS)
def test_shards_and_pieces_hold_every_cell_once_and_in_order(images, batch, count, chunk, sampling, method, one):
    config = cut_config(shards=count, chunk=chunk)
    config["data"]["test_images"] = images
    config["evaluation"]["batch_size"] = batch
    config["evaluation"]["certify_l2"]["sampling"] = sampling
    names = shards(config, one, method)
    for stage, whole in cells(config, one, method).items():
        assert 1 <= len(names[stage]) <= count
        expected = images_of(whole)
        for several in ([pieces(config, one, method)], [pieces(config, one, method, name) for name in names[stage]]):
            spans = chain.from_iterable(part[stage] for part in several)
            assert (
                images_of(
                    (quantity, name, *span)
                    for piece in spans
                    for quantity, part in piece.items()
                    for name, span in part.items()
                )
                == expected
            )


def images_of(spans):
    return [(quantity, name, image) for quantity, name, start, stop in spans for image in range(start, stop)]


def test_a_small_chunk_makes_a_piece_of_every_cell_and_a_large_one_a_single_piece(config):
    for one in SETS:
        small, large = (pieces(config | {"chunk": chunk}, one, "distro")["all"] for chunk in (1, 10**12))
        assert len(large) == 1 and len(small) == len(cells(config, one, "distro")["all"])
