import hashlib

import pytest

from oodcert.runtime.files import atomic, sha256


def test_success_leaves_the_file_alone_in_its_new_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    with atomic(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".csv" and temporary != path
        temporary.write_text("complete")
        assert not path.exists()
    assert path.read_text() == "complete"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_leaves_nothing(tmp_path, error):
    with pytest.raises(error), atomic(tmp_path / "table.csv") as temporary:
        temporary.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_exception_before_anything_is_written_is_passed_on(tmp_path):
    with pytest.raises(ValueError), atomic(tmp_path / "table.csv"):
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_exception_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ValueError), atomic(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_success_replaces_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_what_a_killed_writer_left_is_replaced(tmp_path):
    path = tmp_path / "table.csv"
    writer = atomic(path)
    writer.__enter__().write_text("half, then killed")
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_sha256(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(b"abc" * 100_000)
    assert sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()
