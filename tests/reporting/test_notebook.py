"""The analysis notebook: committed without outputs, and what it shows of a finished run."""

import nbformat
import pytest

from conftest import ROOT
from oodcert.errors import InputError
from oodcert.reporting.notebook import run_notebook

SOURCE = ROOT / "workflow/notebooks/analysis.ipynb"


@pytest.fixture
def without_torch(tmp_path, monkeypatch):
    """Kernels started now find the library, and no torch."""
    (tmp_path / "modules/torch").mkdir(parents=True)
    (tmp_path / "modules/torch/__init__.py").write_text("raise ImportError('torch is not needed here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'modules'}:{ROOT / 'workflow'}")


def test_the_committed_notebook_holds_no_results():
    cells = [cell for cell in nbformat.read(SOURCE, 4).cells if cell.cell_type == "code"]
    assert cells and all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())] == [cells[0]]


def test_it_runs_on_a_finished_run_without_torch(reference, without_torch, tmp_path):
    parameters = {"results": str(reference), "bound": "gaussian", "sigma": 0.5, "radius": 0.3}
    run_notebook(SOURCE, parameters, tmp_path / "out.ipynb", tmp_path / "out.html")
    executed = nbformat.read(tmp_path / "out.ipynb", 4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert "papermill" not in executed.metadata and not any("execution" in cell.metadata for cell in executed.cells)
    (guaranteed,) = (output for output in outputs if "fpr95" in output.get("data", {}).get("text/plain", ""))
    assert "DISTRO" in guaranteed.data["text/plain"] and "VOS" not in guaranteed.data["text/plain"]  # has no mean bound
    assert "A finished run" in (tmp_path / "out.html").read_text()


def test_a_cell_that_fails_is_named(without_torch, tmp_path):
    with pytest.raises(InputError, match=r"analysis\.ipynb, cell \d: InputError: .*manifest\.json does not exist"):
        run_notebook(SOURCE, {"results": str(tmp_path)}, tmp_path / "out.ipynb", tmp_path / "out.html")
    assert not (tmp_path / "out.ipynb").exists() and not (tmp_path / "out.html").exists()
