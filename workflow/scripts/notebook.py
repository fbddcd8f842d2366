from pathlib import Path

from oodcert.execution.jobs import job
from oodcert.reporting.notebook import run_notebook

with job(snakemake):
    results = Path(snakemake.input.manifest).parent
    parameters = {"results": str(results), **snakemake.params.parameters}
    run_notebook(snakemake.input.source, parameters, snakemake.output.notebook, snakemake.output.page)
