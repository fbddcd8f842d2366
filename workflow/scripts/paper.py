from pathlib import Path

from oodcert.config.availability import available
from oodcert.config.load import read_configs
from oodcert.execution.cost import jobs, passes
from oodcert.execution.jobs import job
from oodcert.reporting.paper import build_report, report_data, write_report_data

with job(snakemake):
    runs = [Path(path).parent for path in snakemake.input.manifests]
    planned = passes(jobs(available(read_configs([snakemake.input.planned]))))
    write_report_data(report_data(runs, planned), snakemake.output.numbers)
    build_report(snakemake.input.sources[0], snakemake.output.report)
