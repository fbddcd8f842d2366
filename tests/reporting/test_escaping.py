"""Names of any characters stay what they are in Markdown, HTML, LaTeX and figures."""

import html
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from oodcert.cli.certify_settings import CertifySettings
from oodcert.cli.guaranteed_table import caption, readable
from oodcert.cli.inputs import named_paths
from oodcert.cli.main import main
from oodcert.config.models import FigureSettings
from oodcert.reporting.escaping import markdown, printable, tex, tex_cell
from oodcert.reporting.figures.guaranteed import guaranteed
from oodcert.reporting.figures.style import drawn, save, style
from oodcert.reporting.tables.writing import write_table
from refusals import assert_refused

NAMES = [
    *("ba$$in", "$x$", "$\\frac{", "_a_b_", "50%", "#1", "a\\b", "{x}", "x^2~y", "a|b", "<b>bold</b>", "&amp;", "*a*"),
    *("`code`", "[link](to)", "[first", "a--b---c", "''quoted''", "naïve", "猫", "🐈", "a\nb", "tab\tstop", "n" * 200),
]


def table(name):
    rows = [(0.25, "percentile", radius, name, 0.9, 0.8, 0.3) for radius in (0.0, 0.5)]
    return pd.DataFrame(rows, columns=["sigma", "bound", "radius", "set", "auc", "aupr", "fpr95"])


def written(name, folder):
    settings = CertifySettings(
        hashes={},
        network="net:net",
        score=name,
        id="known",
        ood=[name],
        images=None,
        size=None,
        sigma=[0.25],
        radii=[0.0, 0.5],
        detector="smoothed",
        n=9,
        confidence=0.99,
        sampling="fixed",
        seed=0,
        precision="float32",
        batch_size=9,
        device="cpu",
        alpha=0.1,
    )
    shown = table(name)
    text = caption(settings, {"known": 3, name: 3})
    write_table(shown, text, folder / "some", readable(shown))
    return text


@pytest.mark.parametrize("name", NAMES)
def test_a_markdown_table_keeps_its_cells_and_shows_the_name(name, tmp_path):
    text = written(name, tmp_path)
    first, empty, header, rule, *rows = (tmp_path / "some.md").read_text(encoding="utf-8").splitlines()
    assert html.unescape(first) == printable(text) and not empty and len(rows) == 2
    assert {line.count("|") for line in (header, rule, *rows)} == {8}
    assert html.unescape(rows[0].split("|")[4].strip()) == printable(name)
    assert not re.search(r"[$`*<>\\~]", first + rows[0]) and not re.search(r"(?<!\w)_|_(?!\w)|\]\(", first + rows[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_latex_table_has_nothing_that_latex_would_read(name, tmp_path):
    written(name, tmp_path)
    latex = (tmp_path / "some.tex").read_text(encoding="utf-8")
    row = next(line for line in latex.splitlines() if line.startswith("0.25 & percentile"))
    cell = row.split(" & ", 3)[3].rsplit(" & ", 3)[0]
    assert cell == tex_cell(name) and all(one <= "ſ" for one in latex)
    commands = r"\\text[a-z]+\{(U\+\w+)?\}|\\[&%$#_{}]|\{\}"
    assert not re.search(r"[\\&%$#_{}^~<>|`]|--|''", re.sub(commands, " ", cell))


def test_words_and_signs_of_the_captions_are_as_before():
    ordinary = "n ≤ 5, [0.1, 0.2], my_set, held-out digits, 95 %"
    assert markdown(ordinary) == ordinary
    assert tex("naïve") == tex("nai\u0308ve") == "naïve" and tex("猫") == r"\texttt{U+732B}"
    assert tex_cell("[a") == "{}[a" and tex_cell("*a") == "{}*a" and tex_cell("a[") == "a["
    assert printable("a\nb\udce9") == r"a\nb\udce9"


@pytest.mark.filterwarnings("error")  # a glyph that the font lacks is a warning
@pytest.mark.parametrize("name", NAMES)
def test_a_figure_shows_the_name(name, tmp_path):
    figure = guaranteed(table(name).assign(confidence=0.99))
    shown = figure.get_supylabel()
    assert shown == f"guaranteed AUC ({drawn(name)}), 99 % confidence"
    assert drawn("ba$$in") == "ba$$in" and len(drawn("n" * 200)) == 40
    save(figure, tmp_path / "some", dpi=50)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["ba$$in", "$\\frac{", "a$b$c"])
def test_no_text_of_any_figure_is_a_formula(name, tmp_path):
    with style(FigureSettings(context="paper", palette="colorblind", dpi=50)):
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0, 1], label=name)
        axes.set(title=name, xlabel=name, ylabel=name)
        axes.set_yticks([0, 1], [name, name])
        axes.annotate(name, (0.5, 0.5))
        figure.legend()
        figure.suptitle(name)
    save(figure, tmp_path / "some", dpi=50)
    assert (tmp_path / "some.pdf").is_file()


@pytest.mark.parametrize("name", ["ba$$in", "a_b%c#d", "{x}\\y", "猫 & 🐈", "*a*[0]|b"])
def test_a_set_of_any_name_is_certified(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for one in ("known", name):
        np.savez(f"{one}.npz", images=generator.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8))
    (tmp_path / "escnet.py").write_text(
        "import torch\ndef net(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4))\n"
    )
    settings = ["--n", "20", "--alpha", "0.05", "--bounds", "percentile", "--out", "out", "--device", "cpu"]
    command = ["certify", "--network", "escnet:net", "--id", "known.npz", "--ood", f"{name}.npz", *settings]
    assert main(command) == 0, capsys.readouterr().err
    assert (tmp_path / "out" / f"{name}.parquet").is_file() and (tmp_path / "out" / "guaranteed.png").is_file()
    assert set(pd.read_csv("out/guaranteed.csv")["set"]) == {name}
    assert main(command) == 0 and "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a\nb", "tab\tb", "latin-\udce9", "\u202egnp"])
def test_a_name_that_cannot_be_printed_is_refused(name):
    options = type("Options", (), {"id": "known.npz", "ood": [f"{name}.npz"]})
    assert_refused(lambda: named_paths(options), repr(name), "Rename")
