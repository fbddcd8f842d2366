"""The tables of data/: the registry of image sets, and the overlaps."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from oodcert.data import overlaps, registry
from oodcert.data.overlaps import overlapping
from refusals import assert_refused

ENTRIES = list(registry.registry().values())
DIGITS = {"sha256": 64, "md5": 32, "mirror_sha256": 64}
NEEDED = {("cifar10", "train"), ("cifar10", "test"), ("cifar100", "train"), ("cifar100", "test"), ("svhn", "test")}
NEEDED |= {(name, "test") for name in ("lsun_crop", "lsun_resize", "tinyimagenet_crop", "textures")}
NEEDED |= {(name, "train") for name in ("random_images", "tiny_imagenet")}


def test_every_set_of_the_paper_is_there_and_can_be_fetched():
    assert {(entry.set, entry.split) for entry in ENTRIES if entry.status == "available"} == NEEDED
    assert {entry.set for entry in ENTRIES if entry.status == "unavailable"} == {
        "scenes",
        "openimages",
        "tiny_images_80m",
    }


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.set}-{entry.split}")
def test_a_row_is_what_its_columns_promise(entry):
    assert re.fullmatch(r"[a-z0-9_]+", entry.set) and entry.licence and entry.note
    for kind, length in DIGITS.items():
        assert re.fullmatch(f"([0-9a-f]{{{length}}})?", getattr(entry, kind))
    assert bool(entry.mirror) == bool(entry.mirror_sha256) == bool(entry.mirror_encoding)
    assert not Path(entry.mirror).is_absolute() and ".." not in Path(entry.mirror).parts
    if entry.status == "unavailable":
        assert not entry.file and not entry.urls
    else:
        assert entry.file == Path(entry.file).name and not entry.file.startswith(".") and entry.md5
        for url in entry.urls:
            assert urlsplit(url).scheme in ("http", "https") and Path(urlsplit(url).path).name == entry.file


def test_splits_of_one_file_agree_on_it():
    for entry in ENTRIES:
        for other in ENTRIES:
            if entry.file and entry.file == other.file:
                same = ("urls", "bytes", "sha256", "md5", "licence")
                assert all(getattr(entry, field) == getattr(other, field) for field in same)


def test_an_entry_is_found_or_a_close_name_suggested():
    assert registry.entry_of("svhn", "test").bytes == 64275384
    assert_refused(lambda: registry.entry_of("svnh", "test"), "'svnh'", "did you mean 'svhn'")
    assert_refused(lambda: registry.entry_of("textures", "train"), "no train images", "'textures'")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The registry's path during the test, for tables of its own."""
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "registry.csv")
    registry.registry.cache_clear()
    yield tmp_path / "registry.csv"
    registry.registry.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("svhn,test", "svhn,val", "split is 'val'"),
        ("64275384", "many", "bytes is 'many'"),
        ("available", "perhaps", "status is 'perhaps'"),
        ("lossless", "png", "mirror_encoding is 'png'"),
        (",licence", ",license", "not the columns"),
        (",none", "", "not the columns"),
        ("svhn,", "cifar10,", "twice"),
        ("test,b,", "test,..,", "outside its folder"),
        ("test,b,", "test,../b,", "outside its folder"),
        ("test,b,", "test,/b,", "outside its folder"),
        (",m,,", ",../m,,", "outside its folder"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(table, old, new, word):
    columns = "set,split,file,urls,bytes,sha256,md5,mirror,mirror_sha256,mirror_encoding,licence,status,note"
    rows = "cifar10,test,a,http://a/a,,,,,,,none,available,\nsvhn,test,b,,64275384,,,m,,lossless,none,available,\n"
    table.write_text(f"{columns}\n{rows}")
    assert len(registry.registry()) == 2
    registry.registry.cache_clear()
    table.write_text(f"{columns}\n{rows}".replace(old, new))
    assert_refused(registry.registry, "registry.csv, line", word)
    table.write_bytes(b"\xff\xfe")
    assert_refused(registry.registry, "unreadable", "Restore")


def test_overlaps_name_classes_of_both_sets_once(tmp_path, monkeypatch):
    cifar10, cifar100 = overlapping("tiny_imagenet", "cifar10"), overlapping("tiny_imagenet", "cifar100")
    assert len(set(cifar10)) == len(cifar10) == 28 and len(set(cifar100)) == len(cifar100) == 94
    assert {"n02123045", "n02423022"} <= set(cifar10)  # tabby; gazelle, a look-alike of deer
    assert "n02481823" in cifar100 and "n02123045" not in cifar100  # chimpanzee; CIFAR-100 has no cats
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in cifar10 + cifar100)
    assert len(overlaps.OVERLAPS.read_text().splitlines()) == 1 + len(cifar10) + len(cifar100)
    assert overlapping("random_images", "cifar10") == overlapping("tiny_imagenet", "svhn") == ()
    monkeypatch.setattr(overlaps, "OVERLAPS", tmp_path / "overlaps.csv")
    for text in ("", "a,b\n1,2\n"):
        (tmp_path / "overlaps.csv").write_text(text)
        assert_refused(lambda: overlapping("tiny_imagenet", "cifar10"), "overlaps.csv", "Restore")
