from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import sidecar, write_evidence, write_json
from oodcert.execution.jobs import job, load_components, load_sets, prepare_torch
from oodcert.runtime.files import sha256

with job(snakemake):
    params = dict(snakemake.params.items())
    device = prepare_torch(params, snakemake.config["jobs_per_gpu"])
    from oodcert.models.components import save_component
    from oodcert.training import train_component

    provenance = Provenance(params, [*snakemake.input.sets, *snakemake.input.parts])
    sets = load_sets(snakemake.input.sets, params)
    weights = Path(snakemake.output.weights)
    module, curve = train_component(
        snakemake.wildcards.part,
        load_components(snakemake.input.parts, params),
        sets["id_train"],
        sets["outliers"],
        device=device,
        checkpoint=weights.with_suffix(".checkpoint"),
        **{key: params[key] for key in ("networks", "num_classes", "settings", "seed")},
    )
    save_component(module, weights)
    write_json(provenance.record(device=device, sha256=sha256(weights)), sidecar(weights))
    write_evidence(curve.assign(part=snakemake.wildcards.part), snakemake.output.curve, provenance, device=device)
