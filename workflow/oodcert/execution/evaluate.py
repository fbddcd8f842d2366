"""The body of the job of every evaluation: components and image sets in, evidence and sidecar out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from oodcert.evaluations.base import Evaluation
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evaluations.settings import MethodJob, NetworkJob
from oodcert.evaluations.spec import EvaluationSpec
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import read_evidence, write_evidence
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
from oodcert.execution.portions import Result, Resumable, compute_portions
from oodcert.execution.shards import content, portions
from oodcert.runtime.torch_setup import device_name


@dataclass(frozen=True)
class Target:
    """An evaluation of one method, where it comes from, and the path of its evidence."""

    evaluation: Evaluation[Any]
    provenance: Provenance
    path: str


def run_evaluation(snakemake: Snakemake) -> None:
    """Computes an evaluation of one method, or of several in one job, whose outputs are those of a job of each alone.

    params: `evaluation`, its name, and `settings`, method -> its settings, for which a change computes it again.
    Evaluations that can be divided are computed in portions, which an interrupted job does not compute again, and which
    stay until the run is finished. The output of a job for one shard is that of its images.

    Args:
        snakemake: what Snakemake hands to a script: input, output, params and config of the job.
    """
    with job(snakemake):
        config, spec = config_of(snakemake), EVALUATIONS[snakemake.params.evaluation]
        settings = {method: spec.settings(config, method) for method in snakemake.params.settings}
        device = prepare_job(next(iter(settings.values())), config.jobs_per_gpu)
        targets = _targets(snakemake, spec, settings, device)
        results = _whole(spec, targets) if spec.whole_batches is None else _divided(snakemake, spec, targets, device)
        for one, (rows, facts) in zip(targets, results, strict=True):
            check_columns(rows, spec)
            write_evidence(rows, one.path, one.provenance, device=device_name(device), **facts)


def check_columns(rows: pd.DataFrame, spec: EvaluationSpec) -> None:
    """Checks that rows have the columns and types of the evaluation's schema, in order, but for optional ones.

    Args:
        rows: of the evaluation.
        spec: its spec.

    Raises:
        TypeError: naming the columns that differ.
    """
    columns = pa.Schema.from_pandas(rows, preserve_index=False).remove_metadata()
    expected = pa.schema([one for one in spec.schema if one.name in rows or one.name not in spec.optional])
    if columns != expected:
        raise TypeError(f"The rows of {spec.name} have the columns {columns}, but its schema says {expected}.")


def _whole(spec: EvaluationSpec, targets: Sequence[Target]) -> list[Result]:
    """Rows and facts of every target, each computed at once."""
    function = spec.load()
    return [(function(one.evaluation), {"network_calls": one.evaluation.calls}) for one in targets]


def _divided(snakemake: Snakemake, spec: EvaluationSpec, targets: Sequence[Target], device: str) -> list[Result]:
    """The same, portion by portion. Facts of a shard say what it holds, and by which code."""
    config = config_of(snakemake)
    shard, id_rows = snakemake.wildcards.get("shard"), snakemake.input.get("id_rows")
    resumables = []
    for one in targets:
        key = cache_key(one.provenance, device, evaluation=spec.name, method=one.evaluation.method)
        resumables.append(Resumable(one.evaluation, folder_of(one.path), key))
    phases = portions(config, spec.name, targets[0].evaluation.method, shard)
    results = compute_portions(spec, resumables, phases, read_evidence(id_rows) if id_rows else None)
    if not shard:
        return results
    of_shards = []
    for one, (rows, facts) in zip(targets, results, strict=True):
        held = content(config, spec.name, one.evaluation.method, shard)
        code = code_fingerprint(one.evaluation.settings.networks)
        of_shards.append((rows, {**facts, "content": held, "code": code}))
    return of_shards


def _targets(snakemake: Snakemake, spec: EvaluationSpec, settings: dict[str, NetworkJob], device: str) -> list[Target]:
    """A Target for each method. Methods that are computed together share their components."""
    first = next(iter(settings.values()))
    files = {Path(path).stem: path for path in snakemake.input.get("components", [])}
    networks = {
        name: entry for one in settings.values() if isinstance(one, MethodJob) for name, entry in one.networks.items()
    }
    components = components_to_evaluate(files.values(), networks, first, device)
    sets = evaluated_images(load_sets(snakemake.input.sets, first), first)
    outputs = [snakemake.output.rows] if isinstance(snakemake.output.rows, str) else snakemake.output.rows
    targets = []
    for (method, own), path in zip(settings.items(), outputs, strict=True):
        names = own.method_spec.components if isinstance(own, MethodJob) else []
        provenance = Provenance(own.as_json(), [*(files[name] for name in names), *snakemake.input.sets])
        evaluation = Evaluation(method, {name: components[name] for name in names}, sets, own, device)
        targets.append(Target(evaluation, provenance, path))
    return targets
