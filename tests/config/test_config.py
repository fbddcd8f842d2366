import copy
import re
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT, shrink
from oodcert.audit.layout import settings_of
from oodcert.config.components import Component
from oodcert.config.load import check_config, merged_files
from oodcert.config.models import config_model
from oodcert.errors import InputError
from oodcert.evaluations.registry import EVALUATIONS
from oodcert.models.architectures.denoiser import DiffusionDenoiser, cosine_schedule

DIGITS = merged_files([ROOT / "config" / "config.yaml"])
UNET = {"channels": [16], "patch": 2, "timesteps": 1000}


def changed(path, value, config=DIGITS):
    config = copy.deepcopy(config)
    *parents, key = re.split(r"(?<!\.)\.(?!/)", path)
    section = config
    for parent in parents:
        section = section[parent]
    if value is None:
        del section[key]
    else:
        section[key] = value
    return config


def test_the_committed_configs_are_valid():
    assert check_config(shrink(copy.deepcopy(DIGITS))).profile == "tiny"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("evaluation.certify_l2.precision", "bfloat16"),
        ("evaluation.certify_id.precision", "float32"),
        ("profile_trace", True),
        ("profile_trace", "true"),  # as snakemake --config has it
    ],
)
def test_keys_that_may_be_absent_are_accepted(path, value):
    check_config(changed(path, value))


def test_precision_reaches_the_settings_of_what_it_changes_and_no_others():
    digits, config = check_config(DIGITS), check_config(changed("evaluation.certify_l2.precision", "bfloat16"))
    differ = {key for key in EVALUATIONS if settings_of(config, key, "plain") != settings_of(digits, key, "plain")}
    assert differ == {"certify_l2", "attack_l2", "one_pass"}
    assert settings_of(config, "attack_l2", "plain")["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("evaluation.certify_l2.precision", "half", "precision = 'half'.*float32, as where it is absent, or bfloat16"),
        ("evaluation.attack_l2.precision", "bfloat16", "Unknown config key at evaluation.attack_l2: 'precision'"),
        ("profile_trace", "yes", "profile_trace = 'yes'.*true or false"),
        ("sede", 1, "Unknown config key at the top level: 'sede' \\(did you mean 'seed'\\?\\)"),
        ("evaluation.certify_l2.sigma", 0.1, "at evaluation.certify_l2: 'sigma' \\(did you mean 'sigmas'\\?\\)"),
        ("seed", None, "lacks seed at the top level"),
        ("training.oe.outlier_weight", None, "lacks outlier_weight at training.oe"),
        ("seed", "zero", "seed = 'zero' is not valid.*an integer of at least 0"),
        ("seed", True, "seed = True"),
        ("evaluation.certify_l2.alpha", 1.5, "evaluation.certify_l2.alpha = 1.5.*above 0 and at most 0.5"),
        ("evaluation.certify_l2.sigmas", [], "evaluation.certify_l2.sigmas = \\[\\]"),
        ("data.num_classes", 1, "data.num_classes = 1.*number of ID classes"),
        ("data.ood", ["svhm"], "no test images of a set .svhm.*did you mean .svhn"),
        ("profile", "../escape", "profile = '../escape'.*used in paths"),
        ("methods", ["plain"], "methods = \\['plain'\\] is not valid.*methods, such as `plain: "),
        ("methods", {}, "methods = {} is not valid.*methods, such as `plain: "),
        ("methods.../escape", {}, "methods: the name '../escape' is not valid.*used in paths"),
        ("methods.plain.denoise", True, "at methods.plain: 'denoise' \\(did you mean 'denoiser'\\?\\)"),
        ("methods.plain.score", None, "lacks score at methods.plain"),
        ("methods.plain.score", "doctor", "methods.plain.score = 'doctor'.*msp, energy, max_logit or atom"),
        ("methods.plain.denoiser", "yes", "methods.plain.denoiser = 'yes'.*true or false"),
        (
            "methods.plain.classifier",
            "plane",
            "methods.plain.classifier = 'plane' is no classifier.*did you mean 'plain'",
        ),
        ("methods.plain.classifier", "denoiser", "methods.plain.classifier = 'denoiser' is no classifier"),
        ("methods.plain.score", "atom", "methods.plain: the score 'atom' does not suit the classifier 'plain'.* has 0"),
        ("methods.atom.score", "msp", "methods.atom: the score 'msp' does not suit the classifier 'atom'.* has 1"),
        ("methods.atom.discriminator", True, "methods.atom: with a discriminator the score is msp, not 'atom'"),
        ("methods.prood.score", "energy", "methods.prood: with a discriminator the score is msp, not 'energy'"),
        ("training.oe", None, "methods.oe needs the component 'oe': add training.oe"),
        (
            "training.discriminator",
            None,
            "methods.prood needs the component 'discriminator': add training",
        ),
        ("training.denoiser", None, "lacks denoiser at training"),
        ("training.plane", {}, "Unknown config key at training: 'plane' \\(did you mean 'plain'\\?\\)"),
        ("training.plain.outlier_weight", 1.0, "Unknown config key at training.plain: 'outlier_weight'"),
        ("training.plain.augmentation", "crop", "training.plain.augmentation = 'crop'.*none, flip_crop or auto"),
        ("training.vos.queue", None, "lacks queue at training.vos"),
        ("training.vos.queue", 0, "training.vos.queue = 0.*an integer of at least 1"),
        ("training.vos.start", 1.5, "training.vos.start = 1.5.*a share between 0 and 1"),
        ("training.logitnorm.temperature", 0.0, "training.logitnorm.temperature = 0.0.*above 0"),
        ("training.acet.epsilon", -0.1, "training.acet.epsilon = -0.1.*at least 0"),
        ("training.discriminator.bias_shift", "3", "training.discriminator.bias_shift = '3'.*a finite number"),
        ("networks.plane", {}, "Unknown config key at networks: 'plane' \\(did you mean 'plain'\\?\\)"),
        ("networks.vos", {"name": "resnet", "width": 4}, "lacks depth at networks.vos"),
        (
            "networks.vos",
            {"name": "cnn", "width": 4, "growth": 4},
            "at networks.vos: 'growth' \\(known: name, width",
        ),
        ("networks.classifier.depth", 8, "at networks.classifier: 'depth' \\(did you mean 'width'\\?\\)"),
        ("networks.classifier.dropout", 0.3, "at networks.classifier: 'dropout' \\(known: name, width\\)"),
        ("networks.good.name", "ibp_cnn", "networks.good.name = 'ibp_cnn'.*ibp_cnn_s or ibp_cnn_xl"),
        ("evaluation.sanity.epsilons", [0.1, 0.05, 1.0], "sanity.epsilons = .*let them rise"),
        ("evaluation.sanity.epsilons", [0.025, 1.0], "sanity.epsilons = .*evaluation.epsilon = 0.05 among them"),
        ("evaluation.sanity.epsilons", [0.05, 0.5], "sanity.epsilons = .*with 1.0.* as the last"),
        ("evaluation.sanity.images", 0, "sanity.images = 0.*an integer of at least 1"),
        ("evaluation.certify_l2.radii", [0.25], "certify_l2.radii lacks 0"),
        ("evaluation.attack_l2.sigma", 0.25, "at evaluation.attack_l2: 'sigma' \\(did you mean 'sigmas'\\?\\)"),
        ("evaluation.attack_l2.radii", [0.0], "Unknown config key at evaluation.attack_l2: 'radii'"),
        ("evaluation.attack_l2.sigmas", [0.25, 0.3], "attack_l2.sigmas = \\[0.25, 0.3\\] are not all among"),
        ("evaluation.attack_l2.sigmas", [], "attack_l2.sigmas = \\[\\]"),
        (
            "networks.denoiser",
            {**UNET, "patch": 3},
            "networks.denoiser.patch = 3 does not divide.*use a common divisor",
        ),
        (
            "networks.denoiser",
            {**UNET, "channels": [8] * 4},
            "networks.denoiser.channels = .* 4 levels.*4 x 4 patches 3 times.*fewer",
        ),
        ("networks.denoiser.patch", 2, "at networks.denoiser: 'patch' \\(known: name, timesteps, width\\)"),
        ("networks.denoiser", {**UNET, "width": 16}, "at networks.denoiser: 'width' \\(known: channels, patch, t"),
        ("networks.denoiser.width", None, "lacks width at networks.denoiser"),
        ("networks.denoiser.name", "unet", "networks.denoiser.name = 'unet'.*expects: mlp, or no name"),
        ("networks.denoiser.timesteps", 199, "networks.denoiser.timesteps = 199.*at least 200"),
        ("networks.classifier.name", "cnn5", "networks.classifier.name = 'cnn5'.*name of a network, one of 'cnn', 'r"),
        ("networks.discriminator.name", "cnn", "networks.discriminator.name = 'cnn'.*expects: ibp_cnn_s.*batch norm"),
        ("networks.classifier.width", 16.0, "networks.classifier.width = 16.0.*an integer"),
        ("data.image_shape", [1, 6, 8], "data.image_shape.1 = 6.*a multiple of 4"),
        ("data.image_shape", [1, 8, 10], "data.image_shape.2 = 10.*a multiple of 4"),
        ("evaluation.certify_l2.bounds", ["gaussian"], "certify_l2.bounds = .*percentile, which the figures need"),
        ("evaluation.certify_l2.bounds", ["percentile", "vote"], "bounds.1 = 'vote'.*percentile, cdf, gaussian or lip"),
        ("evaluation.certify_l2.bounds", [], "certify_l2.bounds = .*percentile, which the figures need"),
        ("evaluation.sigma", 10.5, "evaluation.sigma = 10.5.*between 0.01 and 10"),
        ("evaluation.certify_l2.sigmas", [0.25, 0.009], "certify_l2.sigmas.1 = 0.009.*between 0.01 and 10"),
        ("evaluation.certify_id.sigmas", [11], "certify_id.sigmas.0 = 11.*between 0.01 and 10"),
        ("evaluation.attack_l2.sigmas", [11], "attack_l2.sigmas.0 = 11.*between 0.01 and 10"),
        ("evaluation.certify_l2.sampling", "sometimes", "certify_l2.sampling = 'sometimes'.*fixed, or adaptive"),
        ("evaluation.certify_id.sampling", "sometimes", "certify_id.sampling = 'sometimes'.*fixed, or adaptive"),
        ("evaluation.certify_id.sampling", None, "lacks sampling at evaluation.certify_id"),
        ("evaluation.attack_id.deterministic.version", "rand", "attack_id.deterministic.version = 'rand'.*standard,"),
        ("evaluation.attack_id.randomised.version", "standard", "attack_id.randomised.version = 'standard'.*rand,"),
        ("evaluation.certify_l2.alpha", 0.51, "certify_l2.alpha = 0.51.*at most 0.5"),
        ("evaluation.certify_id.alpha", 0.51, "certify_id.alpha = 0.51.*at most 0.5"),
        ("evaluation.attack_linf.apgd.draws", 7, "at evaluation.attack_linf.apgd: 'draws'"),
        ("evaluation.attack_linf.square.queries", 0, "attack_linf.square.queries = 0.*an integer of at least 1"),
        (
            "networks.good",
            None,
            "methods.good needs the component 'good', which is trained on interval.*: add networks",
        ),
        ("networks.good.name", "cnn", "networks.good.name = 'cnn'.*without batch norm"),
        ("figures.palette", "viridis", "figures.palette = 'viridis'.*qualitative"),
        ("protocol", "unsound", "protocol = 'unsound'.*sound, or authors_code"),
        ("evaluation.authors_code", {}, "lacks images, n, n0 at evaluation.authors_code"),
        ("evaluation.authors_code.images", 101, "authors_code.images = 101: there are 100 of every set"),
        (
            "evaluation.certify_id.sigmas",
            [0.25],
            "certify_id.sigmas lacks evaluation.sigma = 0.12.*or set evaluation.auth",
        ),
    ],
)
def test_a_bad_key_or_value_is_named_with_a_remedy(path, value, message):
    with pytest.raises(InputError, match=message) as caught:
        check_config(changed(path, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("evaluation.certify_l2.sampling", "adaptive"),
        ("evaluation.certify_id.sampling", "adaptive"),
        ("evaluation.certify_l2.bounds", ["percentile"]),
        ("evaluation.attack_l2.sigmas", [0.5, 0.12]),
        ("evaluation.sanity.epsilons", [0.05, 2.0]),
        ("methods.logitnorm.score", "max_logit"),
        ("methods.vos_denoised", {"classifier": "vos", "discriminator": False, "denoiser": True, "score": "energy"}),
        ("methods.atom", None),
        ("networks.vos", {"name": "wideresnet", "depth": 10, "widen": 1}),
        ("networks.atom", {"name": "densenet", "depth": 10, "growth": 4}),
        ("training.vos.augmentation", "auto"),
    ],
)
def test_other_settings_and_methods_are_valid(path, value):
    check_config(changed(path, value))


def test_the_protocol_of_the_authors_code_needs_its_evidence():
    config = changed("protocol", "authors_code")
    check_config(config)
    config["evaluation"]["authors_code"] = None
    with pytest.raises(InputError, match=r"protocol = 'authors_code' needs.*evaluation\.authors_code its settings"):
        check_config(config)
    check_config(config | {"protocol": "sound"})


def test_a_component_is_needed_by_its_methods_alone():
    config = changed("training.atom", None)
    with pytest.raises(InputError, match=r"add training\.atom"):
        check_config(config)
    check_config(changed("methods.atom", None, config))


def test_a_setting_of_an_undeclared_type_names_the_file_and_the_types(monkeypatch):
    mixup = Component({"share": "shares"})
    monkeypatch.setattr("oodcert.config.models.known_components", lambda: {"mixup": mixup})
    monkeypatch.setattr("oodcert.config.models.declared_component", lambda _: mixup)
    with pytest.raises(InputError, match=r"training/mixup.py declares 'share' of type 'shares'.*did you mean 'share'"):
        config_model.__wrapped__()


def test_unknown_keys_of_mixed_type_are_named():
    with pytest.raises(InputError, match=r"at the top level: 1 \(known: .*; 'x' \(known: "):
        check_config({**DIGITS, "x": 1, 1: 2})


def test_the_denoiser_fits_the_width_too():
    config = changed("data.image_shape", [3, 8, 12], changed("networks.denoiser", UNET))
    check_config(config)
    with pytest.raises(InputError, match=r"denoiser.patch = 8 .*height 8 and width 12"):
        check_config(changed("networks.denoiser.patch", 8, config))
    with pytest.raises(InputError, match="has 3 levels, which halve a grid of 4 x 6 patches 2 times"):
        check_config(changed("networks.denoiser.channels", [8, 8, 8], config))
    check_config(changed("networks.denoiser", {**UNET, "channels": [8, 8, 8]}))
    check_config(changed("data.image_shape", [3, 8, 12]))


def test_every_number_must_be_finite():
    def numbers(node, path=()):
        if isinstance(node, dict | list):
            for key, child in node.items() if isinstance(node, dict) else enumerate(node):
                yield from numbers(child, (*path, key))
        elif not isinstance(node, str):
            yield path

    paths = list(numbers(DIGITS))
    assert len(paths) > 80
    for path, value in zip(paths, cycle([float("nan"), float("inf"), float("-inf")]), strict=False):
        config = copy.deepcopy(DIGITS)
        section = config
        for key in path[:-1]:
            section = section[key]
        section[path[-1]] = value
        with pytest.raises(InputError, match=rf"^Config key {re.escape('.'.join(map(str, path)))} = {value} is not"):
            check_config(config)


def test_the_shortest_schedule_covers_every_sigma():
    sections = config_model().model_json_schema()["$defs"]
    sigma = sections["CertifyL2Settings"]["properties"]["sigmas"]["items"]
    timesteps = sections["UNetDenoiser"]["properties"]["timesteps"]["minimum"]
    denoiser = DiffusionDenoiser(None, cosine_schedule(timesteps))
    assert 0 <= denoiser.timestep(sigma["minimum"]) < denoiser.timestep(sigma["maximum"]) <= timesteps - 1


@pytest.mark.parametrize(
    ("path", "old", "new"), [("protocol", "published", "authors_code"), ("weights", "published", "released")]
)
def test_a_value_of_an_earlier_version_is_refused_with_the_present_one(path, old, new):
    with pytest.raises(InputError, match=f"^Config key {path} = '{old}' is now '{new}': change it"):
        check_config(changed(path, old))


def test_a_key_of_an_earlier_version_is_refused_with_the_present_one():
    config = changed("evaluation.published", DIGITS["evaluation"]["authors_code"])
    del config["evaluation"]["authors_code"]
    for also_the_present_one in ({}, {"authors_code": None}):
        config["evaluation"].update(also_the_present_one)
        with pytest.raises(InputError, match=r"^Config key evaluation\.published is now called .*authors_code: rename"):
            check_config(config)


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
