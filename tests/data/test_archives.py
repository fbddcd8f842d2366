"""Hostile and broken archives, made here: refused, and nothing of them on disk."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import PurePosixPath

import numpy as np
import pytest

from oodcert.data import archives
from oodcert.data.archives import members
from refusals import assert_refused

FILES = {"a/one.txt": b"one", "./two.bin": bytes(range(256)) * 40, "empty": b""}


def tar_of(path, *entries, mode="w:gz"):
    """A tar file of (name, bytes) and of TarInfo without bytes."""
    with tarfile.open(path, mode) as archive:
        for item in entries:
            if isinstance(item, tarfile.TarInfo):
                archive.addfile(item)
            else:
                member = tarfile.TarInfo(item[0])
                member.size = len(item[1])
                archive.addfile(member, io.BytesIO(item[1]))
    return path


def zip_of(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def special(kind, name="bad", link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def read(path):
    return list(members(path))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, below one that is watched: afterwards both hold only the archive."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in (["bad.tar"], ["bad.zip"])
    assert not os.path.lexists("/tmp/oodcert-owned")


@pytest.mark.parametrize("make", [tar_of, zip_of, lambda path, *entries: tar_of(path, *entries, mode="w")])
def test_members_are_read_in_order_and_only_the_wanted_ones(tmp_path, make):
    path = make(tmp_path / "any.name", *FILES.items())
    assert read(path) == [(PurePosixPath(name), data) for name, data in FILES.items()]
    assert [name for name, _ in members(path, lambda name: name.suffix == ".bin")] == [PurePosixPath("two.bin")]
    assert os.listdir(tmp_path) == ["any.name"]


def test_folders_and_long_names_are_no_trouble(tmp_path):
    name = "/".join(["long" * 20] * 5)
    path = tar_of(tmp_path / "some.tar.gz", special(tarfile.DIRTYPE, "a"), special(tarfile.DIRTYPE, "a"), (name, b"x"))
    assert read(path) == [(PurePosixPath(name), b"x")]
    assert read(zip_of(tmp_path / "some.zip", ("a/", b""), (name, b"x"))) == [(PurePosixPath(name), b"x")]


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/tmp/oodcert-owned", "a\\..\\..\\out", "C:\\out"])
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_names_that_lead_out_are_refused(here, make, name):
    path = make(here / f"bad.{make.__name__[:3]}", ("good", b"good"), (name, b"bad"))
    assert_refused(lambda: read(path), path.name, "leads out", "delete the file")
    assert_refused(lambda: list(members(path, lambda name: name.name == "good")), "leads out")


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "good"),
        (tarfile.LNKTYPE, "../../out"),
        (tarfile.LNKTYPE, "good"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices_are_refused(here, kind, link):
    path = tar_of(here / "bad.tar", ("good", b"good"), special(kind, link=link), ("bad/file", b"through the link"))
    assert_refused(lambda: read(path), "bad.tar", "'bad'", "link or a device")


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666])
def test_links_and_devices_in_a_zip_are_refused(here, mode):
    link = zipfile.ZipInfo("bad")
    link.external_attr = mode << 16
    path = zip_of(here / "bad.zip", (link, "/etc/passwd"))
    assert_refused(lambda: read(path), "bad.zip", "'bad'", "link or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_name_that_occurs_twice_is_refused(here, make):
    path = make(here / f"bad.{make.__name__[:3]}", ("a/b", b"1"), ("a/./b" if make is tar_of else "a/b", b"2"))
    assert_refused(lambda: read(path), "is in it twice")


def zeros(path, size):
    """A tar.gz of one member of that many zeros."""
    header = tarfile.TarInfo("zeros")
    header.size = size
    with gzip.open(path, "wb", 1) as file:
        file.write(header.tobuf())
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
        file.write(bytes(1024))
    return path


def test_bombs_are_refused_without_being_read(here, monkeypatch):
    monkeypatch.setattr(archives, "HARMLESS", 2**20)
    path = zeros(here / "bad.tar", 2**23)
    assert_refused(lambda: list(members(path, lambda name: False)), "bad.tar", "unpacks to more than")
    path.unlink()
    assert_refused(lambda: read(zip_of(here / "bad.zip", ("zeros", bytes(2**23)))), "bad.zip", "unpacks to more than")


def test_a_bomb_in_headers_or_behind_the_end_is_refused(here, monkeypatch):
    monkeypatch.setattr(archives, "HARMLESS", 2**20)
    with gzip.open(here / "bad.tar", "wb", 1) as file:
        header = special(tarfile.XHDTYPE, "pax")
        header.size = 2**23
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(2**23))
    assert_refused(lambda: read(here / "bad.tar"), "bad.tar", "unpacks to more than")
    with gzip.open(here / "bad.tar", "wb", 1) as file:
        file.write(bytes(2**23))
    assert_refused(lambda: read(here / "bad.tar"), "bad.tar", "unpacks to more than")


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_too_many_members_are_refused(here, monkeypatch, make):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    path = make(here / f"bad.{make.__name__[:3]}", *((str(index), b"") for index in range(4)))
    assert_refused(lambda: read(path), "more than 3 members")


def test_the_limits_leave_room_for_every_set():
    assert archives.MAX_MEMBERS > 2 * 130_000 and archives.MAX_BYTES > 10 * 2**30


@pytest.mark.parametrize("make", [tar_of, zip_of, lambda path, *entries: tar_of(path, *entries, mode="w")])
def test_an_archive_that_is_cut_off_anywhere_is_refused(tmp_path, make):
    noise = np.random.default_rng(0).bytes(3000)
    path = make(tmp_path / "cut", ("a", noise), ("b", noise))
    whole = path.read_bytes()
    content = len(whole.rstrip(b"\0"))  # a tar file is filled up with more zeros than it needs
    for length in {0, 1, 300, 512, 512 + 3072, 4000, content - 1, content + (-content) % 512}:
        if length < len(whole):
            path.write_bytes(whole[:length])
            assert_refused(lambda: read(path), "cut", "fetch it again")


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_damaged_archive_is_refused(tmp_path, make):
    noise = np.random.default_rng(0).bytes(3000)
    path = make(tmp_path / "damaged", ("a", noise), ("b", noise))
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    assert_refused(lambda: read(path), "damaged", "fetch it again")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x1f\x8b", b"<html>not found</html>" * 100, b"PK" * 5000])
def test_what_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "page.zip").write_bytes(data)
    assert_refused(lambda: read(tmp_path / "page.zip"), "page.zip", "fetch it again")
    assert_refused(lambda: read(tmp_path / "nowhere.zip"), "nowhere.zip")
