"""Everything that a first run on a GPU meets, in nine minutes: `make gpu-smoke`, or `python benchmarks/gpu_smoke.py`.

It needs Python and the library's dependencies, not the lock file, and Snakemake for its last step alone. The steps are
those of gpu_smoke_steps, in order. It stops at the first failure with a sentence, and writes what it found to one json.
"""

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "workflow"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "workflow"), os.getenv("PYTHONPATH")]))
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def main(arguments: list[str] | None = None) -> int:
    """Runs the steps; returns the exit code."""
    options = _parser().parse_args(arguments)
    record: dict[str, Any] = {"device": options.device, "steps": {}, "failed": None}
    begun = time.monotonic()
    try:
        import gpu_smoke_steps
    except ImportError as error:
        record["failed"] = f"{error}: install the dependencies of pyproject.toml."
        return _ended(record, options.out)
    smoke = gpu_smoke_steps.Smoke(options.device, options.tiny)
    for name, step in gpu_smoke_steps.STEPS.items():
        if options.steps and name not in options.steps:
            continue
        started = time.monotonic()
        print(f"{name}: {(step.__doc__ or '').splitlines()[0]}", flush=True)
        try:
            found = step(smoke)
        except Exception as error:
            traceback.print_exc()
            first = (str(error).splitlines() or [""])[0]
            record["failed"] = f"{name} failed: {first or type(error).__name__}"
            return _ended(record, options.out)
        seconds = time.monotonic() - started
        record["steps"][name] = {"seconds": round(seconds, 1), **found}
        print(json.dumps(record["steps"][name], indent=1, default=str), flush=True)
        _write(record, options.out)  # whatever ends the run later
    record["seconds"] = round(time.monotonic() - begun, 1)
    return _ended(record, options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu tries the script itself")
    parser.add_argument("--tiny", action="store_true", help="sizes that take seconds and whose rates mean nothing")
    parser.add_argument("--steps", nargs="+", metavar="STEP", help="these alone")
    parser.add_argument("--out", default="results/benchmarks/gpu_smoke.json", metavar="FILE")
    return parser


def _ended(record: dict[str, Any], out: str) -> int:
    _write(record, out)
    print(
        record["failed"] or f"All steps passed. {out} has the numbers.", file=sys.stderr if record["failed"] else None
    )
    return int(record["failed"] is not None)


def _write(record: dict[str, Any], out: str) -> None:
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
