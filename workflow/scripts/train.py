from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.evaluations.settings import NetworkJob, network_job
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import sidecar, write_evidence, write_json
from oodcert.execution.jobs import config_of, job, load_components, load_sets, prepare_job
from oodcert.runtime.files import sha256

with job(snakemake):
    config, component = config_of(snakemake), snakemake.wildcards.component
    settings, networks = NetworkJob(**network_job(config)), snakemake.params.networks
    device = prepare_job(settings, config.jobs_per_gpu)
    from oodcert.models.components import save_component
    from oodcert.training import train_component

    provenance = Provenance(dict(snakemake.params.items()), [*snakemake.input.sets, *snakemake.input.components])
    sets, weights = load_sets(snakemake.input.sets, settings), Path(snakemake.output.weights)
    module, curve = train_component(
        component,
        load_components(snakemake.input.components, networks, settings),
        sets["id_train"],
        sets["outliers"],
        networks=networks,
        num_classes=settings.num_classes,
        recipe=config.training[component],
        seed=settings.seed,
        device=device,
        checkpoint=weights.with_suffix(".checkpoint"),
    )
    save_component(module, weights)
    write_json(provenance.record(device=device, sha256=sha256(weights)), sidecar(weights))
    write_evidence(curve.assign(component=component), snakemake.output.curve, provenance, device=device)
