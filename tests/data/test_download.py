"""Downloads from a real server on this machine, which can be told to misbehave."""

import gzip
import hashlib
import json
import resource
import socket

import pytest

from download_server import DATA, entry
from oodcert.data.download import fetch, verify
from refusals import assert_refused

PARTIAL = ".file.bin.partial"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_once_and_then_needs_no_server(server, tmp_path, capsys):
    folder = tmp_path / "new" / "downloads"
    path = fetch(entry(server.url()), folder, progress=False)
    assert path == folder / "file.bin" and path.read_bytes() == DATA and names(folder) == ["file.bin"]
    assert fetch(entry(server.url("moved")), folder) == path and len(server.requests) == 1
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_with_the_time_left(server, tmp_path, capsys):
    fetch(entry(server.url()), tmp_path)
    shown = capsys.readouterr()
    assert "file.bin: 100%" in shown.err and "300k/300k" in shown.err and shown.out == ""


def test_a_redirect_is_followed_and_no_name_of_the_servers_taken(server, tmp_path):
    fetch(entry(server.url("moved")), tmp_path / "a" / "b", progress=False)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file.bin"]


def test_a_gzip_file_is_kept_as_it_is(server, tmp_path):
    server.data, server.more = gzip.compress(DATA), {"Content-Encoding": "gzip"}
    known = entry(server.url(), data=server.data)
    assert fetch(known, tmp_path, progress=False).read_bytes() == server.data


@pytest.mark.parametrize("faults", [["drop"], ["drop", "drop"], [503, "drop", 429]])
def test_faults_that_pass_are_tried_again_and_a_dropped_transfer_resumes(server, tmp_path, faults):
    server.faults = list(faults)
    assert fetch(entry(server.url()), tmp_path, progress=False).read_bytes() == DATA
    starts = [request.get("Range") for request in server.requests]
    assert len(starts) == len(faults) + 1 and starts[-1] == f"bytes={100_000 * faults.count('drop')}-"
    assert names(tmp_path) == ["file.bin"]


def test_an_interrupted_transfer_is_resumed_by_the_next_call(server, tmp_path):
    server.faults = ["drop", 503, 503, 503]
    assert_refused(
        lambda: fetch(entry(server.url()), tmp_path, progress=False), "file.bin", server.url(), "503", "4 attempts"
    )
    assert names(tmp_path) == [PARTIAL, f"{PARTIAL}.json"] and (tmp_path / PARTIAL).stat().st_size == 100_000
    server.requests.clear()
    assert fetch(entry(server.url()), tmp_path, progress=False).read_bytes() == DATA
    assert [request["Range"] for request in server.requests] == ["bytes=100000-"] and names(tmp_path) == ["file.bin"]


def begun(server, tmp_path, known):
    server.faults = ["drop", 503, 503, 503]
    assert_refused(lambda: fetch(known, tmp_path, progress=False), "503")
    server.requests.clear()


def test_the_time_of_the_last_change_is_a_validator_too(server, tmp_path):
    server.tag, server.more = 'W/"1"', {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    begun(server, tmp_path, entry(server.url()))
    assert fetch(entry(server.url()), tmp_path, progress=False).read_bytes() == DATA
    assert [request["If-Range"] for request in server.requests] == list(server.more.values())


@pytest.mark.parametrize("changes", [{"ranges": False}, {"tag": ""}, {"tag": 'W/"1"'}])
def test_without_ranges_or_validators_a_transfer_starts_again(server, tmp_path, changes):
    vars(server).update(changes)
    begun(server, tmp_path, entry(server.url()))
    assert fetch(entry(server.url()), tmp_path, progress=False).read_bytes() == DATA
    assert names(tmp_path) == ["file.bin"] and ("Range" in server.requests[0]) == ("ranges" in changes)


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_in_between_is_not_patched_together(server, tmp_path, if_range):
    begun(server, tmp_path, entry(server.url()))
    new = DATA[::-1]
    server.data, server.tag, server.if_range = new, '"2"', if_range
    assert fetch(entry(server.url(), data=new), tmp_path, progress=False).read_bytes() == new


def test_a_file_that_became_shorter_starts_again(server, tmp_path):
    begun(server, tmp_path, entry(server.url()))
    server.data, server.if_range = DATA[:5000], False
    known = entry(server.url(), data=server.data)
    assert fetch(known, tmp_path, progress=False).read_bytes() == server.data


def test_the_urls_are_tried_in_order(server, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/file.bin"
    assert fetch(entry(dead, server.url()), tmp_path, progress=False).read_bytes() == DATA
    server.faults = [404, 403]
    known = entry(server.url("a"), server.url("b"), file="other.bin")
    assert_refused(
        lambda: fetch(known, tmp_path, progress=False),
        f"other.bin can't be downloaded. {server.url('a')}: status 404",
        f"{server.url('b')}: status 403",
        f"put the file into {tmp_path} yourself",
        "data_mirror",
        "data.unavailable",
    )
    assert_refused(lambda: fetch(entry(dead, file="c"), tmp_path, progress=False), "connection failed", "data_mirror")
    for address in ("http://nowhere.invalid/x", "gopher://x", "file:///etc/passwd", "http://"):
        assert_refused(lambda url=address: fetch(entry(url, file="d"), tmp_path, progress=False), "d can't", address)
    assert_refused(lambda: fetch(entry(file="e"), tmp_path, progress=False), "e can't", "No address")
    assert names(tmp_path) == ["file.bin"]


PAGE = b"\n<!DOCTYPE html><title>Sign in</title>"


@pytest.mark.parametrize(
    ("state", "changes", "words"),
    [
        ({"kind": "text/html; charset=utf-8"}, {}, "web page"),
        ({"data": PAGE}, {"bytes": None, "sha256": "", "md5": ""}, "web page"),
        ({"data": DATA[:-1]}, {}, "299999 bytes, not 300000"),
        ({"data": DATA[:-1], "faults": ["no length"]}, {}, "299999 bytes, not 300000"),
        ({"data": DATA + b"more", "faults": ["no length"]}, {}, "more than its 300000 bytes"),
        ({"data": DATA[::-1]}, {}, "its sha256 is"),
        ({"data": DATA[::-1]}, {"bytes": None, "sha256": ""}, "its md5 is"),
        ({}, {"sha256": "0" * 64, "md5": ""}, f"not {'0' * 64} as stated"),
    ],
)
def test_what_is_not_the_file_is_refused_and_removed(server, tmp_path, state, changes, words):
    vars(server).update(state)
    assert_refused(lambda: fetch(entry(server.url(), **changes), tmp_path, progress=False), server.url(), words)
    assert names(tmp_path) == [] and len(server.requests) == 1


def test_a_wrong_file_that_is_there_is_refused_and_left_alone(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"my own")
    assert_refused(lambda: fetch(entry(server.url()), tmp_path), "file.bin", "6 bytes, not 300000", "Delete it")
    assert (tmp_path / "file.bin").read_bytes() == b"my own" and server.requests == []


def test_a_file_without_checksum_is_remembered(server, tmp_path):
    known = entry(server.url(), bytes=None, sha256="", md5="")
    path = fetch(known, tmp_path, progress=False)
    seen = tmp_path / "file.bin.seen.json"
    assert json.loads(seen.read_text())["sha256"] == hashlib.sha256(DATA).hexdigest()
    verify(path, known)
    path.write_bytes(DATA[::-1])
    assert_refused(lambda: verify(path, known), "file.bin", "as first seen", "seen.json")
    path.unlink()
    server.data = DATA[::-1]
    assert_refused(lambda: fetch(known, tmp_path, progress=False), server.url(), "as first seen", "seen.json")
    assert names(tmp_path) == [seen.name]
    seen.write_text("{}")
    assert_refused(lambda: fetch(known, tmp_path, progress=False), "seen.json", "Delete it")
    seen.unlink()
    assert fetch(known, tmp_path, progress=False).read_bytes() == DATA[::-1]
    (tmp_path / "own.bin").write_bytes(b"my own")
    fetch(entry(file="own.bin", bytes=None, sha256="", md5=""), tmp_path)
    assert (tmp_path / "own.bin.seen.json").exists()


def test_what_looks_like_a_partial_file_is_not_trusted(server, tmp_path):
    (tmp_path / PARTIAL).write_bytes(b"x" * 1000)
    (tmp_path / f"{PARTIAL}.json").write_text("[")
    assert fetch(entry(server.url()), tmp_path, progress=False).read_bytes() == DATA
    (tmp_path / "file.bin").unlink()
    (tmp_path / PARTIAL).write_bytes(b"x" * 1000)
    (tmp_path / f"{PARTIAL}.json").write_text(json.dumps({"url": server.url(), "validator": server.tag}))
    assert_refused(lambda: fetch(entry(server.url()), tmp_path, progress=False), "its sha256 is")
    assert fetch(entry(server.url()), tmp_path, progress=False).read_bytes() == DATA


def test_a_full_disk_is_said_and_the_next_call_resumes(server, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # no file may grow beyond
    try:
        assert_refused(lambda: fetch(entry(server.url()), tmp_path, progress=False), PARTIAL, "too large", "300000")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == [PARTIAL, f"{PARTIAL}.json"] and len(server.requests) == 1
    assert fetch(entry(server.url()), tmp_path, progress=False).read_bytes() == DATA
    assert server.requests[1]["Range"] == "bytes=100000-"


def test_what_one_url_began_outlives_the_refusal_of_another(server, tmp_path):
    server.faults = ["drop", 503, 503, 503, 404]
    urls = server.url("a"), server.url("b")
    assert_refused(lambda: fetch(entry(*urls), tmp_path, progress=False), "503", "404")
    assert fetch(entry(*urls), tmp_path, progress=False).read_bytes() == DATA
    assert server.requests[-1]["Range"] == "bytes=100000-"
