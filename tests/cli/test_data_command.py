"""`oodcert data` on a registry of its own, with a real server."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import oodcert
from download_server import DATA
from oodcert.cli.main import main
from oodcert.data import registry

COLUMNS = "set,split,file,urls,bytes,sha256,md5,mirror,mirror_sha256,mirror_encoding,licence,status,note"


@pytest.fixture
def here(server, tmp_path, monkeypatch):
    """A working folder: sets a (two splits of one file), b without a checksum, lost (not served), gone."""
    rows = [
        f"a,train,a.bin,{server.url()},300000,{hashlib.sha256(DATA).hexdigest()},,,,,none,available,first",
        f"a,test,a.bin,{server.url()},300000,{hashlib.sha256(DATA).hexdigest()},,m.npz,,lossless,none,available,",
        f"b,test,b.bin,{server.url()},,,,sub/m.npz,,lossless,free,available,second",
        f"wrong,test,wrong.bin,{server.url()},,,{'0' * 32},,,,none,available,third",
        "gone,train,,,,,,,,,none,unavailable,withdrawn in 2020",
    ]
    (tmp_path / "registry.csv").write_text("\n".join([COLUMNS, *rows, ""]))
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "registry.csv")
    monkeypatch.chdir(tmp_path)
    registry.registry.cache_clear()
    yield server
    registry.registry.cache_clear()


def run(capsys, *words):
    """Exit code, stdout and stderr without the progress."""
    code = main(["data", *words])
    shown = capsys.readouterr()
    return code, shown.out, "\n".join(line for line in shown.err.splitlines() if "B/s" not in line)


def rows(out):
    """The cells of a printed table, by line."""
    return [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()[2:]]


def test_sets_are_fetched_once_a_file_and_then_verified(here, capsys):
    code, out, _ = run(capsys, "fetch", "a", "b")
    assert code == 0 and out.splitlines() == ["a: data/downloads/a.bin", "b: data/downloads/b.bin"]
    assert len(here.requests) == 2 and Path("data/downloads/a.bin").read_bytes() == DATA
    assert run(capsys, "fetch", "a")[0] == 0 and len(here.requests) == 2
    code, out, _ = run(capsys, "verify")
    assert code == 0 and rows(out) == [
        ["a", "data/downloads/a.bin", "OK"],
        ["b", "data/downloads/b.bin", "unpinned"],
        ["wrong", "data/downloads/wrong.bin", "absent"],
    ]


def test_the_others_are_fetched_if_some_fail(here, capsys):
    code, out, err = run(capsys, "fetch", "gone", "wrong", "b", "--folder", "new")
    assert code == 1 and out.splitlines() == ["b: new/b.bin"]
    assert "gone: can't be downloaded: withdrawn in 2020" in err
    assert f"wrong: wrong.bin can't be downloaded. {here.url()}: its md5 is" in err
    assert err.splitlines()[-1] == "oodcert: not fetched: gone, wrong. The reasons are above."
    assert sorted(path.name for path in Path("new").iterdir()) == ["b.bin", "b.bin.seen.json"]
    code, out, err = run(capsys, "fetch", "all", "--folder", "new")
    assert code == 1 and len(out.splitlines()) == 2 and "gone" not in err


def test_a_corrupt_file_is_found(here, capsys):
    assert run(capsys, "fetch", "a", "b")[0] == 0
    for name in ("a", "b"):
        Path(f"data/downloads/{name}.bin").write_bytes(DATA[::-1])
    code, out, err = run(capsys, "verify")
    assert code == 1 and [row[-1] for row in rows(out)] == ["corrupt", "corrupt", "absent"]
    assert "a.bin: its sha256 is" in err and "b.bin: its sha256 is" in err and "as first seen" in err
    code, out, err = run(capsys, "fetch", "a")
    assert code == 1 and "Delete it" in err
    Path("data/downloads/a.bin").unlink()
    assert run(capsys, "fetch", "a")[0] == 0 and run(capsys, "verify", "a")[0] == 0


def test_the_list_says_where_every_set_is(here, capsys):
    assert run(capsys, "fetch", "b")[0] == 0
    Path("mirror").mkdir()
    Path("mirror/m.npz").write_bytes(b"0" * 200_000)
    code, out, _ = run(capsys, "list", "--mirror", "mirror")
    assert code == 0 and [row[:4] for row in rows(out)] == [
        ["a", "train", "available", "to fetch, 0.3 MB"],
        ["a", "test", "available", "mirror, 0.2 MB"],
        ["b", "test", "available", "downloaded, 0.3 MB"],
        ["wrong", "test", "available", "to fetch"],
        ["gone", "train", "unavailable", "nowhere"],
    ]
    assert "mirror," not in run(capsys, "list")[1] and "withdrawn in 2020" in out


def test_unknown_names_and_wrong_usage(here, capsys):
    code, _, err = run(capsys, "fetch", "a", "wrnog")
    assert code == 1 and "no set 'wrnog'" in err and "did you mean 'wrong'" in err and here.requests == []
    assert "known: a, b, wrong, gone, or all" in run(capsys, "verify", "xyz")[2]
    for words in ([], ["fetch"], ["burn"]):
        with pytest.raises(SystemExit) as caught:
            main(["data", *words])
        assert caught.value.code == 2


def test_the_committed_registry_is_listed_without_torch(tmp_path):
    code = "import sys; from oodcert.cli.main import main; main(['data', 'list']); sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(oodcert.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0 and "cifar100" in done.stdout and "513 GB" in done.stdout
