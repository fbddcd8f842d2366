from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.execution.jobs import job
from oodcert.execution.partial_results import gather
from oodcert.execution.shards import content

with job(snakemake):
    config, evaluation = snakemake.config, snakemake.wildcards.evaluation
    gather(
        {
            path: content(config, evaluation, snakemake.wildcards.method, Path(path).stem)
            for path in snakemake.input.rows
        },
        snakemake.output.rows,
        evaluation,
        ["id", *config["data"]["ood"]],
        snakemake.params.settings,
    )
