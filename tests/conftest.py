"""Settings and fixtures that several tests share."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from download_server import Server, serving
from oodcert.config.load import check_config, merged_files
from oodcert.config.models import Config
from oodcert.data import download
from oodcert.evidence.manifest import NAME, write_manifest

ROOT = Path(__file__).parents[1]
RECIPE = {  # of a training on toy images
    "start_from": None,
    "epochs": 8,
    "batch_size": 16,
    "learning_rate": 0.05,
    "schedule": "steps",
    "weight_decay": 0.0,
    "augmentation": "none",
}
LONGEST = ("test_workflow.py", "test_extending.py", "test_audit.py", "test_torch_free.py", "test_benchmarks.py")


def pytest_collection_modifyitems(items):
    """The longest files first, so that the workers of `make test` end together."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def clone(tmp_path):
    """A copy of the workflow that a test may change, and run in."""
    for name in ("workflow", "config", "envs", "paper", "data/splits"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (ROOT / "data").glob("*.csv"):
        shutil.copy(path, tmp_path / "data")
    shutil.copy(ROOT / "Snakefile", tmp_path)
    return tmp_path


@pytest.fixture
def config() -> dict[str, Any]:
    """The digits config as plain values, fresh for each test, which may change it and then call `checked`."""
    return read_config()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server of files, which downloads reach without a proxy and try again at once."""
    monkeypatch.setattr(download, "WAITS", (0, 0, 0))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        yield server


def script(name: str) -> ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_config() -> dict[str, Any]:
    """The digits config as plain values, which are valid."""
    values = merged_files([ROOT / "config" / "config.yaml"])
    checked(values)
    return values


def checked(values: dict[str, Any]) -> Config:
    """The Config of plain values, if they are valid."""
    return check_config(values)


def shrink(config: dict[str, Any]) -> dict[str, Any]:
    """The same values, changed to tiny settings: every rule runs, no number means anything."""
    config["profile"] = "tiny"
    config["data"].update(test_images=12, accuracy_images=20)
    config["networks"] = {
        "classifier": {"name": "cnn", "width": 4},
        "good": {"name": "ibp_cnn_xl", "width": 4},
        "discriminator": {"name": "ibp_cnn_s", "width": 4},
        "denoiser": {"channels": [8], "patch": 2, "timesteps": 200},
    }
    few = {"epochs": 2, "attack_iterations": 1, "queue": 10, "pool": 200}
    for settings in config["training"].values():
        settings.update({key: value for key, value in few.items() if key in settings})
    config["figures"]["dpi"] = 40
    evaluation = config["evaluation"]
    evaluation.update(batch_size=32, draws=4, sigma=0.25, authors_code={"images": 5, "n0": 5, "n": 20})
    budget = {"iterations": 2, "restarts": 1}
    evaluation["attack_linf"] = {"apgd": budget, "pgd": {**budget}, "square": {"queries": 5}, "draws": 2}
    evaluation["sanity"].update(images=2, epsilons=[0.05, 1.0])
    evaluation["certify_l2"].update(sigmas=[0.25, 0.5], radii=[0.0, 0.25], n=50)
    evaluation["attack_l2"].update(iterations=2, draws=2, n=20)
    evaluation["one_pass"].update(draws=4)
    evaluation["certify_id"].update(sigmas=[0.25], n0=10, n=50)
    evaluation["attack_id"]["epsilons"] = [0.03]
    for budget in (evaluation["attack_id"]["deterministic"], evaluation["attack_id"]["randomised"]):
        budget.update(iterations=3, queries=5, eot=1)
    return config


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """A copy of the committed digits run, with a manifest: the path of its results."""
    folder = tmp_path_factory.mktemp("reference")
    results, figures = folder / "results/digits", folder / "figures/digits"
    shutil.copytree(ROOT / "results/reference/digits", results)
    shutil.copytree(ROOT / "figures/reference/digits", figures)
    paths = [path for path in (*results.rglob("*"), *figures.rglob("*")) if path.is_file() and path.name != NAME]
    write_manifest(results, checked(read_config()), paths)
    return results
