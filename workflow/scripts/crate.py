from pathlib import Path

from oodcert.crate import write_crate
from oodcert.jobs import job

with job(snakemake):
    write_crate(Path(snakemake.input.manifest).parent, snakemake.output[0])
