from pathlib import Path

import numpy as np

from oodcert.evidence import read_evaluations
from oodcert.figures import FIGURES, save
from oodcert.jobs import job

with job(snakemake):
    config = dict(snakemake.params.items())
    name = snakemake.wildcards.figure
    paths = snakemake.input.evidence
    evidence = {"denoised": dict(np.load(paths))} if name == "denoised" else read_evaluations(paths)
    stem = Path(snakemake.output.png).with_suffix("")
    save(FIGURES[name](evidence, config), stem, config["figures"]["dpi"])
