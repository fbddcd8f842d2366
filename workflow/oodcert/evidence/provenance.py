"""Where a result comes from: its settings, input files, code, packages, machine and time."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

from oodcert.paths import LIBRARY
from oodcert.runtime.files import sha256

PACKAGES = ("oodcert", "torch", "pyautoattack", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow")
NO_CODE = ("results", "figures")  # folders of the repository whose changes do not change the code


class CodeVersion(TypedDict):
    """The code that made a result: its commit, and whether tracked files differed from it. None where unknown."""

    commit: str | None
    dirty: bool | None


class Provenance:
    """Where one result comes from. The clock for its wall time starts when the object is made.

    Args:
        settings: the settings that decide the result, as JSON has them.
        inputs: paths of the files that it is computed from.
    """

    def __init__(self, settings: Mapping[str, Any], inputs: Iterable[str | Path] = ()) -> None:
        self.settings = settings
        self.inputs = [Path(path) for path in inputs]
        self.started = time.monotonic()

    def record(self, **extra: Any) -> dict[str, Any]:
        """What a sidecar holds: all of this, with hashes of the settings and of every input, and the extra entries."""
        return {
            "settings": self.settings,
            "settings_sha256": hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest(),
            "inputs": {str(path): sha256(path) for path in self.inputs},
            **code_version(),
            "packages": {"python": platform.python_version(), **package_versions()},
            "machine": f"{platform.system()} {platform.machine()}",
            "wall_seconds": round(time.monotonic() - self.started, 2),
            **extra,
        }


def code_version() -> CodeVersion:
    """The commit of the library's own checkout; None for both entries outside a git checkout.

    Results and figures are no code: changes to them alone do not make the checkout dirty.

    Returns:
        The commit, and whether files differ from it.
    """

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(LIBRARY), *command], capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "-uno", "--", ":/", *(f":(top,exclude){name}" for name in NO_CODE))
        return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(changed.strip())}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def package_versions() -> dict[str, str | None]:
    """The installed version of each of PACKAGES; None where it is not installed."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions
