from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.evidence.store import read_evaluations
from oodcert.execution.jobs import config_of, job
from oodcert.reporting.figures import FIGURES, read_examples, save

with job(snakemake):
    config = config_of(snakemake)
    evidence = read_evaluations([*snakemake.input.evidence, *snakemake.input.training])
    evidence["denoised"] = read_examples(snakemake.input.denoised[0])
    for name, path in snakemake.output.items():
        save(FIGURES[name](evidence, config), Path(path).with_suffix(""), config.figures.dpi)
