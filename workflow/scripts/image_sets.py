from pathlib import Path

from oodcert.data.bundled import build_sets
from oodcert.jobs import job

with job(snakemake):
    sets = build_sets({"data": dict(snakemake.params.items())})
    for path in map(Path, snakemake.output):
        sets[path.stem].save(path)
