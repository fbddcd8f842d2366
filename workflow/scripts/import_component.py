from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import sidecar, write_json
from oodcert.execution.jobs import job
from oodcert.models.components import import_component, save_component
from oodcert.runtime.files import sha256

with job(snakemake):
    params, weights = dict(snakemake.params.items()), Path(snakemake.output.weights)
    provenance = Provenance(params, snakemake.input)
    module = import_component(
        snakemake.wildcards.component,
        params["network"],
        snakemake.input.weights,
        params["image_shape"],
        params["num_classes"],
    )
    save_component(module, weights)
    write_json(provenance.record(sha256=sha256(weights)), sidecar(weights))
