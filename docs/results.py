"""Writes the tables of docs/results.md from the committed references."""

from pathlib import Path

import pandas as pd

from oodcert.runtime.files import atomic

ROOT = Path(__file__).parents[1]
REFERENCES = ROOT / "results" / "reference"
PAGE = ROOT / "docs" / "results.md"
PROFILES = ("digits", "cifar-lite")


def headline(profile: str) -> str:
    """The headline table of a run, without its caption."""
    return (REFERENCES / profile / "tables" / "headline.md").read_text(encoding="utf-8").split("\n\n", 1)[1].strip()


def claims() -> str:
    """The claims of the paper that some run has a value for, with the verdict of each run."""
    runs = [pd.read_csv(REFERENCES / profile / "tables" / "claims.csv").set_index("id") for profile in PROFILES]
    told = [one for one in runs[0].index if one[0] == "C" and one[1].isdigit()]
    rows = ["| Claim | | Expected | digits | cifar-lite |", "|:--|:--|:--|:--|:--|"]
    for one in told:
        if any(run.notna().loc[one, "measured"] for run in runs):
            cells = [one, *runs[0].loc[one, ["statement", "expected"]], *(verdict(run.loc[one]) for run in runs)]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def verdict(row: pd.Series) -> str:
    """A run's verdict on a claim, with the measured value and its interval."""
    if pd.isna(row["measured"]):
        return str(row["verdict"])
    short = "undecided" if row["verdict"] == "not testable here" else row["verdict"]
    measured, lower, upper = (f"{row[key]:.1f}".replace("-", "−") for key in ("measured", "lower", "upper"))
    return f"{short}: {measured} [{lower}, {upper}]".replace("−0.0", "0.0")


def main() -> None:
    """Writes the tables between their marks."""
    page = PAGE.read_text(encoding="utf-8")
    for name, table in {"claims": claims(), **{profile: headline(profile) for profile in PROFILES}}.items():
        start, end = f"<!-- {name} by docs/results.py -->\n", f"<!-- end of {name} -->"
        before, rest = page.split(start)
        page = before + start + "\n" + table + "\n\n" + end + rest.split(end, 1)[1]
    with atomic(PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
