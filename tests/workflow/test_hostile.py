"""Files of strangers that try to run code, write where they should not, or take all memory: everyone's way in."""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from conftest import ROOT, checked, read_config
from download_server import entry
from oodcert.audit import files as audit_files
from oodcert.audit.run import open_run
from oodcert.cli.main import main, printable
from oodcert.data.archives import members
from oodcert.data.download import fetch
from oodcert.data.folder import load_image_set
from oodcert.data.imageset import ImageSet
from oodcert.data.pickles import load_pickle
from oodcert.data.sizes import image_count
from oodcert.evidence.manifest import NAME, digest
from oodcert.evidence.store import write_json
from oodcert.execution import spot_check as spot
from oodcert.models.components import load_component
from oodcert.models.user_networks import load_network
from oodcert.models.weight_files import load_weights, mismatches, read_state
from oodcert.training.resume import load_state, save_state
from refusals import assert_refused


class Code:
    """What a pickle turns into a folder `ran` in the current one, if it is trusted."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.fixture(autouse=True)
def watched(tmp_path, monkeypatch):
    """The current folder, in which nothing may appear but what a test writes itself, under `given` or as `net.py`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given").mkdir()
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= {"given", "net.py", "__pycache__"}


def npy(shape, kind="|u1", data=b""):
    """An npy file that claims a shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


def npz(path, method=zipfile.ZIP_DEFLATED, **arrays):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)
    return path


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_pickle_never_runs(watched):
    """Whatever the pickle lies in: weights, a training's checkpoint, an image set, a batch of CIFAR."""
    path = watched / "given" / "file.pt"
    for modern in (True, False):
        torch.save({"fingerprint": "f", "weight": Code()}, path, _use_new_zipfile_serialization=modern)
        assert_refused(lambda: read_state(path), "could run code")
        assert load_state(path, "f", {}) == (0, [])
    path.write_bytes(pickle.dumps(Code()))
    assert_refused(lambda: read_state(path), "could run code")
    assert load_state(path, "f", {}) == (0, [])
    assert_refused(lambda: load_pickle(path.read_bytes(), "batch"), "could run code")
    images = npz(watched / "given" / "some.npz", images=npy((1, 1, 1, 1), "|O", pickle.dumps([Code()])))
    assert_refused(lambda: ImageSet.load(images), "allow_pickle")
    images.write_bytes(pickle.dumps(Code()) + images.read_bytes())
    assert_refused(lambda: ImageSet.load(images), "not a readable npz")


def linear(watched, **changes):
    """The path of a state dict of nn.Linear(2, 2) with changes."""
    path = watched / "given" / "linear.pt"
    torch.save({**torch.nn.Linear(2, 2).state_dict(), **changes}, path)
    return path


def test_a_tensor_that_only_claims_its_size_is_refused_unread(watched):
    """A tensor of stride 0 has 10^12 elements in 4 bytes; looked at for NaN it would take 4 TB."""
    path = linear(watched, bias=torch.zeros(1).expand(10**12))
    assert_refused(lambda: load_weights(torch.nn.Linear(2, 2), path), "does not fit")
    state, module = read_state(path), torch.nn.Linear(2, 2)
    assert mismatches(state, module.state_dict()) == ["bias is (1000000000000,), not (2,)"]


def test_tensors_with_attributes_of_a_strangers_become_plain(watched):
    weight = torch.nn.Parameter(torch.ones(2, 2))
    weight.float = weight.detach = "not a method"
    state = read_state(linear(watched, weight=weight))
    assert state["weight"].float().sum() == 4 and type(state["weight"]) is torch.Tensor


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "strange",
    [
        lambda: torch.eye(2).to_sparse_csr(),
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        lambda: torch.zeros(2, 2, device="meta"),
    ],
    ids=["csr", "nested", "meta"],
)
def test_tensors_of_other_layouts_are_refused(watched, strange):
    assert_refused(lambda: read_state(linear(watched, weight=strange())), "holds no state dict")


def test_packed_weights_are_refused_before_they_are_unpacked(watched):
    path = linear(watched)
    with zipfile.ZipFile(path) as archive:
        stored = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in stored.items():
            archive.writestr(name, bytes(2**24) if name.endswith("data/0") else data)
    assert path.stat().st_size < 2**16
    assert_refused(lambda: read_state(path), "unpacks to more")
    assert load_state(path, "f", {}) == (0, [])


def test_a_checkpoint_with_the_right_fingerprint_and_another_content_is_named(watched):
    path, module = watched / "given" / "part.checkpoint", torch.nn.Linear(2, 2)
    save_state(path, "f", 3, [], {"network": torch.nn.Linear(3, 3)})
    assert_refused(lambda: load_state(path, "f", {"network": module}), "part.checkpoint", "delete it")
    assert_refused(lambda: load_state(path, "f", {"optimizer": module}), "part.checkpoint", "delete it")


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"{}", 2**63),
        (b"{}", 10**8),
        (b'{"a":' + b"[" * 10**5, None),
        (b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}', None),
        (b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}\0', 53),
    ],
    ids=["length", "short", "deep", "overflow", "four bits"],
)
def test_a_header_of_safetensors_that_lies_is_refused(watched, header, length):
    path = watched / "given" / "part.safetensors"
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)
    assert_refused(lambda: load_component(torch.nn.Linear(1, 1), path), "part.safetensors")


@pytest.mark.parametrize("shape", [(10**12, 1, 1, 1), (2**40, 2**40, 1, 1), (10**30, 1, 1, 1), (-1, 2, 2, 1)])
def test_an_array_that_only_claims_its_size_is_refused(watched, shape):
    path = npz(watched / "given" / "some.npz", images=npy(shape))
    assert_refused(lambda: ImageSet.load(path), "some.npz", "not a readable npz")
    config = checked(read_config()).changed(data={"own": {"mine": str(path)}})
    assert_refused(lambda: image_count("mine", "test", config.data, None), "some.npz", "not a readable npz")


def test_an_image_set_that_unpacks_to_a_thousand_times_its_size_is_refused(watched):
    path = npz(watched / "given" / "some.npz", images=npy((1, 2**10, 2**17, 1), data=bytes(2**27)))
    assert path.stat().st_size < 2**18
    assert_refused(lambda: ImageSet.load(path), "some.npz", "unpacks to more than")


def test_an_array_in_front_of_an_npz_file_is_refused(watched):
    path = npz(watched / "given" / "some.npz", images=npy((1, 1, 1, 1), data=b"x"))
    path.write_bytes(npy((3,), data=b"abc") + path.read_bytes())
    assert_refused(lambda: ImageSet.load(path), "not a readable npz")


def test_a_stream_that_claims_a_huge_image_is_refused(watched):
    """10^8 pixels in 600 bytes, which a decoder would fill with grey."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    place = data.index(b"\xff\xc0") + 5
    for side in (10_000, 60_000):
        data[place : place + 4] = struct.pack(">HH", side, side)
        path = watched / "given" / "some.npz"
        np.savez(path, jpeg=np.frombuffer(bytes(data), np.uint8), offsets=np.array([0, len(data)]))
        assert_refused(lambda path=path: ImageSet.load(path), "JPEG stream 0", "decompression bomb")


def test_images_that_are_too_many_for_any_memory_are_refused(watched, monkeypatch):
    monkeypatch.setattr("oodcert.data.imageset.MAX_BYTES", 1000)
    for index in range(6):
        Image.new("RGB", (8, 8)).save(watched / "given" / f"{index}.png")
    assert len(load_image_set(watched / "given", count=5)) == 5
    assert_refused(lambda: load_image_set(watched / "given"), "1152 bytes", "fewer")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_packed_in_a_rare_way_is_refused(watched, method):
    path = npz(watched / "given" / "some.zip", method, images=os.urandom(2000))
    assert_refused(lambda: list(members(path)), "some.zip", "rare way")
    data = bytearray(path.read_bytes())
    data[100] ^= 255
    path.write_bytes(data)
    assert_refused(lambda: ImageSet.load(path), "not a readable npz")


def test_a_pickle_of_an_array_out_of_nothing_is_refused():
    """10^12 elements in a hundred bytes: numpy's own pickles begin with an empty array."""
    data = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x06"
    data += (10**12).to_bytes(6, "little") + b"\x85U\x01b\x87R."
    assert_refused(lambda: load_pickle(data, "batch"), "batch", "out of nothing")
    whole = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for kind in (whole, np.asfortranarray(whole)):
        assert np.array_equal(load_pickle(python2(kind), "batch"), whole)


def python2(array):
    """The array as numpy pickles it, without the helper for bytes that protocol 2 needs in Python 3."""
    return pickle.dumps(array, protocol=3)


def test_only_the_web_is_downloaded_from(watched):
    secret = watched / "given" / "secret"
    secret.write_text("secret")
    for url in (f"file://{secret}", str(secret), "ftp://127.0.0.1/x", "data:,x"):
        known = entry(url, file="file.bin", bytes=None, sha256="", md5="")
        assert_refused(lambda known=known: fetch(known, watched / "given", progress=False), url, "no usable answer")
    assert [path.name for path in (watched / "given").iterdir()] == ["secret"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (".net:f", "a relative module"),
        ("net:f", "calling it fails"),
        ("net:exact", "can't be called without arguments"),
        ("net:g.h", "has no attribute"),
        ("os:getcwd", "gives a str"),
    ],
)
def test_a_name_that_is_no_network_ends_in_words(watched, monkeypatch, spec, words):
    (watched / "net.py").write_text("def f():\n    return 1 / 0\n\n\ndef exact(x):\n    return x\n\n\ng = 1\n")
    monkeypatch.setattr(sys, "path", [str(watched), *sys.path])
    monkeypatch.delitem(sys.modules, "net", raising=False)
    assert_refused(lambda: load_network(spec), spec, words)


def test_what_a_terminal_would_obey_is_written_out(watched, capsys):
    assert printable("a\x1b[2J\ud800\nb") == "a\\x1b[2J\\ud800\nb"
    assert main(["cost", "--config", "given/\x1b[2J.yaml"]) == 1
    assert "\x1b" not in capsys.readouterr().err


@pytest.fixture
def run(watched):
    """A copy of the committed digits run, whose files and manifest may be changed: its folder."""
    folder = watched / "given" / "results" / "digits"
    shutil.copytree(ROOT / "results/reference/digits", folder)
    return folder


def listed(run, name, data):
    """Puts a file into the run, and into its manifest."""
    (run / name).write_bytes(data)
    manifest = json.loads((run / NAME).read_text())
    manifest["files"][name] = hashlib.sha256(data).hexdigest()
    write_json(manifest | {"digest": digest(manifest)}, run / NAME)


@pytest.mark.parametrize("name", ["evidence/../../x", "/etc/passwd", "..", "a/..", ".x", "a\\..\\x", "a//b"])
def test_a_manifest_names_files_of_its_run_alone(run, name):
    manifest = json.loads((run / NAME).read_text())
    manifest["files"][name] = "0" * 64
    write_json(manifest | {"digest": digest(manifest)}, run / NAME)
    opened, result = open_run(run)
    assert opened is None and "is no manifest" in result.findings[0].problem


def test_a_manifest_nested_without_end_is_a_finding(run):
    (run / NAME).write_bytes(b"[" * 10**5)
    opened, result = open_run(run)
    assert opened is None and result.findings


@pytest.mark.parametrize(
    "put", [lambda path: path.symlink_to("/dev/zero"), os.mkfifo, lambda path: path.symlink_to(path)],
    ids=["device", "pipe", "loop"],
)  # fmt: skip
def test_what_never_ends_is_not_read(run, put):
    path = run / "evidence/clean/plain.json"
    path.unlink()
    put(path)
    problems = [finding.problem for finding in audit_files.check_files(open_run(run)[0]).findings]
    assert any("not there or can't be read" in problem for problem in problems)


def test_evidence_that_breaks_its_reader_is_a_finding(run):
    name = "evidence/clean/plain.parquet"
    good = pq.read_table(run / name)
    index = {b"pandas": b'{"index_columns": ["nowhere"], "columns": [{"name": 5}]}'}
    deep = {b"pandas": b"[" * 10**5}
    bomb = pa.table({"set": pa.nulls(10**6, pa.int8())})
    for table in (good.replace_schema_metadata(index), good.replace_schema_metadata(deep), bomb):
        stream = io.BytesIO()
        pq.write_table(table, stream)
        listed(run, name, stream.getvalue())
        opened = open_run(run)[0]
        assert ("clean", "plain") not in opened.frames and name in opened.intact
        problems = [(one.file, one.problem) for one in audit_files.check_files(opened).findings]
        assert (name, "it is not a readable parquet file") in problems


def test_the_spot_check_runs_no_network_of_a_strangers_unless_told_to(run):
    """A run can name any module that can be imported, also one that came along with it."""
    for evaluation in spot.RECOMPUTED:
        for path in (run / "evidence" / evaluation).glob("*.json"):
            record = json.loads(path.read_text())
            record["settings"]["networks"] = {"plain": {"name": "own", "network": "given.payload:run"}}
            listed(run, str(path.relative_to(run)), json.dumps(record).encode())
    (run.parents[1] / "payload.py").write_text("import os\n\nos.mkdir('ran')\n")
    opened = open_run(run)[0]
    assert_refused(lambda: spot.spot_check(opened, 1, seed=0), "given.payload:run", "--trust")
    assert "given.payload" not in sys.modules


def test_the_spot_check_reads_no_file_but_the_inputs_of_the_config(run):
    for path in (run / "evidence/certify_l2").glob("*.json"):
        record = json.loads(path.read_text())
        record["inputs"]["/dev/zero"] = record["inputs"]["../../../secret.npz"] = "0" * 64
        listed(run, str(path.relative_to(run)), json.dumps(record).encode())
    result = spot.spot_check(open_run(run)[0], 1, seed=0)
    strange = [finding.file for finding in result.findings if finding.problem == "by the config it is no input"]
    assert strange == ["/dev/zero", "../../../secret.npz"]


def test_a_config_that_runs_python_in_snakemake_is_refused_here_and_documented(watched):
    """`snakemake --configfile` runs the expressions before it reads our Snakefile: docs/security.md says so."""
    path = watched / "given" / "config.yaml"
    path.write_text(f"__use_yte__: true\nprofile: ?__import__('os').mkdir({str(watched / 'given' / 'ran')!r}) or 'x'\n")
    command = [sys.executable, "-m", "oodcert", "cost", "--config", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "__use_yte__" in done.stderr and "Traceback" not in done.stderr
    assert not (watched / "given" / "ran").exists()
    command = [sys.executable, "-m", "snakemake", "-n", "--snakefile", ROOT / "Snakefile", "--configfile", path]
    subprocess.run([*command, "--directory", watched / "given"], capture_output=True, text=True)
    assert (watched / "given" / "ran").exists(), "snakemake no longer runs it: docs/security.md can say so"
    assert "__use_yte__" in (ROOT / "docs" / "security.md").read_text()
