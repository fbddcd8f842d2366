"""The analysis notebook of a run: executed with its parameters, and as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbconvert import HTMLExporter
from traitlets.config import Config

from oodcert.errors import InputError
from oodcert.runtime.files import atomic

LOCAL = Config(KernelManager={"transport": "ipc"})  # the kernel is reached by files, not by the network


def run_notebook(source: str | Path, parameters: Mapping[str, Any], notebook: str | Path, page: str | Path) -> None:
    """Runs a notebook in the current folder, and writes it without times and random ids of cells.

    Args:
        source: the notebook.
        parameters: name -> value, in place of those of the cell tagged "parameters".
        notebook: the executed notebook that is written.
        page: the same as HTML.

    Raises:
        InputError: with the message of the cell that failed.
    """
    try:
        executed = papermill.execute_notebook(
            source, None, parameters, kernel_name="python3", progress_bar=False, config=LOCAL
        )
    except papermill.PapermillExecutionError as error:
        raise InputError(f"{source}, cell {error.exec_count}: {error.ename}: {error.evalue}") from error
    executed.metadata.pop("papermill", None)
    for index, cell in enumerate(executed.cells):
        cell["id"] = f"cell-{index}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    html, _ = HTMLExporter().from_notebook_node(executed)
    with atomic(notebook) as written, atomic(page) as shown:
        nbformat.write(executed, written)
        shown.write_text(html, encoding="utf-8")
