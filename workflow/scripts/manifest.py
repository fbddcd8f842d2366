from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.evidence.manifest import write_manifest
from oodcert.execution.jobs import config_of, job
from oodcert.execution.partial_results import remove_leftovers

with job(snakemake):
    results = Path(snakemake.output[0]).parent
    write_manifest(results, config_of(snakemake), snakemake.input)
    remove_leftovers(results, [path for path in snakemake.input if path.endswith(".parquet")])
