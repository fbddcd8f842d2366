"""Which files of a folder, or of an archive, are images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePath

from PIL import Image

from oodcert.data.image_files import FORMATS
from oodcert.errors import InputError

LEFT_BY_PROGRAMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")  # hidden by those who make them
OTHER_IMAGES = (  # suffixes of images that are not read: to leave them out would be another image set
    *(".avif", ".heic", ".heif", ".jp2", ".jxl", ".mpo", ".psd", ".svg", ".tga"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef"),
)


def image_files(folder: Path) -> list[Path]:
    """Paths of the images in a folder and its subfolders, sorted.

    Symbolic links are followed. A file or folder to which several paths lead is taken once, by the first of them.

    Args:
        folder: to search.

    Returns:
        The paths, at least one.

    Raises:
        InputError: if there are none; and naming a link that is broken or leads around in a circle, an image of a
            format that is not read, and a folder that can't be listed.
    """
    files = _files(folder, (os.path.realpath(folder),))
    by_target: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
        if path.suffix.lower() in OTHER_IMAGES:
            raise InputError(
                f"{path}: images of this kind are not read ({_listed()} are). Convert the file, or remove it."
            )
        if is_image(path.relative_to(folder)):
            by_target.setdefault(os.path.realpath(path), path)
    if not by_target:
        raise InputError(f"{folder}: no images in this folder ({_listed()}). Check the path.")
    return list(by_target.values())


def is_image(path: PurePath) -> bool:
    """Whether a path within a folder or archive is that of an image file, and no part of it is hidden."""
    return path.suffix.lower() in _suffixes() and not any(map(_hidden, path.parts))


def _files(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """All files in a folder and its subfolders that are not hidden. above: the real paths of the folders on the way."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: can't be listed ({error}). Correct its permissions, or remove it.") from error
    for path in entries:
        if _hidden(path.name):
            continue
        if path.is_symlink():
            _check_link(path, above)
        if path.is_dir():
            yield from _files(path, (*above, os.path.realpath(path)))
        elif path.is_file():
            yield path


def _check_link(path: Path, above: tuple[str, ...]) -> None:
    if not path.exists():
        raise InputError(f"{path}: a broken symbolic link, to {os.readlink(path)}. Correct or remove it.")
    target = Path(os.path.realpath(path))
    if any(Path(one).is_relative_to(target) for one in above):
        raise InputError(f"{path}: a symbolic link to {target}, a folder that holds it. Remove the link.")


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in LEFT_BY_PROGRAMS


def _listed() -> str:
    return ", ".join(sorted(_suffixes()))


@cache
def _suffixes() -> set[str]:
    Image.init()
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
