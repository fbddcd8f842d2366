"""Jobs as forks of one process that has the libraries imported, so that a run imports torch once, not in every job.

Snakemake starts a Python for every script, and that imports for seconds what the job then needs for a moment. `start`,
called once a run, begins a server that imports everything and waits; a script's `hand_over` sends it the job, gives it
its standard streams, and ends as the job ends. A fork is a process of its own: its environment, folder, module path and
standard streams are those of the script it stands for, and it ends with it. Where there is no server (on a cluster, in
another environment, on a system without pidfd), or it is gone, the script runs its job itself.
"""

from __future__ import annotations

import os
import pickle
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

ADDRESS = "OODCERT_FORK_SERVER"  # of the environment: the server's socket, and the Python that it runs
PRELOADED = (
    "oodcert.audit",
    "oodcert.models.components",
    "oodcert.audit.report",
    "oodcert.attacks.autoattack",
    "oodcert.certification.certify",
    "oodcert.certification.certify_labels",
    "oodcert.certification.linf_bounds",
    "oodcert.evaluations.authors_code.protocol",
    "oodcert.execution.evaluate",
    "oodcert.execution.gather",
    "oodcert.models.composition",
    "oodcert.reporting.figures",
    "oodcert.reporting.tables",
    "oodcert.training",
    "sklearn.metrics",
    "snakemake.script",
    "torch._inductor.config",  # torch imports it, for more than a second, when it is told to be deterministic
)
_servers: list[
    subprocess.Popen[bytes]
] = []  # held open: a server ends when its standard input does, with the process that started it


def start() -> None:
    """Starts a server for the scripts of this process's children; it ends with this process, however that ends."""
    if not hasattr(os, "pidfd_open") or ADDRESS in os.environ:
        return
    address = Path(tempfile.mkdtemp(prefix="oodcert-")) / "jobs"  # of this user alone
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen(128)
        command = [sys.executable, "-m", "oodcert.execution.fork_server", str(listening.fileno()), str(address)]
        _servers.append(subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listening.fileno()]))
    os.environ[ADDRESS] = f"{address}:{sys.executable}"


def hand_over(snakemake: Any, script: str) -> None:
    """Has the server run this script, and ends the process as the job ended; returns where there is no server.

    Called first in a script, before the imports that take long.

    Args:
        snakemake: what Snakemake hands to a script.
        script: path of the script.
    """
    address, _, python = os.environ.pop(ADDRESS, "").partition(":")
    if python != sys.executable:
        return
    request = (script, snakemake, os.getcwd(), sys.path, dict(os.environ))
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
        except OSError:
            return
        socket.send_fds(connection, [b"\0"], [0, 1, 2])
        connection.sendall(pickle.dumps(request))
        answer = connection.recv(1)
    if not answer:
        sys.exit("The process that runs the jobs was killed, perhaps for want of memory: run the workflow again.")
    code = answer[0]
    if code > 128:  # the job ended by a signal, and so does this process
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(code - 128, signal.SIG_DFL)
        os.kill(os.getpid(), code - 128)
    os._exit(code)


def serve(listening: socket.socket) -> None:
    """Imports what jobs need, then forks for every connection, until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Snakemake ends on it, and this with Snakemake
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who stand by a job
    # a package that asks for GPUs when it is imported must not start CUDA, which no fork could use then
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    for name in PRELOADED:
        import_module(name)
    while True:
        waiting: list[Any] = [sys.stdin, listening]
        ready, _, _ = select.select(waiting, [], [])
        if sys.stdin in ready:
            return
        connection, _ = listening.accept()
        if not os.fork():
            listening.close()
            _stand_by(connection)
        connection.close()


def _stand_by(connection: socket.socket) -> NoReturn:
    """Runs the job of a connection in a fork, answers with its exit code, and ends it if the script is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        with connection.makefile("rb") as file:
            request = pickle.load(file)
        pid = os.fork()
        if not pid:
            connection.close()
            _run(streams, *request)
        for stream in streams:
            os.close(stream)
        job = os.pidfd_open(pid)
        waiting: list[Any] = [job, connection]
        ready, _, _ = select.select(waiting, [], [])
        if job not in ready:
            os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with suppress(OSError):
            connection.sendall(bytes([code if code >= 0 else 128 - code]))
    finally:
        os._exit(0)


def _run(
    streams: list[int], script: str, snakemake: Any, folder: str, path: list[str], environment: dict[str, str]
) -> NoReturn:
    """The job itself: the script as Python runs it. Does not return."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        runpy.run_path(script, {"snakemake": snakemake})
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    finally:
        shutil.rmtree(Path(sys.argv[2]).parent, ignore_errors=True)
