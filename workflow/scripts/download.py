from pathlib import Path

from oodcert.data.download import fetch
from oodcert.imports import remote_files
from oodcert.jobs import job

with job(snakemake):
    path = Path(snakemake.output[0])
    fetch(remote_files()[path.name], path.parent)
