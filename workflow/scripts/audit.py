from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.audit import audit
from oodcert.audit.report import write_report
from oodcert.execution.jobs import job

with job(snakemake):
    folder = Path(snakemake.input[0]).parent
    write_report(audit(folder, snakemake.threads), folder, snakemake.output.json, snakemake.output.html)
