"""What a user changes in code or image folders is noticed: what rests on it is planned again, and nothing else."""

import re
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tiny_workflow import command, tiny

NETWORK = (
    "from torch import nn\nfrom helpers.gains import GAIN\n\n\nclass Net(nn.Sequential):\n    def forward(self, x):\n"
)
NETWORK += "        return GAIN * super().forward(x)\n\n\ndef net():\n    return Net(nn.Flatten(), nn.Linear(64, 8))\n"


@pytest.fixture
def config(tmp_path):
    """A user's network in two files, and OOD images in a folder of folders."""
    (tmp_path / "supplied_net.py").write_text(NETWORK)
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "gains.py").write_text("GAIN = 1.0\n")
    torch.save({f"1.{key}": value for key, value in nn.Linear(64, 8).state_dict().items()}, tmp_path / "weights.pt")
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (15, 8, 8), np.uint8)):
        path = tmp_path / "images" / f"folder {index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    config = tiny()
    config["imports"] = {"supplied": {"network": "supplied_net:net", "weights": "weights.pt"}}
    config["methods"] = {
        "supplied": {"classifier": "supplied", "discriminator": False, "denoiser": False, "score": "msp"}
    }
    config["data"] |= {"own": {"mine": "images"}, "ood": ["mine"]}
    return config


def run(folder, config, *arguments):
    target = "results/tiny/evidence/clean/supplied.parquet"
    words = command(folder, *arguments, target, config=config)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"^(\w+) +\d+$", done.stdout + done.stderr, re.MULTILINE)) - {"total"}


def test_changes_of_code_and_images_are_noticed(tmp_path, config):
    made = run(tmp_path, config, "--cores", "2")
    assert made == {"id_sets", "ood_sets", "import_component", "clean"}
    assert not run(tmp_path, config, "-n")
    helper = tmp_path / "helpers" / "gains.py"
    helper.write_text("GAIN = 9.0\n")
    assert run(tmp_path, config, "-n") == {"import_component", "clean"}
    assert run(tmp_path, config, "--cores", "2") == {"import_component", "clean"}
    assert not run(tmp_path, config, "-n")
    changed = tmp_path / "images" / "folder 1" / "4.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(changed)
    assert run(tmp_path, config, "-n") == {"ood_sets", "clean"}
    assert run(tmp_path, config, "--cores", "2") == {"ood_sets", "clean"}
    changed.unlink()
    assert run(tmp_path, config, "-n") == {"ood_sets", "clean"}
