from pathlib import Path

from oodcert.checkpoints import build_part, save_part
from oodcert.evidence import Provenance, sidecar, write_json
from oodcert.files import sha256
from oodcert.jobs import job
from oodcert.networks.load import load_weights
from oodcert.networks.published import load_checkpoint

with job(snakemake):
    params, weights = snakemake.params, Path(snakemake.output.weights)
    provenance = Provenance(dict(params.items()), snakemake.input)
    if params.network["name"] == "published":
        module = load_checkpoint(snakemake.input[0], params.network["format"])
    else:
        module = build_part(
            snakemake.wildcards.part, {snakemake.wildcards.part: params.network}, params.image_shape, params.num_classes
        )
        load_weights(module, snakemake.input[0])
    save_part(module, weights)
    write_json(provenance.record(sha256=sha256(weights)), sidecar(weights))
