"""The page on certificates shows what docs/bounds.py makes of the committed evidence."""

import importlib.util
import json

import pandas as pd
import pytest

from conftest import ROOT
from oodcert.figures import save
from oodcert.files import sha256

EVIDENCE = sorted((ROOT / "results" / "reference" / "cifar10").glob("*.parquet"))


def script(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bounds():
    return script("bounds")


def test_the_page_and_its_figure_follow_from_the_evidence(bounds, tmp_path):
    table = bounds.guaranteed_auc()
    assert bounds.markdown(table) in (ROOT / "docs" / "certificates.md").read_text()
    save(bounds.draw(table), tmp_path / "bounds", dpi=200)
    assert (tmp_path / "bounds.png").read_bytes() == (ROOT / "docs" / "bounds.png").read_bytes()


@pytest.mark.parametrize("path", EVIDENCE, ids=lambda path: path.stem)
def test_the_cifar_evidence_is_what_its_record_says(path):
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["sha256"] == sha256(path) and record["dirty"] is False


def test_every_bound_has_its_panel_and_the_radii_of_the_text(bounds):
    table = bounds.guaranteed_auc()
    assert set(table["bound"]) == set(bounds.BOUNDS) and table["panel"].nunique() == 6
    assert table["auc"].between(0, 1).all()


def test_the_page_quotes_the_measured_savings_of_adaptive_sampling():
    totals = json.loads((ROOT / "results" / "reference" / "benchmarks" / "adaptive.json").read_text())["totals"]
    page = " ".join((ROOT / "docs" / "certificates.md").read_text().split())
    by_kind = {row["certificate"]: row for row in totals}
    assert all(f"{100 * row['ratio']:.1f} %" in page for row in totals)
    agree, more, less = (
        sum(by_kind[kind][key] for kind in ("percentile", "labels"))
        for key in ("agree", "more_conservative", "less_conservative")
    )
    assert f"of {agree + more} decisions {agree} agree, {more} are more conservative and none is less" in page
    assert less == 0


def test_the_page_quotes_the_measured_cost():
    measured = json.loads((ROOT / "results" / "reference" / "benchmarks" / "certify.json").read_text())
    page = " ".join((ROOT / "docs" / "certificates.md").read_text().split())
    step = {row["step"]: row for row in measured["total"]}
    sharing, adaptive = (step[name]["factor"] for name in ("all at once", "adaptive"))
    assert f"{step['adaptive']['factor_so_far']:.1f} times as fast" in page
    assert f"pass gives {sharing:.1f}, adaptive sampling {adaptive:.1f}," in page
    overheads = [row["overhead_%"] for row in measured["overhead"] if row["network"].startswith("resnet")]
    assert f"{min(overheads):.0f} to {max(overheads):.0f} % for a ResNet-8" in page


@pytest.fixture(scope="module")
def operations():
    return script("operations")


def test_the_page_on_operations_follows_from_what_was_measured(operations, tmp_path):
    record = json.loads((ROOT / "results/reference/benchmarks/scaling.json").read_text())
    runs, page = pd.DataFrame(record["runs"]), (ROOT / "docs/operations.md").read_text()
    assert record["dirty"] is False and runs["sha256"].nunique() == 1
    save(operations.draw(runs, record["settings"]), tmp_path / "scaling", dpi=200)
    assert (tmp_path / "scaling.png").read_bytes() == (ROOT / "docs/scaling.png").read_bytes()
    assert operations.sizes(operations.paper()) in page
    assert all(f"{rate:,} images/s" in page for rate in operations.RATES.values())
    start, overhead, _ = operations.constants(runs)
    assert f"{start:.1f} s to start" in page and f"{overhead:.1f} s a job" in page


def test_the_scaling_model_is_exact_where_it_can_be_counted(operations):
    assert operations.modelled(1, 64, work=100, start=5, overhead=2) == 107
    assert operations.modelled(4, 1, work=100, start=5, overhead=2) == 5 + 4 * 2 + 100 + 2
    assert operations.modelled(4, 4, work=100, start=5, overhead=2) == 5 + 2 + 25 + 2
    assert operations.modelled(5, 4, work=100, start=5, overhead=2) == 5 + 2 * (2 + 20) + 2
