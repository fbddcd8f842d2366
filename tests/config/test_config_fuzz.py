"""Configs changed at random: each is used, or refused in words; the same ones in every run."""

import copy
import os
import subprocess
import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from oodcert.audit.layout import EVIDENCE, files_of, inputs_of, names_of, rows_of, settings_of
from oodcert.config.availability import available
from oodcert.config.external_weights import imported, networks_of, trained
from oodcert.config.load import check_config, merged_files, read_configs
from oodcert.data.sizes import check_counts
from oodcert.data.sources import id_files, ood_files, outlier_files
from oodcert.errors import InputError
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.execution import cost
from oodcert.execution.shards import portions, shards

CONFIGS = [merged_files([ROOT / "config" / f"{name}.yaml"]) for name in ("config", "cifar-lite", "paper")]
STRINGS = [
    "",
    " ",
    "~",
    "yes",
    "NaN",
    "../../x",
    "/etc/passwd",
    "a\0b",
    "digits\n",
    "\x1b[2J",
    "\ud800",
    "ä" * 300,
    "{x}",
]
STRINGS += [
    "None",
    "cifar10",
    "svhn",
    "id",
    "average",
    "gaussian_noise",
    "prood",
    "denoiser",
    "os:system",
    ".x:y",
    "a:b",
]
NUMBERS = [0, -1, 1, 2, 7, 2**31, 10**9, 2**63, 10**30, 10**400, 10**4000, 0.0, -0.0, 0.5, 1.0, 1e-320, 1e308]
NUMBERS += [float("nan"), float("inf"), -float("inf"), True, False, None]
CHANGES = ["similar", "similar", "value", "drop", "add", "swap", "copy"]
leaves = st.sampled_from(STRINGS) | st.sampled_from(NUMBERS) | st.text(max_size=8) | st.integers() | st.floats()
keys = st.sampled_from(["classifier", "x", "", "name", "../x", "a\n", 1, None, True, (1, 2), "__use_yte__"])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | st.text(max_size=4), inner, max_size=3)
)


def places(node, path=()):
    """The paths of everything in a config."""
    if path:
        yield path
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(child, (*path, key))


def value_at(config, path):
    for key in path:
        config = config[key]
    return config


@st.composite
def similar(draw, value):
    """A value of the same kind, so that the config stays in use for longer."""
    if isinstance(value, bool) or value is None:
        return draw(st.sampled_from([True, False, None]))
    if isinstance(value, int):
        return draw(st.integers(0, 40) | st.sampled_from([100, 10**4, 10**7, 10**9]))
    if isinstance(value, float):
        return draw(st.floats(0, 2) | st.sampled_from([1e-300, 10.0, 1e300]))
    if isinstance(value, list):
        return draw(st.permutations(value))[: draw(st.integers(0, len(value)))]
    if isinstance(value, dict):
        kept = draw(st.sets(st.sampled_from(sorted(value, key=str)))) if value else ()
        return {key: one for key, one in value.items() if key not in kept}
    return draw(st.sampled_from(STRINGS))


@st.composite
def configs(draw):
    """One of the committed configs after one to four changes: values, keys and whole sections."""
    config = copy.deepcopy(draw(st.sampled_from(CONFIGS)))
    for _ in range(draw(st.integers(1, 4))):
        every = sorted(places(config), key=str)
        *parents, key = draw(st.sampled_from(every))
        section, change = (
            value_at(config, parents),
            draw(st.sampled_from(CHANGES)),
        )
        if change == "similar":
            section[key] = draw(similar(section[key]))
        elif change == "value":
            section[key] = draw(values)
        elif change == "drop":
            del section[key]
        elif change == "add" and isinstance(section, dict):
            section[draw(keys)] = draw(values)
        elif change == "swap":
            section[key] = copy.deepcopy(value_at(config, draw(st.sampled_from(every))))
        elif change == "copy" and isinstance(section, dict):
            section[f"{key}_2"] = copy.deepcopy(section[key])
        elif isinstance(section, list):
            section.append(copy.deepcopy(section[key]))
        if not config:
            break
    return config


def use(values):
    """What the Snakefile, `oodcert cost` and the audit do with a config, short of networks."""
    config = check_config(values)
    imports, components = imported(config), trained(config)
    config = available(config, trains=bool(components))
    data, mirror = config.data, config.data_mirror
    check_counts(data, mirror)
    assert not {*imports} & {*components}
    id_files(data, mirror), outlier_files(data, mirror), ood_files(data, mirror), networks_of(components, config)
    work = cost.jobs(config)
    cost.passes(work), cost.evidence(work), cost.uncounted(config)
    cost.hours(cost.passes(work), dict.fromkeys(("classifier", "discriminator", "denoiser"), 1000.0))
    assert all(".." not in name and not name.startswith("/") for name in files_of(config))
    for evaluation in EVIDENCE:
        for name in names_of(config, evaluation):
            settings_of(config, evaluation, name), inputs_of(config, evaluation, name)
            if evaluation not in ("training", "authors_code"):
                rows_of(config, evaluation, name)
            if evaluation in EVALUATIONS and EVALUATIONS[evaluation].whole_batches:
                assert all(1 <= len(names) <= config.shards for names in shards(config, evaluation, name).values())
                assert all(one for several in portions(config, evaluation, name).values() for one in several)


def answered(call):
    """Whether call() comes to its end; a refusal must be a sentence, or say what holds."""
    try:
        call()
    except InputError as error:
        text = str(error)
        assert "\n" not in text and "\x1b" not in text and len(text) < 5000
        assert text.endswith((".", "?)", ")")) or "key" in text, text
        return False
    return True


@settings(max_examples=600, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(configs())
def test_a_changed_config_is_used_or_refused_in_words(config):
    answered(lambda: use(config))


TEXT = (ROOT / "config" / "config.yaml").read_text()
PIECES = [
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "!!binary ",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "\t",
    "\n",
    "'",
    '"',
    "%",
    "? ",
    "|",
]


@st.composite
def texts(draw):
    """The digits config with pieces of YAML put in and lines taken out, as bytes, or other bytes altogether."""
    if draw(st.booleans()) and draw(st.booleans()):
        return draw(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
    text = TEXT
    for _ in range(draw(st.integers(1, 4))):
        place, piece = draw(st.integers(0, len(text))), draw(st.sampled_from(PIECES) | st.text(max_size=3))
        text = text[:place] + piece + text[place + draw(st.sampled_from([0, 0, 1, 80])) :]
    return text.encode("utf-8", "replace")


@settings(max_examples=200, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=texts())
def test_a_changed_file_is_read_or_refused_in_words(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(data)
    answered(lambda: read_configs([path]))


def tens(first, each):
    """Ten levels of YAML, each of ten times the one before: 10^10 values in a few lines."""
    lines = [f"a0: &a0 {first}", *(f"a{n}: &a{n} {each.format(', '.join([f'*a{n - 1}'] * 10))}" for n in range(1, 10))]
    return "\n".join(lines) + "\n"


HOSTILE = {
    "laughs": tens("[x]", "[{}]") + "seed: *a9\n",
    "merges": tens("{x: 1}", "{{<<: [{}]}}"),
    "itself": "&a {seed: 0, data: *a}",
    "nested": "seed: " + "[" * 3000,
    "digits": "seed: " + "9" * 5000,
    "hexadecimal": "seed: 0x" + "f" * 5000,
    "twice": TEXT + "\nseed: 1\n",
    "tag": "seed: !!python/object/apply:os.mkdir [ran]",
    "object": "seed: !!python/name:os.mkdir",
    "date": "seed: 2001-99-99",
    "bool": "seed: !!bool x",
    "endless": "x" * 10**6,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_yaml_that_is_made_to_harm_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(HOSTILE[name])
    assert not answered(lambda: read_configs([tmp_path / "config.yaml"]))
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_a_config_from_elsewhere_that_is_too_large_is_refused_before_it_is_looked_at():
    """Snakemake hands over what it has read itself."""
    laughs = ["x"]
    for _ in range(10):
        laughs = [laughs] * 10
    nested = []
    for _ in range(5000):
        nested = [nested]
    for value in (laughs, nested, 16**5000):
        assert not answered(lambda value=value: check_config(CONFIGS[0] | {"seed": value}))


CHANGED = {
    "profile": "../../escape",
    "seed": float("nan"),
    "methods": {"plain": None},
    "imports": {"plain": {"network": "nowhere:f", "weights": "/dev/zero"}},
    "networks": {"classifier": []},
    "data_mirror": "x" * 5000,
}


@pytest.mark.parametrize("key", CHANGED)
def test_the_command_line_ends_in_words(tmp_path, key):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIGS[0] | {key: CHANGED[key]}))
    command = [sys.executable, "-m", "oodcert", "cost", "--config", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stdout + done.stderr
    assert (done.returncode, len(done.stderr.splitlines())) == ((0, 0) if key == "data_mirror" else (1, 1))


@pytest.mark.parametrize("key", ["profile", "methods"])
def test_the_workflow_ends_in_words(tmp_path, key):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIGS[0] | {key: CHANGED[key]}))
    command = [sys.executable, "-m", "snakemake", "-n", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    done = subprocess.run([*command, "--configfile", path], cwd=tmp_path, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert done.returncode != 0 and "Traceback" not in output and f"Config key {key}" in output
