"""The table of the attack's sanity: each of its checks failing by itself, and the marks in the other tables."""

import numpy as np
import pandas as pd
import pytest

import synthetic_evidence
from oodcert.errors import InputError
from oodcert.reporting import tables
from oodcert.reporting.figures import headline

CHECKS = {"grows": "radius", "reaches_chance": "chance", "beats_square": "Square", "gains": "budget"}
# AUC of an attack that passes all checks: at every radius, and at epsilon by its parts and with less of its budget
GOOD = {"clean": 1.0, 0.025: 0.9, 0.05: 0.8, 0.1: 0.7, 1.0: 0.1, "reduced": 0.85, "white_box": 0.8, "square": 0.95}
ID = np.arange(1000) / 1000


def evidence(config, changes=()):
    """Evidence with these AUCs: 1000 ID images spread evenly, and all OOD images where the AUC is as wanted."""
    parts = []
    for method in config.methods:
        aucs = GOOD | (dict(changes) if method == "oe" else {})
        score = {key: 1 - auc - 0.0005 for key, auc in aucs.items()}
        inside = pd.DataFrame({"method": method, "set": "id", "sample": range(1000), "score": ID})
        ood = pd.DataFrame({"method": method, "set": "photo_crops", "sample": range(4), "clean": score["clean"]})
        runs = [(epsilon, 1.0, score[epsilon]) for epsilon in (0.025, 0.05, 0.1, 1.0)]
        runs.append((0.05, 0.25, score["reduced"]))
        sanity = [
            ood.assign(epsilon=e, share=share, attacked=attacked, white_box=score["white_box"], square=score["square"])
            for e, share, attacked in runs
        ]
        parts.append((inside, pd.concat(sanity)))
    clean, sanity = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    return {"clean": clean, "sanity": sanity}


@pytest.fixture(scope="module")
def config():
    return synthetic_evidence.config(methods=["plain", "oe"])


def verdict(config, changes=()):
    """The row of oe, whose evidence is changed; that of plain is not."""
    table = tables.sanity_table(evidence(config, changes), config).set_index("method")
    assert table.loc["plain", [*CHECKS, "reliable"]].all()
    return table.loc["oe"]


def test_the_values_are_the_aucs(config):
    row = verdict(config)
    columns = {"clean": "clean", 0.025: "auc_0.025", 0.05: "auc_0.05", 0.1: "auc_0.1", 1.0: "auc_1"}
    columns |= {key: f"auc_{key}" for key in ("reduced", "white_box", "square")}
    assert {key: row[column] for key, column in columns.items()} == pytest.approx(GOOD)
    assert row["images"] == 4 and row["reliable"]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({0.1: 0.82}, "grows"),
        ({"clean": 0.88}, "grows"),
        ({1.0: 0.51}, "reaches_chance"),
        ({"white_box": 0.97}, "beats_square"),
        ({"reduced": 0.78}, "gains"),
    ],
)
def test_each_check_fails_by_itself(config, change, check):
    row = verdict(config, change)
    assert [name for name in CHECKS if not row[name]] == [check] and not row["reliable"]
    found = evidence(config, change)
    table = tables.sanity_table(found, config)
    assert tables.readable("sanity", table, config)["", "Reliable"].tolist() == ["yes", f"no: {CHECKS[check]}"]


@pytest.mark.parametrize(("change", "failed"), [({0.1: 0.7997}, "grows"), ({"reduced": 0.7993}, "gains")])
def test_a_thousandth_of_the_gap_is_no_difference(config, change, failed):
    """The gap between the mean clean scores is 0.5: a rise must be larger, and a loss may be as large."""
    assert not verdict(config, change)[failed]
    assert verdict(config, {"reduced": 0.7997})["reliable"] and verdict(config, {0.1: 0.7993})["reliable"]


def test_an_attack_that_does_nothing_is_found_where_the_auc_is_1(config):
    inert = {"clean": 1.0, 0.025: 1.0, 0.05: 1.0, 0.1: 1.0, "reduced": 1.0, "white_box": 1.0, "square": 1.0}
    row = verdict(config, inert)
    assert not row["grows"] and not row["reliable"] and row["reaches_chance"]


@pytest.mark.parametrize(("winning", "passes"), [(1, True), (8, True), (9, False), (40, False)])
def test_square_may_win_on_a_fifth_of_the_images_whatever_the_auc(config, winning, passes):
    found = synthetic_evidence.evidence(config)
    rows = found["sanity"]
    here = rows.index[(rows["method"] == "oe") & np.isclose(rows["epsilon"], 0.05) & (rows["share"] == 1)]
    rows.loc[here, "square"] = rows.loc[here, "white_box"] - 0.05
    rows.loc[here[:winning], "square"] += 0.1
    found["clean"].loc[found["clean"]["set"] == "id", "score"] = 1.0
    row = tables.sanity_table(found, config).set_index("method").loc["oe"]
    assert len(here) == 40 and row["square_wins"] == winning / 40 and row["beats_square"] == passes


def test_chance_is_not_stretched(config):
    assert verdict(config, {1.0: 0.5})["reliable"] and not verdict(config, {1.0: 0.502})["reliable"]


@pytest.mark.parametrize("missing", [{"epsilon": 0.1}, {"share": 0.25}])
def test_a_missing_run_is_named(config, missing):
    ((column, value),) = missing.items()
    found = evidence(config)
    found["sanity"] = found["sanity"][found["sanity"][column] != value]
    with pytest.raises(InputError, match=f"sanity evidence of method 'plain'.*{column}"):
        tables.sanity_table(found, config)


def test_the_caption_says_what_passes_and_what_the_linear_score_shows(config):
    found = synthetic_evidence.evidence(config)
    linear = found["attack_linear"]
    linear["attacked"] = linear["clean"] + 0.9951 * (linear["maximum"] - linear["clean"])
    text = tables.caption("sanity", found, config)
    assert "against 40 OOD images (10 of each set)" in text and "At ε = 0.05 also with a quarter" in text
    assert "Square wins on at most 20 % of the images (Square)" in text and "below 0.001 of the gap" in text
    assert "gains at least 99.51 % of what is possible, on 160 images." in text


@pytest.fixture(scope="module")
def unreliable(config):
    found = synthetic_evidence.evidence(config)
    rows = found["sanity"]
    found["sanity"] = rows.assign(attacked=rows["attacked"].where(rows["method"] != "oe", rows["clean"]))
    return found


@pytest.mark.parametrize("kind", ["ood", "headline"])
def test_a_method_whose_attack_fails_is_marked(kind, config, unreliable, tmp_path):
    frame = tables.TABLES[kind](unreliable, config)
    assert frame.groupby("method")["reliable"].first().to_dict() == {"plain": True, "oe": False}
    shown = tables.readable(kind, frame, config)
    assert set(shown["", "Method"]) == {"Plain", "OE †"}
    text = tables.caption(kind, unreliable, config)
    assert "†: the attack fails a sanity check (table sanity), so the adversarial values of OE may be" in text
    tables.write_table(frame, text, tmp_path / kind, shown)
    assert r"OE $\dagger$" in (tmp_path / f"{kind}.tex").read_text()
    assert "| OE †" in (tmp_path / f"{kind}.md").read_text()


def test_without_failures_nothing_is_marked(config):
    found = synthetic_evidence.evidence(config)
    for kind in ("ood", "headline"):
        text = tables.caption(kind, found, config)
        assert "Every method's attack passes the sanity checks (table sanity)." in text and "†" not in text
        assert "†" not in tables.readable(kind, tables.TABLES[kind](found, config), config).to_string()


def test_the_figure_marks_it_too(config, unreliable):
    (axes,) = headline(unreliable, config).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Plain", "OE †"]
