from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

import numpy as np

from oodcert.execution.jobs import job, load_components, load_sets, prepare_torch
from oodcert.runtime.files import atomic

EXAMPLES = 2  # of each set

with job(snakemake):
    params = dict(snakemake.params.items())
    device = prepare_torch(params, snakemake.config["jobs_per_gpu"])
    from oodcert.evaluations.denoised_examples import denoised_examples

    denoiser = load_components(snakemake.input.parts, params)["denoiser"].to(device)
    sets = load_sets(snakemake.input.sets, params)
    first = {name: image_set.first(EXAMPLES) for name, image_set in sets.items()}
    arrays = denoised_examples(denoiser, first, params["sigmas"], params["seed"], device)
    with atomic(snakemake.output[0]) as temporary:
        np.savez_compressed(temporary, **arrays)
