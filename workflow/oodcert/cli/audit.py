"""`oodcert audit`: recomputes what a finished run reports, and says what does not agree."""

from __future__ import annotations

import argparse
from functools import partial

from oodcert.cli.arguments import POSITIVE_INT, Commands, Help, printable

DESCRIPTION = """Recomputes every table and figure of a finished run from its evidence, and checks the evidence itself:
hashes, settings, seeds, samples, missing and duplicate rows, the order guaranteed ≥ attacked ≥ clean, and all bounds
against the order statistics of their draws. It needs no network connection, no GPU and no weights. docs/audit.md says
what each check compares, and what no audit can find."""
EXAMPLE = """example:
  oodcert audit results/reference/digits --html audit.html

exit codes: 0 nothing is wrong, 1 findings, or no finished run, 2 wrong usage."""


def add_arguments(commands: Commands) -> None:
    """Adds the command to those of the parser."""
    command = commands.add_parser(
        "audit",
        help="check a finished run against its own evidence",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=Help,
    )
    add = command.add_argument
    add("results", nargs="?", default="results/digits", help="folder of the run")
    add("--json", metavar="FILE", help="write the report as JSON")
    add("--html", metavar="FILE", help="write the report as one HTML page")
    add(
        "--spot-check",
        type=POSITIVE_INT,
        metavar="K",
        help="also certify K random rows anew from the weights (results/<profile>/models) and images (data/<profile>)",
    )
    add(
        "--seed",
        type=int,
        metavar="S",
        help="of the rows and the noise of --spot-check (default: a random one, which the report names)",
    )
    add(
        "--trust",
        action="store_true",
        help="let --spot-check import and run user-supplied networks, MODULE:NAME, that the run names",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Audits options.results and prints the report.

    Args:
        options: the parsed arguments of the command.

    Raises:
        InputError: if there is no finished run, and at the end if anything is wrong with it.
    """
    from oodcert.audit import audit, guarded
    from oodcert.audit.report import text, write_report

    audited = audit(options.results)
    if options.spot_check and audited.run:
        from oodcert.execution.spot_check import spot_check

        check = partial(spot_check, count=options.spot_check, seed=options.seed, trust=options.trust)
        audited.results.append(guarded("spot check", check, audited.run))
    print(printable(text(audited)))
    write_report(audited, options.results, options.json, options.html)
