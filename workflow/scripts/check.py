from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from oodcert.evidence.order_checks import require
from oodcert.evidence.store import read_evaluations
from oodcert.execution.jobs import config_of, job
from oodcert.reporting.checks import checks_table
from oodcert.runtime.files import atomic

with job(snakemake):
    checks = checks_table(read_evaluations(snakemake.input), config_of(snakemake))
    require(checks)
    with atomic(snakemake.output[0]) as temporary:
        checks.to_csv(temporary, index=False)
