"""Partial results and shards on disk: read only if whole and of the same settings, inputs and code."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from divided_runs import divided_config
from oodcert.errors import InputError
from oodcert.evaluations.attack_linf import attack_linf
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import read_evidence, sidecar, write_evidence
from oodcert.execution.gather import gather
from oodcert.execution.partial_results import (
    cache_key,
    code_fingerprint,
    folder_of,
    load_partial,
    remove_leftovers,
    save_partial,
)
from oodcert.execution.portions import Resumable, compute_portions
from oodcert.execution.shards import content, portions
from untrained_runs import evaluation

ROWS = pd.DataFrame({"method": "plain", "set": ["a", "b"], "sample": [1, 2], "attacked": [0.25, 1.0], "vacuous": True})


def test_a_partial_result_comes_back_as_it_was(tmp_path):
    save_partial(tmp_path / "p.partial", ROWS, "key", network_calls=3, wall_seconds=0.5)
    rows, facts = load_partial(tmp_path / "p.partial", "key")
    pd.testing.assert_frame_equal(rows, ROWS, check_exact=True)
    assert facts == {"network_calls": 3, "wall_seconds": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["p.partial"]


def test_a_partial_result_of_other_settings_is_not_used(tmp_path, capsys):
    save_partial(tmp_path / "p.partial", ROWS, "key")
    assert load_partial(tmp_path / "p.partial", "another") is None
    assert "other settings" in capsys.readouterr().err


def test_no_damaged_partial_result_is_used(tmp_path, capsys):
    path = tmp_path / "p.partial"
    save_partial(path, ROWS, "key")
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        assert load_partial(path, "key") is None
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        assert load_partial(path, "key") is None
    assert "damaged" in capsys.readouterr().err


def resumable(folder):
    return Resumable(evaluation("attack_linf", "plain", config=divided_config()), folder, "key")


def test_finished_portions_are_not_computed_again(tmp_path, monkeypatch):
    calls, spec = [], EVALUATIONS["attack_linf"]

    def counted(part):
        calls.append(list(part.sets))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return attack_linf(part)

    monkeypatch.setattr("oodcert.evaluations.attack_linf.counted", counted, raising=False)
    interrupted = replace(spec, function="oodcert.evaluations.attack_linf:counted")
    phases = portions(divided_config(chunk=1), "attack_linf", "plain")
    count = len(phases["all"])
    assert count > 3
    with pytest.raises(KeyboardInterrupt):
        compute_portions(interrupted, [resumable(tmp_path)], phases)
    [(rows, facts)] = compute_portions(interrupted, [resumable(tmp_path)], phases)
    assert len(calls) == count + 1  # the portion under way, and no other, twice
    whole = resumable(tmp_path).evaluation
    pd.testing.assert_frame_equal(rows, attack_linf(whole), check_exact=True)
    [(_, alone)] = compute_portions(spec, [resumable(tmp_path / "new")], phases)
    assert facts["network_calls"] == alone["network_calls"] == whole.calls


def test_a_finished_portion_that_is_the_only_one_is_not_computed_again(tmp_path):
    phases = portions(divided_config(chunk=10**12), "attack_linf", "plain")
    assert len(phases["all"]) == 1
    results = [compute_portions(EVALUATIONS["attack_linf"], [resumable(tmp_path)], phases) for _ in range(2)]
    [(rows, facts)], [(again, same)] = results
    pd.testing.assert_frame_equal(again, rows, check_exact=True)
    assert facts == same


def test_the_cache_key_depends_on_settings_inputs_device_and_evaluation(tmp_path):
    (tmp_path / "weights").write_text("a")
    base = cache_key(Provenance({"seed": 0, "networks": {}}, [tmp_path / "weights"]), "cpu", evaluation="sanity")
    assert base == cache_key(
        Provenance({"seed": 0, "networks": {}}, [tmp_path / "weights"]), "cpu", evaluation="sanity"
    )
    others = {
        cache_key(Provenance({"seed": 1, "networks": {}}, [tmp_path / "weights"]), "cpu", evaluation="sanity"),
        cache_key(Provenance({"seed": 0, "networks": {}}, [tmp_path / "weights"]), "cuda", evaluation="sanity"),
        cache_key(Provenance({"seed": 0, "networks": {}}, [tmp_path / "weights"]), "cpu", evaluation="attack_l2"),
    }
    (tmp_path / "weights").write_text("b")
    others.add(cache_key(Provenance({"seed": 0, "networks": {}}, [tmp_path / "weights"]), "cpu", evaluation="sanity"))
    assert len(others | {base}) == 5


CONTENT = {"None": {"a": [0, 1]}}


def shard(folder, name, rows, **changes):
    """A shard's rows and sidecar; changes: of the sidecar."""
    path = folder / f"{name}.parquet"
    facts = {"device": "cpu", "network_calls": 2, "wall_seconds": 1.5, "content": CONTENT, "code": "1" * 64}
    write_evidence(rows, path, Provenance({"seed": 0}), **facts)
    record = json.loads(sidecar(path).read_text()) | {"inputs": {"w": "1" * 64}} | changes
    sidecar(path).write_text(json.dumps(record))
    return path


def gathered(folder, *shards, sets=("a", "b")):
    gather(dict.fromkeys(shards, CONTENT), folder / "all.parquet", EVALUATIONS["attack_linf"], sets, {"seed": 0})
    return read_evidence([folder / "all.parquet"]), json.loads((folder / "all.json").read_text())


def test_gathered_shards_are_the_rows_and_the_results_of_all(tmp_path):
    paths = [
        shard(tmp_path, "1", ROWS.assign(set=["svhn", "id"])),
        shard(tmp_path, "2", ROWS.assign(set=["textures", "svhn"]), inputs={"w": "1" * 64, "x": "2" * 64}),
    ]
    rows, record = gathered(tmp_path, *paths, sets=["id", "svhn", "textures"])
    assert rows["set"].tolist() == ["id", "svhn", "svhn", "textures"]
    assert rows["sample"].tolist() == [2, 1, 2, 1]
    assert record["network_calls"] == 4 and record["wall_seconds"] == 3 and record["rows"] == 4
    assert record["inputs"] == {"w": "1" * 64, "x": "2" * 64} and record["settings"] == {"seed": 0}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"inputs": {"w": "1" * 64, "x": "3" * 64}}, "inputs"),
        ({"packages": {"torch": "0.1"}}, "packages"),
        ({"settings": {"seed": 1}}, "settings"),
        ({"code": "2" * 64}, "code"),
        ({"content": {"None": {"b": [0, 1]}}}, "content"),
        ({"sha256": "0" * 64}, "sidecar"),
    ],
)
def test_shards_that_do_not_belong_together_are_refused(changes, named, tmp_path):
    first = shard(tmp_path, "1", ROWS)
    second = shard(tmp_path, "2", ROWS, inputs={"w": "1" * 64, "x": "2" * 64})
    third = shard(tmp_path, "3", ROWS, **changes)
    with pytest.raises(InputError, match=named) as caught:
        gathered(tmp_path, first, second, third)
    assert str(third) in str(caught.value)
    assert not (tmp_path / "all.parquet").exists()


def test_shards_of_another_run_are_refused(tmp_path):
    paths = [shard(tmp_path, str(one), ROWS, settings={"seed": 1}) for one in range(2)]
    with pytest.raises(InputError, match=r"0\.parquet has other settings than this run"):
        gathered(tmp_path, *paths)


def test_shards_made_at_two_commits_with_the_same_library_name_neither(tmp_path):
    paths = [shard(tmp_path, one, ROWS, commit=one * 40) for one in "ab"]
    assert gathered(tmp_path, *paths)[1]["commit"] is None


def test_a_shard_says_what_it_holds():
    config = divided_config(shards=2)
    first, second = (content(config, "attack_linf", "plain", f"all-{one}-of-2") for one in (1, 2))
    count = config.data.test_images
    assert list(first) == list(second) == ["None"]
    assert [*first["None"], *second["None"]] == [*config.data.ood]
    assert {tuple(span) for one in (first, second) for span in one["None"].values()} == {(0, count)}


def test_the_code_of_a_user_supplied_network_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ownnet.py").write_text("a = 1\nimport besides")
    (tmp_path / "besides.py").write_text("")
    networks = {"mine": {"name": "own", "network": "ownnet:a"}, "plain": {"name": "cnn", "width": 4}}
    before = code_fingerprint(networks)
    assert before == code_fingerprint(networks) != code_fingerprint({})
    (tmp_path / "besides.py").write_text("b = 2")
    changed = code_fingerprint(networks)
    (tmp_path / "ownnet.py").write_text("a = 2")
    assert len({before, changed, code_fingerprint(networks)}) == 3


def test_what_led_to_a_finished_run_is_removed_and_the_results_of_another_method_stays(tmp_path):
    done, other = (tmp_path / f"evidence/sanity/{method}.parquet" for method in ("plain", "distro"))
    curve = tmp_path / "evidence/training/plain.parquet"
    gone = [
        folder_of(done) / "1-of-2.partial",
        tmp_path / "shards/sanity/plain/all-1-of-2.parquet",
        tmp_path / "models/plain.checkpoint",
    ]
    kept = [done, curve, folder_of(other) / "1-of-2.partial", tmp_path / "shards/sanity/distro/all-1-of-2.parquet"]
    for path in (*gone, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    remove_leftovers(tmp_path, [done, curve])
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
