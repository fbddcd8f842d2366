"""The audit's step of the smoke run: evidence of the device, certified anew on the device and on the CPU."""

import os
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

from gpu_smoke_setting import PROFILE, Failed, Smoke
from oodcert.audit import open_run
from oodcert.audit.layout import inputs_of, settings_of
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.evidence.manifest import NAME, write_manifest
from oodcert.evidence.provenance import Provenance
from oodcert.evidence.store import write_evidence
from oodcert.execution.spot_check import spot_check
from oodcert.models.components import save_component
from oodcert.models.inference_form import folded
from oodcert.runtime.torch_setup import device_name

METHOD, ROWS = "distro", 4
ON_CPU = """
import sys
from oodcert.audit import open_run
from oodcert.execution.spot_check import spot_check
result = spot_check(open_run(sys.argv[1])[0], 4, seed=0)
print(len(result.findings), len(result.unchecked))
"""


def spot_checked(smoke: Smoke) -> dict[str, Any]:
    """The audit agrees with evidence of the device, on the device and, but for what it can't compare, on the CPU."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        results = _run(smoke, Path(folder))
        result = spot_check(open_run(results)[0], ROWS, seed=0)
        if result.findings or result.unchecked:
            said = result.findings[0].problem if result.findings else result.unchecked[0]
            raise Failed(f"the spot check does not agree with evidence of the same device: {said}")
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        run = subprocess.run(
            [sys.executable, "-c", ON_CPU, str(results)], capture_output=True, text=True, env=environment, timeout=300
        )
        if run.returncode:
            raise Failed(f"the spot check on the CPU ends with {run.stderr.strip().splitlines()[-1]}")
        findings, unchecked = map(int, run.stdout.split())
        if findings or (smoke.device == "cuda") != (unchecked > 0):
            raise Failed(f"on the CPU the spot check has {findings} findings and {unchecked} unchecked comparisons.")
    return {"rows": ROWS, "unchecked on the CPU": unchecked}


def _run(smoke: Smoke, folder: Path) -> Path:
    """A run of one untrained method in a folder: clean scores and l2 certificates alone."""
    config = smoke.config.changed(methods={METHOD: smoke.config.methods[METHOD]})
    for name, image_set in smoke.sets.items():
        image_set.save(folder / "data" / PROFILE / f"{'id_test' if name == 'id' else name}.npz")
    results = folder / "results" / PROFILE
    for name in ("clean", "certify_l2"):
        evaluation = smoke.evaluation(name, METHOD, smoke.device)
        for component, network in evaluation.components.items():
            save_component(network, results / "models" / f"{component}.safetensors")
            folded(network)  # as the workflow evaluates it
        provenance = Provenance(settings_of(config, name, METHOD), sorted(inputs_of(config, name, METHOD)))
        rows = EVALUATIONS[name].load()(evaluation)
        path = results / "evidence" / name / f"{METHOD}.parquet"
        write_evidence(rows, path, provenance, device=device_name(smoke.device))
    write_manifest(results, config, [path for path in results.rglob("*") if path.is_file() and path.name != NAME])
    return results
