"""A real Slurm of one node, from Debian's packages: `python tests/one_node.py [--install] COMMAND ...`.

It takes root, for the daemons, and writes /etc/slurm, for `srun` within a job looks nowhere else; what was there
before comes back at the end. Where that can't be had the command is not run, and the exit code is 77.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

ETC = Path("/etc/slurm")
MUNGE = Path("/run/munge")
PACKAGES = ("slurm-wlm", "munge")
SECONDS = 30  # that a daemon may take to answer
SKIPPED = 77
MEMORY = 32_000  # MB that the node says it has: jobs reserve more than they use
CONFIG = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
KillWait=5
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{cpus} State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES State=UP
PartitionName=gpu Nodes=ALL State=UP
"""


class Unavailable(Exception):
    """Slurm can't be had here; the message says why."""


@contextmanager
def one_node(install=False):
    """Slurm with the partitions cpu and gpu, while the context lasts; its GPUs are names without a device.

    install: Debian's packages are installed where they are missing.
    """
    if os.geteuid() != 0:
        raise Unavailable("a Slurm of one's own takes root")
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        if not install:
            raise Unavailable("Slurm is not installed (make test-slurm installs it)")
        _install()
    if not install and (ETC / "slurm.conf").exists():
        raise Unavailable(
            "this machine has a Slurm configuration of its own (make test-slurm puts it aside for a while)"
        )
    if _answers("scontrol", "ping"):
        raise Unavailable("this machine runs a Slurm already")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whatever is ended ends its daemons too
    host, cpus = socket.gethostname().split(".")[0], os.cpu_count()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)))
        for name in ("state", "spool"):
            (folder / name).mkdir()
        for number in range(cpus):
            (folder / f"gpu{number}").touch()
        stack.enter_context(
            _written(ETC / "slurm.conf", CONFIG.format(folder=folder, host=host, cpus=cpus, memory=MEMORY))
        )
        stack.enter_context(_written(ETC / "gres.conf", f"Name=gpu File={folder}/gpu[0-{cpus - 1}]\n"))
        if not _answers("munge", "--no-input"):
            stack.enter_context(_munged())
        for daemon in (["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", host]):
            stack.enter_context(_daemon(daemon, folder))
        _wait(lambda: "idle" in _output("sinfo", "--noheader", "--format=%T"), "slurmd", folder)
        stack.callback(_end_jobs)
        yield


def _install():
    if not shutil.which("apt-get"):
        raise Unavailable("Slurm is not installed, and there is no apt-get to install it")
    for step in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-qq", *step],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Unavailable(f"apt-get {step[0]} failed: {done.stderr.strip()[-500:]}")


@contextmanager
def _written(path, text):
    """A file with this text; what it was before comes back."""
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    try:
        yield
    finally:
        path.unlink()
        if before is not None:
            path.write_bytes(before)


@contextmanager
def _munged():
    MUNGE.mkdir(mode=0o755, exist_ok=True)
    shutil.chown(MUNGE, "munge", "munge")
    with _process(["munged", "--foreground"], subprocess.DEVNULL, user="munge", group="munge", extra_groups=[]):
        _wait(lambda: _answers("munge", "--no-input"), "munged", None)
        yield


@contextmanager
def _daemon(command, folder):
    with open(folder / f"{command[0]}.out", "w") as output, _process(command, output):
        if command[0] == "slurmctld":
            _wait(lambda: _answers("scontrol", "ping"), command[0], folder)
        yield


@contextmanager
def _process(command, output, **user):
    process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **user)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(ready, name, folder):
    deadline = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > deadline:
            logs = [path.read_text()[-2000:] for path in sorted(folder.glob(f"{name}.*"))] if folder else []
            raise Unavailable("\n".join([f"{name} does not start", *logs]))
        time.sleep(0.2)


def _end_jobs():
    """No job outlives its Slurm."""
    subprocess.run(["scancel", "--user=root", "--full"], check=False)
    deadline = time.monotonic() + SECONDS
    while _output("squeue", "--noheader") and time.monotonic() < deadline:
        time.sleep(0.5)


def _output(*command):
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


def _answers(*command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", action="store_true", help="install Debian's packages where they are missing")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run while Slurm is up")
    options = parser.parse_args()
    try:
        with one_node(options.install):
            return subprocess.run(options.command).returncode
    except Unavailable as error:
        print(f"skipped: {error}", file=sys.stderr)
        return SKIPPED
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
