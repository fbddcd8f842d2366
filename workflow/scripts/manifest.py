from pathlib import Path

from oodcert.jobs import job
from oodcert.manifest import write_manifest

with job(snakemake):
    write_manifest(Path(snakemake.output[0]).parent, snakemake.params.config, snakemake.input)
