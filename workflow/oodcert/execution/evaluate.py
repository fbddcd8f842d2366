"""The body of the job of every evaluation: components and image sets in, evidence and sidecar out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oodcert.config.method_specs import MethodSpec
from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evaluations.settings import MethodJob, NetworkJob
from oodcert.evaluations.spec import EvaluationSpec
from oodcert.evidence.store import Provenance, read_evidence, write_evidence
from oodcert.execution.jobs import (
    Snakemake,
    components_to_evaluate,
    config_of,
    evaluated_images,
    job,
    load_sets,
    prepare_job,
)
from oodcert.execution.partial_results import cache_key, code_fingerprint, folder_of
from oodcert.execution.portions import Resumable, compute_portions
from oodcert.execution.shards import content, portions


@dataclass(frozen=True)
class Target:
    """An evaluation of one method, where it comes from, and the path of its evidence."""

    evaluation: Evaluation[Any]
    provenance: Provenance
    path: str


def run_evaluation(snakemake: Snakemake) -> None:
    """Computes an evaluation of one method, or of several in one job, whose outputs are those of a job of each alone.

    params: `evaluation`, its name, and `settings`, method -> its settings. Evaluations that can be divided are computed
    in portions, which an interrupted job does not compute again, and which stay until the run is finished. The output
    of a job for one shard is that of its images.
    """
    with job(snakemake):
        config, spec = config_of(snakemake), EVALUATIONS[snakemake.params.evaluation]
        given = snakemake.params.settings
        settings = {method: settings_type(spec, config, method).model_validate(given[method]) for method in given}
        device = prepare_job(next(iter(settings.values())), config.jobs_per_gpu)
        targets = _targets(snakemake, settings, device)
        if spec.whole_batches is None:
            results: list[Any] = [
                (spec.load()(one.evaluation), {"network_calls": one.evaluation.calls}) for one in targets.values()
            ]
            results = [(rows, {"network_calls": one.evaluation.calls}) for (rows, _), one in zip(results, targets.values(), strict=True)]
        else:
            shard, id_rows = snakemake.wildcards.get("shard"), snakemake.input.get("id_rows")
            resumables = [
                Resumable(
                    one.evaluation,
                    folder_of(one.path),
                    cache_key(one.provenance, device, evaluation=spec.name, method=method),
                )
                for method, one in targets.items()
            ]
            phases = portions(config, spec.name, next(iter(targets)), shard)
            results = compute_portions(spec, resumables, phases, read_evidence(id_rows) if id_rows else None)
            if shard:
                results = [
                    (rows, facts | _of_shard(config, spec, method, one, shard))
                    for (rows, facts), (method, one) in zip(results, targets.items(), strict=True)
                ]
        for one, (rows, facts) in zip(targets.values(), results, strict=True):
            check_columns(rows, spec)
            write_evidence(rows, one.path, one.provenance, device=device, **facts)
