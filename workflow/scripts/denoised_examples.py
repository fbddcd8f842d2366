from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

import numpy as np

from oodcert.evaluations.settings import NetworkJob, network_job
from oodcert.execution.cost import EXAMPLES
from oodcert.execution.jobs import config_of, job, load_components, load_sets, prepare_job
from oodcert.runtime.files import atomic

with job(snakemake):
    config = config_of(snakemake)
    settings = NetworkJob(**network_job(config))
    device = prepare_job(settings, config.jobs_per_gpu)
    from oodcert.evaluations.denoised_examples import denoised_examples

    components = load_components(snakemake.input.components, snakemake.params.networks, settings)
    sets = load_sets(snakemake.input.sets, settings)
    first = {name: image_set.first(EXAMPLES) for name, image_set in sets.items()}
    sigmas = config.evaluation.certify_l2.sigmas
    arrays = denoised_examples(components["denoiser"].to(device), first, sigmas, settings.seed, device)
    with atomic(snakemake.output[0]) as temporary:
        np.savez_compressed(temporary, **arrays)
