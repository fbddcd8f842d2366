from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from oodcert.evidence.order_checks import check_order, require
from oodcert.evidence.store import read_evaluations
from oodcert.execution.jobs import job
from oodcert.runtime.files import atomic

with job(snakemake):
    checks = check_order(read_evaluations(snakemake.input))
    require(checks)
    with atomic(snakemake.output[0]) as temporary:
        checks.to_csv(temporary, index=False)
