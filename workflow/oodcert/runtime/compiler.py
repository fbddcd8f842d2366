"""What a GPU needs to run compiled networks: a C compiler and Python's headers. Imports no torch."""

import os
import shutil
import sysconfig
from pathlib import Path

from oodcert.errors import InputError


def check_compiler() -> None:
    """Checks that Triton, which compiles networks for a GPU, can build its launcher.

    Raises:
        InputError: There is no C compiler, or there are no headers of this Python.
    """
    remedy = "or set precision to float32, which compiles nothing."
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or shutil.which(compiler.split()[0]) is None:
        found = f"CC = {compiler} is not there" if compiler else "there is no gcc or clang on the PATH, and no CC"
        raise InputError(f"precision = 'bfloat16' on a GPU needs a C compiler, but {found}: install gcc, {remedy}")
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.is_file():
        raise InputError(
            f"precision = 'bfloat16' on a GPU compiles against Python's headers, but there is no {header}: install "
            f"them (python3-dev), {remedy}"
        )
