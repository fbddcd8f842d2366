from oodcert.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.evidence import read_evaluations
from oodcert.figures import FIGURES, read_examples, save
from oodcert.jobs import job

with job(snakemake):
    config = dict(snakemake.params.items())
    evidence = read_evaluations([*snakemake.input.evidence, *snakemake.input.training])
    evidence["denoised"] = read_examples(snakemake.input.denoised[0])
    for name, path in snakemake.output.items():
        save(FIGURES[name](evidence, config), Path(path).with_suffix(""), config["figures"]["dpi"])
