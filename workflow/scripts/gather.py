from oodcert.jobs import job
from oodcert.pieces import gather

with job(snakemake):
    gather(
        snakemake.input.rows,
        snakemake.output.rows,
        snakemake.wildcards.evaluation,
        ["id", *snakemake.config["data"]["ood"]],
    )
