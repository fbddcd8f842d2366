"""Which files of a folder are its images."""

import os

import pytest
from PIL import Image

import oodcert
from oodcert.data.listing import image_files
from oodcert.data.sets import _user_supplied
from refusals import assert_refused


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    return folder


def names(folder):
    return [path.relative_to(folder).as_posix() for path in image_files(folder)]


@pytest.mark.parametrize(
    "hidden",
    [
        ".ipynb_checkpoints/a-checkpoint.png",
        ".Trash-1000/files/b.png",
        ".thumbnails/large/c.png",
        "sub/.thumbnails/c.png",
        "__MACOSX/sub/a.png",
        "@eaDir/a.png/thumb.jpg",
        "._a.png",
        ".hidden.png",
    ],
)
def test_hidden_files_and_folders_are_left_out(tmp_path, hidden):
    assert names(fill(tmp_path, "a.png", "sub/b.png", hidden)) == ["a.png", "sub/b.png"]
    assert len(oodcert.load_images(tmp_path)) == 2


def test_a_folder_that_lies_in_a_hidden_one_is_read(tmp_path):
    assert names(fill(tmp_path / ".cache" / "set", "a.png")) == ["a.png"]


def test_links_are_followed_once(tmp_path):
    elsewhere = fill(tmp_path / "elsewhere", "x.png", "deep/y.png")
    folder = fill(tmp_path / "set", "a.png", "sub/b.png")
    (folder / "c.png").symlink_to(elsewhere / "x.png")
    (folder / "more").symlink_to(elsewhere / "deep")
    assert names(folder) == ["a.png", "c.png", "more/y.png", "sub/b.png"]
    (folder / "again.png").symlink_to("c.png")
    (folder / "zzz").symlink_to("sub")
    assert names(folder) == ["a.png", "again.png", "more/y.png", "sub/b.png"]
    (tmp_path / "link").symlink_to(folder)
    assert len(oodcert.load_images(tmp_path / "link")) == 4


@pytest.mark.parametrize("name", ["gone.png", "gone", "sub/gone.jpg"])
def test_a_broken_link_is_named(tmp_path, name):
    fill(tmp_path, "a.png", "sub/b.png")
    (tmp_path / name).symlink_to("nowhere")
    assert_refused(lambda: oodcert.load_images(tmp_path), name, "broken", "nowhere")


@pytest.mark.parametrize(("name", "target"), [("loop", "."), ("sub/up", ".."), ("sub/out", "../.."), ("self", "self")])
def test_a_circle_of_links_is_named(tmp_path, name, target):
    folder = fill(tmp_path / "set", "a.png", "sub/b.png")
    (folder / name).symlink_to(target)
    assert_refused(lambda: oodcert.load_images(folder), name, "link")


def test_a_circle_of_two_links_is_named(tmp_path):
    folder = fill(tmp_path, "a.png", "one/b.png", "two/c.png")
    (folder / "one" / "to_two").symlink_to("../two")
    (folder / "two" / "to_one").symlink_to("../one")
    assert_refused(lambda: oodcert.load_images(folder), "to_", "Remove the link")


@pytest.mark.parametrize("name", ["photo.HEIC", "sub/photo.avif", "scan.jp2", "raw.dng"])
def test_images_of_other_kinds_are_not_left_out_without_a_word(tmp_path, name):
    path = fill(tmp_path, "a.png", "sub/b.png") / name
    path.write_bytes(b"some image")
    assert_refused(lambda: oodcert.load_images(tmp_path), name, "not read", "Convert")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    fill(tmp_path, "a.png", "closed/b.png")
    listed = os.listdir

    def refusing(path="."):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "listdir", refusing)
    monkeypatch.setattr(os, "scandir", refusing)
    assert_refused(lambda: oodcert.load_images(tmp_path), "closed", "Permission denied")


@pytest.mark.parametrize(
    ("mode", "shape"), [("L", (1, 8, 8)), ("L", (1, 8, 12)), ("RGB", (3, 8, 12)), ("L", (3, 12, 8)), ("1", (1, 4, 8))]
)
def test_a_folder_takes_the_shape_of_its_profile(tmp_path, mode, shape):
    Image.new(mode, (20, 16)).save(tmp_path / "a.png")
    assert _user_supplied("mine", tmp_path, shape).check(image_shape=shape).name == "mine"


def test_a_folder_in_colour_does_not_become_grey_without_a_word(tmp_path):
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "a.png")
    assert_refused(lambda: _user_supplied("mine", tmp_path, (1, 8, 8)), "a.png", "colour", "data.image_shape")
