from pathlib import Path

from oodcert.jobs import job
from oodcert.notebook import run_notebook

with job(snakemake):
    results = Path(snakemake.input.manifest).parent
    parameters = {"results": str(results), **snakemake.params.parameters}
    run_notebook(snakemake.input.source, parameters, snakemake.output.notebook, snakemake.output.page)
