from pathlib import Path

from oodcert.execution.jobs import job
from oodcert.reporting.ro_crate import write_crate

with job(snakemake):
    write_crate(Path(snakemake.input.manifest).parent, snakemake.output[0])
