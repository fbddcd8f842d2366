"""`oodcert audit`: recomputes what a finished run reports, and says what does not agree."""

from functools import partial
from pathlib import Path

from oodcert.audit import audit, guarded
from oodcert.audit.report import summary, text, write_html
from oodcert.cli.main import printable
from oodcert.errors import InputError
from oodcert.evidence.store import write_json


def run(options):
    """Audits options.results. Raises InputError where there is no finished run, and at the end if anything is wrong."""
    found = audit(options.results)
    if options.spot_check and found.run:
        from oodcert.execution.spot_check import spot_check

        check = partial(spot_check, count=options.spot_check, seed=options.seed, trust=options.trust)
        found.results.append(guarded("spot check", check, found.run))
    print(printable(text(found)))
    report(found, options.results, options.json, options.html)


def report(found, folder, json=None, html=None):
    """Writes an audit's JSON and HTML where asked to. Raises InputError if anything is wrong with the run."""
    if json:
        write_json(summary(found), Path(json))
    if html:
        write_html(found, folder, Path(html))
    failed = [result.check for result in found.results if result.findings]
    if failed:
        count = sum(len(result.findings) for result in found.results)
        raise InputError(
            f"The audit of {folder} failed: {count} findings in {', '.join(failed)}. `oodcert audit {folder}` lists "
            "them with their remedies."
        )
