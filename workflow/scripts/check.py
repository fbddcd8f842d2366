from oodcert.fork_server import hand_over

hand_over(snakemake, __file__)

from oodcert.checks import check_order, require
from oodcert.evidence import read_evaluations
from oodcert.files import atomic
from oodcert.jobs import job

with job(snakemake):
    checks = check_order(read_evaluations(snakemake.input))
    require(checks)
    with atomic(snakemake.output[0]) as temporary:
        checks.to_csv(temporary, index=False)
