from oodcert.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.evidence import Provenance, sidecar, write_evidence, write_json
from oodcert.files import sha256
from oodcert.jobs import job, load_parts, load_sets, prepare_torch

with job(snakemake):
    params = dict(snakemake.params.items())
    device = prepare_torch(params, snakemake.config["jobs_per_gpu"])
    from oodcert.checkpoints import save_part
    from oodcert.training import train_part

    provenance = Provenance(params, [*snakemake.input.sets, *snakemake.input.parts])
    sets = load_sets(snakemake.input.sets, params)
    weights = Path(snakemake.output.weights)
    module, curve = train_part(
        snakemake.wildcards.part,
        load_parts(snakemake.input.parts, params),
        sets["id_train"],
        sets["outliers"],
        device=device,
        checkpoint=weights.with_suffix(".checkpoint"),
        **{key: params[key] for key in ("networks", "num_classes", "settings", "seed")},
    )
    save_part(module, weights)
    write_json(provenance.record(device=device, sha256=sha256(weights)), sidecar(weights))
    write_evidence(curve.assign(part=snakemake.wildcards.part), snakemake.output.curve, provenance, device=device)
