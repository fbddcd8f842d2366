from pathlib import Path

from oodcert.config.external_weights import remote_files
from oodcert.data.download import fetch
from oodcert.execution.jobs import job

with job(snakemake):
    path = Path(snakemake.output[0])
    fetch(remote_files()[path.name], path.parent)
