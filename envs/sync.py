"""Write envs/oodcert.yaml, the conda environment, from envs/requirements.lock: `python envs/sync.py`.

Snakemake copies the yaml before it creates the environment, so the file can't point at the lock file beside it:
it lists the locked packages of Linux on x86_64 instead.
"""

from pathlib import Path

from packaging.requirements import Requirement

LOCK = Path(__file__).with_name("requirements.lock")
YAML = LOCK.with_name("oodcert.yaml")
PYTHON, PIP = "3.11.14", "25.3"
PLATFORM = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": PYTHON,
    "python_version": PYTHON.rpartition(".")[0],
    "sys_platform": "linux",
}


def read_lock(text):
    """The entries of a lock file: a list of (packaging Requirement, list of its hashes, "sha256:...")."""
    entries = []
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = line.split(" --hash=")
        entries.append((Requirement(requirement), [value.strip() for value in hashes]))
    return entries


def conda_environment(text):
    """The text of the conda environment with every package of the lock file `text` that Linux on x86_64 needs."""
    pins = [
        f"{requirement.name}{requirement.specifier}"
        for requirement, _ in read_lock(text)
        if requirement.marker is None or requirement.marker.evaluate(PLATFORM)
    ]
    lines = [
        "# Written by envs/sync.py from envs/requirements.lock (`make lock`).",
        "channels: [conda-forge]",
        "dependencies:",
        f"  - python={PYTHON}",
        f"  - pip={PIP}",
        "  - pip:",
        *(f"      - {pin}" for pin in pins),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    YAML.write_text(conda_environment(LOCK.read_text()))
