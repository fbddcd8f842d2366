from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.evidence.store import read_evaluations
from oodcert.execution.jobs import config_of, job
from oodcert.reporting.tables import TABLES, caption, readable, write_table

with job(snakemake):
    config = config_of(snakemake)
    evidence = read_evaluations([*snakemake.input.evidence, snakemake.input.linear])
    for name, path in snakemake.output.items():
        stem = Path(path).with_suffix("")
        frame = TABLES[name](evidence, config)
        write_table(frame, caption(name, evidence, config), stem, readable(name, frame, config))
