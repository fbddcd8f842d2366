"""The report: its numbers are the committed runs', its sentences follow them, and it is the same bytes each time."""

import copy
import json
import re
import shutil

import pandas as pd
import pytest
import typst

from conftest import ROOT
from oodcert.errors import InputError
from oodcert.reporting.paper import build_report, decimal, printed, report_data, write_report_data
from oodcert.runtime.files import sha256
from typst_prose import Prose

SOURCES = sorted((ROOT / "paper").rglob("*.typ"))
RUNS = [ROOT / "results/reference" / name for name in ("digits", "cifar-lite")]
PLANNED = pd.DataFrame({"component": ["plain", "denoiser"], "forward": [3e9, 5e9], "backward": [1e9, 2e9]})
NAMES = re.compile(  # where digits belong to a name
    r"CIFAR-100?\b|\bC[1-4]\b|\bD\d+\b|\bFPR95|95(?=~% (of the ID images|interval))|float(32|64)|1 − FPR|/255"
    r"|pixel scale 0, 1"
)


@pytest.fixture(scope="module")
def data():
    """What the report is made of, of the committed runs."""
    return report_data(RUNS, PLANNED)


@pytest.fixture
def folder(tmp_path):
    """A copy of all that the sources read, but for the numbers."""
    shutil.copytree(ROOT / "paper", tmp_path / "paper", ignore=shutil.ignore_patterns("numbers.json", "*.pdf"))
    shutil.copytree(ROOT / "figures/reference", tmp_path / "figures/reference")
    return tmp_path


def build(folder, data):
    write_report_data(data, folder / "paper/numbers.json")
    build_report(folder / "paper/report.typ", folder / "paper/report.pdf")
    return folder / "paper/report.pdf"


def paragraphs(folder):
    """The text of the report's paragraphs, without formulas, spaces made one."""
    compiler = typst.Compiler(folder / "paper/report.typ", root=folder, ignore_system_fonts=True)
    return [" ".join(text(body).split()) for body in json.loads(compiler.query("par", field="body"))]


def text(node):
    """The text of typst content as JSON."""
    if node["func"] in ("text", "space"):
        return node.get("text", " ")
    return "".join(map(text, node.get("children", []))) + "".join(
        text(node[key]) for key in ("body", "child") if key in node
    )


def typed(source):
    """The numbers that a typst source states by itself."""
    found = Prose(source)
    inside = [number for number in re.findall(r"\d+(?:\.\d+)?", found.mathematics) if number not in ("0", "1", "2")]
    return re.findall(r"\d+(?:\.\d+)?", NAMES.sub("", found.prose)) + inside


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_number_is_typed(path):
    assert typed(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "an AUC of 83.1~% is",
        "#n(key)~% of 40 images",
        "#figure(caption: [with 40 images])",
        "#if high [it is 7 points] else [it is #n(key)]",
        '#wide(table(("an AUC of 83",)), [none])',
        "$sigma = 0.25$",
        "#(83.1)~%",
        "// none\nCIFAR-10 has 50 sets",
    ],
)
def test_a_typed_number_is_seen(source):
    assert len(typed(source)) == 1


def test_the_report_has_its_pages_and_the_same_bytes_each_time(data, folder):
    first = sha256(build(folder, data))
    (folder / "paper/report.pdf").unlink()
    assert sha256(build(folder, data)) == first
    compiler = typst.Compiler(folder / "paper/report.typ", root=folder, ignore_system_fonts=True)
    assert 6 <= len(compiler.compile(format="png", ppi=5)) <= 10


def test_sentences_follow_the_numbers(data, folder):
    changed = copy.deepcopy(data)
    for value, side in ((99.9, "above"), (1.0, "below")):
        changed["numbers"]["cifar-lite/ood/average/distro/adversarial/auc"] = printed(value / 100)
        build(folder, changed)
        (found,) = (words for words in paragraphs(folder) if words.startswith("Under attack"))
        other = printed(abs(value - data["numbers"]["cifar-lite/ood/average/prood/adversarial/auc"]["value"]) / 100)
        assert f"is {value} %: {other['text']} points {side} ProoD" in found


def test_a_missing_number_stops_the_build_with_its_name(data, folder):
    lacking = copy.deepcopy(data)
    del lacking["numbers"]["cifar-lite/ood/average/prood/guaranteed/auc"]
    with pytest.raises(InputError, match=r"report\.typ cannot be built.*cifar-lite/ood/average/prood/guaranteed/auc"):
        build(folder, lacking)
    assert not (folder / "paper/report.pdf").exists()


def test_a_missing_table_or_sidecar_is_named(tmp_path):
    run = shutil.copytree(RUNS[0], tmp_path / "digits", ignore=shutil.ignore_patterns("*.parquet", "*.json"))
    shutil.copy(RUNS[0] / "manifest.json", run)
    with pytest.raises(InputError, match=r"digits/evidence has no sidecars"):
        report_data([run], PLANNED)
    (run / "tables/l2.csv").unlink()
    with pytest.raises(InputError, match=r"l2\.csv cannot be read"):
        report_data([run], PLANNED)


def test_numbers_are_those_of_the_tables_and_sidecars(data):
    numbers = data["numbers"]
    row = next(line for line in (RUNS[1] / "tables/ood.csv").open() if line.startswith("distro,average,adversarial"))
    assert numbers["cifar-lite/ood/average/distro/adversarial/auc"]["text"] == f"{100 * float(row.split(',')[3]):.1f}"
    clean = [json.loads(path.read_text()) for path in (RUNS[0] / "evidence/clean").glob("*.json")]
    assert numbers["digits/cost/clean/calls"]["value"] == sum(record["network_calls"] for record in clean)
    assert numbers["digits/cost/clean/jobs"]["value"] == len(clean)
    assert numbers["planned/total/forward"] == {"value": 8_000_000_000, "text": "8.00"}
    assert numbers["planned/classifier/backward"]["text"] == "1.00"


def test_numbers_are_rounded_in_one_way():
    assert printed(0.8306) == {"value": 83.06, "text": "83.1"}
    assert printed(-0.0204, "lead")["text"] == "−2.0" and printed(0.0204, "lead")["text"] == "+2.0"
    assert printed(1234567)["text"] == "1,234,567" and printed(True)["text"] == "yes"
    assert decimal(-0.04) == "0.0" and decimal(0.04, "effect") == "0.0"
    assert decimal(float("-inf")) == "−∞"
