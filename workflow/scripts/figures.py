from pathlib import Path

import numpy as np

from oodcert.evidence import read_evaluations
from oodcert.figures import FIGURES, save
from oodcert.jobs import job

with job(snakemake):
    config = dict(snakemake.params.items())
    evidence = read_evaluations(snakemake.input.evidence)
    evidence["denoised"] = dict(np.load(snakemake.input.denoised[0]))
    for name, draw in FIGURES.items():
        save(draw(evidence, config), Path(snakemake.output[name]).with_suffix(""), config["figures"]["dpi"])
