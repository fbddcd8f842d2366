"""Downloads that are whole, verified and resumable: of image sets and of weights."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from oodcert.errors import InputError
from oodcert.runtime.files import atomic

# Seconds before the second and every later attempt. urllib3's Retry would not do: it asks again only until an answer
# begins, whereas a transfer that breaks off must be taken up where it stopped, in the same count of attempts.
WAITS = (1, 2, 4, 8)
TIMEOUT = (15, 60)  # seconds to connect, and between two packets
TEMPORARY = (408, 429, 500, 502, 503, 504)
CHUNK = 2**20
HTML = (b"<!doctype html", b"<html")


class RemoteFile(Protocol):
    """A file to download, such as `registry.Entry`.

    Attributes:
        file: its name.
        urls: addresses, tried in this order.
        bytes: its size; None: unknown.
        sha256: its checksum; "": unknown.
        md5: the same.
    """

    @property
    def file(self) -> str: ...
    @property
    def urls(self) -> tuple[str, ...]: ...
    @property
    def bytes(self) -> int | None: ...
    @property
    def sha256(self) -> str: ...
    @property
    def md5(self) -> str: ...


def fetch(entry: RemoteFile, folder: str | Path, progress: bool = True) -> Path:
    """A remote file in a folder: downloaded if it is not there, and verified in either case.

    Faults that may pass are tried again after WAITS. What arrived before them is kept as .FILE.partial. The next
    attempt or call goes on there if the server can and the file is still the same one. A file without a known checksum
    is accepted the first time. FILE.seen.json then keeps its sha256, which must be the same later. One process at a
    time may fetch a file.

    Args:
        entry: the file.
        folder: where it goes; made if it is not there.
        progress: whether to show the progress, with the time left.

    Returns:
        The path of the file.

    Raises:
        InputError: if no url gives the file, with the reason of each; if the disk is full; if the file that is there
            has other bytes than the entry says (it is left alone).
    """
    path = Path(folder) / entry.file
    if path.exists():
        verify(path, entry)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(entry, path, progress)
    if not is_pinned(entry) and not _seen_path(path).exists():
        with atomic(_seen_path(path)) as temporary:
            temporary.write_text(json.dumps({"file": path.name, "sha256": _digests(path, ["sha256"])["sha256"]}) + "\n")
    return path


def is_pinned(entry: RemoteFile) -> bool:
    """Whether a checksum of the file is known."""
    return bool(entry.sha256 or entry.md5)


def verify(path: str | Path, entry: RemoteFile) -> None:
    """Checks that a file has the size and checksums of the entry or, without any, the sha256 first seen.

    Args:
        path: of the file.
        entry: what is known of the file.

    Raises:
        InputError: if it has not.
    """
    path = Path(path)
    fault = _fault(path, entry, path)
    if fault:
        raise InputError(f"{path}: {fault}. Delete it, and fetch it again or put the right file there yourself.")


class _Refused(Exception):
    """A url gives no file, or another one."""


class _Interrupted(Exception):
    """A fault that may pass."""


def _download(entry: RemoteFile, path: Path, progress: bool) -> None:
    partial, reasons = path.with_name(f".{path.name}.partial"), []
    for url in entry.urls:
        try:
            _transfer(url, partial, entry, progress)
            fault = _fault(partial, entry, path)
            if fault:
                raise _Refused(fault)
        except _Refused as error:
            reasons.append(f"{url}: {error}")
            if _record(partial)["url"] == url:
                _discard(partial)
        except _Interrupted as error:
            reasons.append(f"{url}: {error} ({len(WAITS) + 1} attempts; another run resumes what has arrived)")
        else:
            os.replace(partial, path)
            _discard(partial)
            return
    raise InputError(
        f"{path.name} can't be downloaded. {'; '.join(reasons) or 'No address of it is known'}. Try again later, put "
        f"the file into {path.parent} yourself, or, for an image set, use a mirror (--config data_mirror=DIR) or name "
        "the set under data.unavailable."
    )


def _transfer(url: str, partial: Path, entry: RemoteFile, progress: bool) -> None:
    for wait in (*WAITS, None):
        try:
            return _attempt(url, partial, entry, progress)
        except _Interrupted as error:
            if wait is None:
                raise
            if progress:
                tqdm.write(f"{url}: {error}; next attempt in {wait} s", file=sys.stderr)
            time.sleep(wait)


def _attempt(url: str, partial: Path, entry: RemoteFile, progress: bool) -> None:
    """One request, appended to the partial file if that is the beginning of the very same file."""
    record = _record(partial)
    known = record["validator"] if record["url"] == url and partial.exists() else ""
    start = partial.stat().st_size if known else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-", "If-Range": known} if start else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            start, total = _accept(response, partial, known, start)
            if entry.bytes and total and total != entry.bytes:
                raise _Refused(f"a file of {total} bytes, not {entry.bytes}")
            if start == 0:
                _discard(partial)
                record = {"url": url, "validator": _validator(response.headers)}
                _record_path(partial).write_text(json.dumps(record))
            bar = tqdm(total=total, initial=start, desc=entry.file, unit="B", unit_scale=True, disable=not progress)
            with bar:
                _store(response.raw.stream(CHUNK, decode_content=False), partial, start, entry, bar)
    except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
        raise _Interrupted(f"connection failed ({error})") from error
    except requests.RequestException as error:
        raise _Refused(f"no usable answer ({error})") from error


def _accept(response: requests.Response, partial: Path, known: str, start: int) -> tuple[int, int | None]:
    """Where in the file the bytes of an answer begin, 0 or start, and the size of the whole file or None."""
    status = response.status_code
    goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    if status == 416 or (status == 206 and not (start and goes_on and _validator(response.headers) == known)):
        _discard(partial)
        raise _Interrupted("the server's file is not the one that was begun")
    if status in TEMPORARY:
        raise _Interrupted(f"status {status} {response.reason}")
    if status not in (200, 206):
        raise _Refused(f"status {status} {response.reason}")
    if "html" in response.headers.get("Content-Type", ""):
        raise _Refused("a web page instead of the file")
    start = start if status == 206 else 0
    length = response.headers.get("Content-Length", "")
    return start, start + int(length) if length.isdecimal() else None


def _store(chunks: Iterable[bytes], partial: Path, start: int, entry: RemoteFile, bar: tqdm[Any]) -> None:
    """Appends chunks to the partial file, or begins it anew."""
    count = start
    try:
        with open(partial, "ab" if start else "wb") as file:
            for chunk in chunks:
                if count == 0 and chunk.lstrip()[:20].lower().startswith(HTML):
                    raise _Refused("a web page instead of the file")
                count += len(chunk)
                if entry.bytes and count > entry.bytes:
                    raise _Refused(f"more than its {entry.bytes} bytes")
                file.write(chunk)
                bar.update(len(chunk))
    except OSError as error:
        raise InputError(
            f"{partial}: can't be written ({error.strerror}), {count} bytes from the start of {entry.file}"
            f"{f' of {entry.bytes}' if entry.bytes else ''}. Free disk space or correct the permissions: the same "
            "command resumes."
        ) from error


def _record(partial: Path) -> dict[str, str]:
    """The `url` that a partial file comes from, and the `validator` of the server's file; both "" if unknown."""
    try:
        record = json.loads(_record_path(partial).read_text())
        return {key: str(record[key]) for key in ("url", "validator")}
    except (OSError, ValueError, KeyError, TypeError):
        return {"url": "", "validator": ""}


def _validator(headers: Mapping[str, str]) -> str:
    """What tells one state of a file from another: a strong ETag, or else the time of its last change (RFC 9110)."""
    tag = headers.get("ETag", "W/")
    return headers.get("Last-Modified", "") if tag.startswith("W/") else tag


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _record_path(partial).unlink(missing_ok=True)


def _record_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _seen_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.seen.json")


def _fault(file: Path, entry: RemoteFile, path: Path) -> str:
    """What is wrong with the bytes of a file that is, or is to become, `path`; "" if nothing is."""
    size = file.stat().st_size
    if entry.bytes and size != entry.bytes:
        return f"it has {size} bytes, not {entry.bytes}"
    expected = {kind: value for kind, value in (("sha256", entry.sha256), ("md5", entry.md5)) if value}
    source = "as stated by its source"
    if not expected and _seen_path(path).exists():
        source = f"as first seen (delete {_seen_path(path)} if the change is right)"
        expected = {"sha256": _seen(path)}
    actual = _digests(file, expected)
    wrong = [kind for kind in expected if actual[kind] != expected[kind]]
    return " and ".join(f"its {kind} is {actual[kind]}, not {expected[kind]} {source}" for kind in wrong)


def _seen(path: Path) -> str:
    """The sha256 that a file without a known checksum had when it was first seen."""
    try:
        return str(json.loads(_seen_path(path).read_text())["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{_seen_path(path)}: no record of a sha256 ({error!r}). Delete it.") from error


def _digests(path: Path, kinds: Iterable[str]) -> dict[str, str]:
    """The hexadecimal digests of a file by kind, in one pass."""
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    if hashes:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                for digest in hashes.values():
                    digest.update(chunk)
    return {kind: digest.hexdigest() for kind, digest in hashes.items()}
