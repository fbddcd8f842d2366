"""Shards and portions: every image is in exactly one, and no row depends on how an evaluation was divided."""

from itertools import chain

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divided_runs import divided_config, small_settings
from oodcert.certification.adaptive import PILOT_IMAGES
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evaluations.row_order import ordered
from oodcert.execution.portions import Resumable, compute_portions
from oodcert.execution.shards import cells, portions, shards
from untrained_runs import evaluation, image_sets

DIVISIBLE = [name for name, spec in EVALUATIONS.items() if spec.whole_batches]


@pytest.mark.parametrize("method", ["plain", "prood", "distro"])
@pytest.mark.parametrize("name", DIVISIBLE)
def test_rows_do_not_depend_on_how_the_evaluation_is_divided(name, method, tmp_path):
    spec, config = EVALUATIONS[name], divided_config()
    undivided = evaluation(name, method, config=config, **small_settings(name))
    whole = spec.load()(undivided)
    for chunk in (1, 500):
        phases = portions(config.changed(chunk=chunk), name, method)
        one = evaluation(name, method, config=config, **small_settings(name))
        [(rows, facts)] = compute_portions(spec, [Resumable(one, tmp_path / str(chunk), "key")], phases)
        pd.testing.assert_frame_equal(rows, whole, check_exact=True)
        assert facts["network_calls"] == undivided.calls


@pytest.mark.parametrize("pilot", [3, PILOT_IMAGES])
def test_adaptive_sampling_is_divided_between_the_id_images_and_those_that_need_all_of_them(
    pilot, tmp_path, monkeypatch
):
    monkeypatch.setattr("oodcert.evaluations.certify_l2.PILOT_IMAGES", pilot)
    config = divided_config(chunk=1, shards=5, evaluation={"certify_l2": {"sampling": "adaptive", "n": 400}})
    spec, size = EVALUATIONS["certify_l2"], config.evaluation.batch_size

    def one():
        return evaluation("certify_l2", "plain", config=config)

    whole = spec.load()(one())
    assert whole["n"].nunique() > 1
    phases = portions(config, "certify_l2", "plain")
    assert list(phases) == ["id", "ood"]
    [(rows, facts)] = compute_portions(spec, [Resumable(one(), tmp_path / "a", "key")], phases)
    pd.testing.assert_frame_equal(rows, whole, check_exact=True)
    used = rows.drop_duplicates(["sigma", "set", "sample"])["n"].sum()
    padding = (
        (len(config.evaluation.certify_l2.sigmas) * sum(map(len, phases.values()))) * 3 * size
    )  # up to three looks
    assert used <= facts["network_calls"] <= used + padding  # without pilots
    id_rows, names = whole[whole["set"] == "id"], shards(config, "certify_l2", "plain")
    for phase, before in (("id", None), ("ood", id_rows)):
        parts = []
        for name in names[phase]:
            resumable = Resumable(one(), tmp_path / name, "key")
            of_shard = portions(config, "certify_l2", "plain", name)
            parts += [compute_portions(spec, [resumable], of_shard, before)[0][0]]
        expected = whole[(whole["set"] == "id") == (phase == "id")]
        together = ordered(pd.concat(parts), spec.order, list(image_sets()))
        pd.testing.assert_frame_equal(together, expected.reset_index(drop=True), check_exact=True)


DIVISIONS = {
    "images": st.integers(1, 60),
    "batch": st.integers(1, 40),
    "count": st.integers(1, 12),
    "chunk": st.integers(1, 10**7),
    "sampling": st.sampled_from(["fixed", "adaptive"]),
    "method": st.sampled_from(["plain", "distro"]),
    "one": st.sampled_from(DIVISIBLE),
}


@settings(max_examples=200, deadline=None)
@given(**DIVISIONS)
def test_shards_and_portions_hold_every_cell_once_and_in_order(images, batch, count, chunk, sampling, method, one):
    config = divided_config(
        shards=count,
        chunk=chunk,
        data={"test_images": images},
        evaluation={"batch_size": batch, "certify_l2": {"sampling": sampling}},
    )
    names = shards(config, one, method)
    for phase, whole in cells(config, one, method).items():
        assert 1 <= len(names[phase]) <= count
        expected = images_of(whole)
        of_shards = [portions(config, one, method, name) for name in names[phase]]
        for several in ([portions(config, one, method)], of_shards):
            every = chain.from_iterable(part[phase] for part in several)
            assert expected == images_of(
                (quantity, name, *span)
                for portion in every
                for quantity, spans in portion.items()
                for name, span in spans.items()
            )


def images_of(spans):
    return [(quantity, name, image) for quantity, name, start, stop in spans for image in range(start, stop)]


def test_a_small_chunk_makes_a_portion_of_every_cell_and_a_large_one_a_single_portion():
    config = divided_config()
    for one in DIVISIBLE:
        small, large = (portions(config.changed(chunk=chunk), one, "distro")["all"] for chunk in (1, 10**12))
        assert len(large) == 1 and len(small) == len(cells(config, one, "distro")["all"])
