import copy

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT, shrink
from oodcert.config import check_config, load_config
from oodcert.errors import InputError

DIGITS = load_config(ROOT / "config" / "config.yaml")


def changed(path, value):
    config = copy.deepcopy(DIGITS)
    *parents, key = path.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    if value is None:
        del section[key]
    else:
        section[key] = value
    return config


def test_the_committed_configs_are_valid():
    assert check_config(shrink(copy.deepcopy(DIGITS)))["profile"] == "tiny"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sede", 1, "Unknown config key at the top level: 'sede' \\(did you mean 'seed'\\?\\)"),
        ("evaluation.certify_l2.sigma", 0.1, "at evaluation.certify_l2: 'sigma' \\(did you mean 'sigmas'\\?\\)"),
        ("seed", None, "lacks seed at the top level"),
        ("training.oe.outlier_weight", None, "lacks outlier_weight at training.oe"),
        ("seed", "zero", "seed = 'zero' is not valid.*an integer of at least 0"),
        ("seed", True, "seed = True"),
        ("evaluation.certify_l2.alpha", 1.5, "evaluation.certify_l2.alpha = 1.5.*between 0 and 1"),
        ("evaluation.certify_l2.sigmas", [], "evaluation.certify_l2.sigmas = \\[\\]"),
        ("data.num_classes", 1, "data.num_classes = 1.*number of ID classes"),
        ("data.ood", ["svhn"], "data.ood.0 = 'svhn'"),
        ("profile", "../escape", "profile = '../escape'.*used in paths"),
        ("methods", ["plane"], "methods names 'plane'.*did you mean 'plain'"),
        ("evaluation.certify_l2.radii", [0.25], "certify_l2.radii lacks 0"),
        ("evaluation.attack_l2.sigma", 0.3, "attack_l2 has sigma 0.3"),
    ],
)
def test_a_bad_key_or_value_is_named_with_a_remedy(path, value, message):
    with pytest.raises(InputError, match=message) as caught:
        check_config(changed(path, value))
    assert "\n" not in str(caught.value)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml cannot be read"):
        load_config(tmp_path / "nowhere.yaml")
    path = tmp_path / "broken.yaml"
    path.write_text("profile: [")
    with pytest.raises(InputError, match=r"broken\.yaml cannot be read"):
        load_config(path)
    path.write_text("!!python/object/apply:os.system ['touch executed']")
    with pytest.raises(InputError, match=r"broken\.yaml cannot be read"):
        load_config(path)


def test_every_setting_is_documented_in_the_schema():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == sorted(schema["properties"]) == sorted(DIGITS)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@settings(deadline=None, max_examples=100)
@given(
    key=st.sampled_from(sorted(DIGITS)),
    value=st.recursive(leaves, lambda v: st.dictionaries(st.text(), v), max_leaves=4),
)
def test_no_value_ends_in_anything_but_an_answer(key, value):
    try:
        check_config({**DIGITS, key: value})
    except InputError as error:
        assert str(error)
