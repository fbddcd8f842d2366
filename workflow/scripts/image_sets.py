from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.data import sets
from oodcert.execution.jobs import job

with job(snakemake):
    found = getattr(sets, snakemake.rule)(dict(snakemake.params.items()))
    for path in map(Path, snakemake.output):
        found[path.stem].save(path)
