from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.evaluations.registry import EVALUATIONS
from oodcert.execution.gather import gather
from oodcert.execution.jobs import config_of, job
from oodcert.execution.shards import content

with job(snakemake):
    config, evaluation = config_of(snakemake), snakemake.wildcards.evaluation
    gather(
        {
            path: content(config, evaluation, snakemake.wildcards.method, Path(path).stem)
            for path in snakemake.input.rows
        },
        snakemake.output.rows,
        EVALUATIONS[evaluation],
        ["id", *config.data.ood],
        snakemake.params.settings,
    )
