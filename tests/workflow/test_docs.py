"""The page on certificates shows what docs/bounds.py makes of the committed evidence."""

import json

import pandas as pd
import pytest

from conftest import ROOT, script
from oodcert.reporting.figures import save
from oodcert.runtime.files import sha256

EVIDENCE = sorted((ROOT / "results" / "reference" / "cifar10").glob("*.parquet"))


@pytest.fixture(scope="module")
def bounds():
    return script("bounds")


def test_the_page_and_its_figure_follow_from_the_evidence(bounds, tmp_path):
    table = bounds.guaranteed_auc()
    assert bounds.markdown(table) in (ROOT / "docs" / "certificates.md").read_text()
    save(bounds.draw(table), tmp_path / "bounds", dpi=200)
    assert (tmp_path / "bounds.png").read_bytes() == (ROOT / "docs" / "bounds.png").read_bytes()


def test_the_page_shows_what_the_guarantees_cost(bounds):
    assert bounds.guarantees() in (ROOT / "docs" / "certificates.md").read_text()


@pytest.mark.parametrize("path", EVIDENCE, ids=lambda path: path.stem)
def test_the_cifar_evidence_is_what_its_record_says(path):
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["sha256"] == sha256(path) and record["dirty"] is False


def test_every_bound_has_its_panel_and_the_radii_of_the_text(bounds):
    table = bounds.guaranteed_auc()
    assert set(table["bound"]) == set(bounds.BOUNDS) and table["panel"].nunique() == 6
    assert table["auc"].between(0, 1).all()


def test_the_page_quotes_the_measured_savings_of_adaptive_sampling():
    measured = json.loads((ROOT / "results" / "reference" / "benchmarks" / "adaptive.json").read_text())
    totals, metrics = measured["totals"], pd.DataFrame(measured["metrics"])
    page = " ".join((ROOT / "docs" / "certificates.md").read_text().split())
    by_kind = {row["certificate"]: row for row in totals}
    assert all(f"{100 * row['ratio']:.1f} %" in page for row in totals)
    agree, more, less = (
        sum(by_kind[kind][key] for kind in ("percentile", "labels"))
        for key in ("agree", "more_conservative", "less_conservative")
    )
    assert f"of {agree + more} decisions {agree} agree, {more} are more conservative and none is less" in page
    assert less == 0
    metrics = metrics[metrics["certificate"] == "percentile"]
    fpr95 = metrics[metrics["metric"] == "fpr95"]
    worse = fpr95.loc[(fpr95["adaptive"] - fpr95["fixed"]).idxmax()]
    where = f"({worse['method']}, σ = {worse['sigma']:g}, R = {worse['radius']:g})"
    points = f"{100 * (worse['adaptive'] - worse['fixed']):.0f} points"
    assert f"FPR95 is up to {points} higher than with all draws {where}" in page
    cells = metrics.query("metric == 'auc' and method == 'plain' and sigma == 0.5 and radius == 0.25")
    [auc] = cells.to_dict("records")
    assert f"falls from {100 * auc['fixed']:.0f} to {100 * auc['adaptive']:.0f} (plain, σ = 0.5, R = 0.25)" in page


@pytest.fixture(scope="module")
def performance():
    return script("performance")


def test_the_page_on_performance_follows_from_what_was_measured(performance):
    page = performance.PAGE.read_text()
    assert performance.filled(page) == page
    assert {name for _, name, _ in performance.TABLE.findall(page)} == set(performance.TABLES)


def test_what_was_measured_says_by_which_code_and_where(performance):
    for path in performance.MEASURED.glob("*.json"):
        record = json.loads(path.read_text())
        assert record["dirty"] is False and record["commit"] and record["machine"]["cpu"], path


def test_the_pages_assume_the_same_rates(performance, operations):
    assert performance.RATES == operations.RATES


def test_the_projection_counts_a_shared_pass_once(performance):
    composed, denoised = performance.paper().to_dict("records")
    one = 9 * 1000 * 10_000 / performance.RATES["denoiser"] / 3600  # sets, images, draws
    assert composed["denoiser, each by itself"] == f"{2 * one:.1f} h" and composed["denoiser, shared"] == f"{one:.1f} h"
    assert denoised["denoiser, each by itself"] == f"{8 * one:.1f} h"
    assert denoised["denoiser, shared"] == f"{3 * one:.1f} h"  # the scores of VOS and ATOM have no range: each alone


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
    assert operations.modelled(1, 64, computation=100, start=5, overhead=2) == 107
    assert operations.modelled(4, 1, computation=100, start=5, overhead=2) == 5 + 4 * 2 + 100 + 2
    assert operations.modelled(4, 4, computation=100, start=5, overhead=2) == 5 + 2 + 25 + 2
    assert operations.modelled(5, 4, computation=100, start=5, overhead=2) == 5 + 2 * (2 + 20) + 2
