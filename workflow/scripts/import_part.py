from oodcert.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.checkpoints import import_part, save_part
from oodcert.evidence import Provenance, sidecar, write_json
from oodcert.files import sha256
from oodcert.jobs import job

with job(snakemake):
    params, weights = dict(snakemake.params.items()), Path(snakemake.output.weights)
    provenance = Provenance(params, snakemake.input)
    module = import_part(
        snakemake.wildcards.part, params["network"], snakemake.input[0], params["image_shape"], params["num_classes"]
    )
    save_part(module, weights)
    write_json(provenance.record(sha256=sha256(weights)), sidecar(weights))
