"""Jobs of the fork server end, fail and see the world as scripts of their own do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oodcert.execution import fork_server

LIBRARY = str(Path(fork_server.__file__).parents[2])
SCRIPT = """
import json, os, sys
import oodcert.execution.fork_server
if oodcert.execution.fork_server.ADDRESS in os.environ:
    snakemake = {"sent": os.getpid()}
oodcert.execution.fork_server.hand_over(snakemake, __file__)
import threading
from tqdm import tqdm
print(json.dumps({
    "sent": snakemake["sent"], "pid": os.getpid(), "torch": "torch" in sys.modules, "folder": os.getcwd(),
    "path": sys.path, "mine": os.environ["MINE"], "address": os.environ.get(oodcert.execution.fork_server.ADDRESS),
    "threads": threading.active_count(), "file": __file__, "shares a lock": hasattr(tqdm, "_lock"),
}))
"""


@pytest.fixture(scope="module")
def server():
    """The environment of a process whose jobs a server runs."""
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = LIBRARY
    fork_server.start()
    yield dict(os.environ)
    os.environ.clear()
    os.environ.update(before)
    process = fork_server._servers.pop()
    folder = Path(process.args[-1]).parent
    assert folder.stat().st_mode & 0o077 == 0
    process.stdin.close()
    assert process.wait(timeout=60) == 0 and not folder.exists()


@pytest.fixture
def script(tmp_path):
    """A function that begins a script that hands itself over, with the given lines after that."""

    def begin(lines, environment, **options):
        path = tmp_path / f"script{len(list(tmp_path.iterdir()))}.py"
        head = "from oodcert.execution.fork_server import hand_over\nhand_over(globals().get('snakemake'), __file__)\n"
        path.write_text(lines if "hand_over" in lines else head + lines)
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = {**environment, "MINE": "of this script"}
        return subprocess.Popen([sys.executable, path], env=environment, text=True, **{**streams, **options})

    return begin


def finished(process, text=None):
    out, err = process.communicate(text, timeout=120)
    return process.returncode, out, err


def test_a_job_is_a_fork_with_the_folder_path_and_environment_of_its_script(server, script, tmp_path):
    process = script(SCRIPT, server, cwd=tmp_path)
    code, out, err = finished(process)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["sent"] == process.pid != found["pid"] and found["torch"] and found["threads"] == 1
    assert found["folder"] == str(tmp_path) and found["mine"] == "of this script" and found["address"] is None
    assert not found["shares a lock"], "one job that is killed while it holds it would stop all others"
    assert found["path"][0] == str(tmp_path) and LIBRARY in found["path"]
    assert found["file"] == str(tmp_path / "script0.py")


def test_the_server_does_not_touch_cuda(server, script):
    """Where it does, torch refuses CUDA to all of its forks; to look for a GPU is enough."""
    asked = "import os, torch; print(torch.cuda._is_in_bad_fork(), 'PYTORCH_NVML_BASED_CUDA_CHECK' in os.environ)"
    code, out, _ = finished(script(asked, server))
    assert (code, out.split()) == (0, ["False", "False"])


def test_without_a_server_of_this_python_a_script_runs_its_job_itself(server, script, tmp_path):
    alone = {key: value for key, value in server.items() if key != fork_server.ADDRESS}
    address = server[fork_server.ADDRESS].rpartition(":")[0]
    for environment in (
        alone,
        {**alone, fork_server.ADDRESS: f"{address}:/another/python"},
        {**alone, fork_server.ADDRESS: f"{tmp_path}/none:{sys.executable}"},
    ):
        process = script("import os, sys; print(os.getpid(), 'torch' in sys.modules)", environment)
        code, out, _ = finished(process)
        assert (code, out.split()) == (0, [str(process.pid), "False"])


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('Error in rule train: no images')", 1, "Error in rule train: no images\n"),
        ("raise ValueError('oh')", 1, "ValueError: oh\n"),
        ("os.kill(os.getpid(), 9)", -9, ""),
        ("os._exit(5)", 5, ""),
    ],
)
def test_a_script_ends_as_its_job_did(server, script, ending, code, said):
    found, out, err = finished(script(f"import os, sys\nprint('out', flush=True)\n{ending}", server))
    assert (found, out) == (code, "out\n") and err.endswith(said) and (said or not err)


def test_a_job_reads_and_writes_the_streams_of_its_script(server, script):
    code, out, err = finished(script("import sys; print(input()); print('no', file=sys.stderr)", server), "hello\n")
    assert (code, out, err) == (0, "hello\n", "no\n")


@pytest.mark.parametrize("fatal", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_ends_with_its_script(server, script, fatal):
    process = script("import os, time; print(os.getpid(), flush=True); time.sleep(100)", server)
    pid = int(process.stdout.readline())
    process.send_signal(fatal)
    assert process.wait(timeout=60) == -fatal
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_jobs_run_at_a_time(server, script):
    waiting = script("print(input())", server)
    assert finished(script("print('second')", server))[:2] == (0, "second\n")
    assert finished(waiting, "first\n")[:2] == (0, "first\n")


def test_a_server_ends_with_the_process_that_started_it(tmp_path):
    starter = (
        "import oodcert.execution.fork_server as f, os, time; f.start(); "
        "print(f._servers[0].pid, os.environ[f.ADDRESS], flush=True); time.sleep(100)"
    )
    environment = {**os.environ, "PYTHONPATH": LIBRARY}
    environment.pop(fork_server.ADDRESS, None)
    process = subprocess.Popen([sys.executable, "-c", starter], env=environment, stdout=subprocess.PIPE, text=True)
    pid, address = process.stdout.readline().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 120
    while is_running(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not Path(address.rpartition(":")[0]).parent.exists()


def test_every_script_that_imports_the_library_is_handed_over_first():
    scripts = Path(LIBRARY, "scripts").glob("*.py")
    other = {
        path.stem for path in scripts if not path.read_text().startswith("from oodcert.execution.fork_server import")
    }
    assert other == {"download", "notebook", "paper", "crate"}  # no torch, or a process of their own


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
