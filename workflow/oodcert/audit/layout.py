"""What a run of a config consists of: its files, and the settings, inputs and rows of each evidence file.

This is written apart from the rules and the evaluations on purpose, so that each is checked against the other. The
columns and keys of the rows are not here: the audit takes them from oodcert.evaluations.registry.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

from oodcert.attacks import ATTACK_ALPHA, AUTOATTACK, REDUCED
from oodcert.config.external_weights import networks_of, trained
from oodcert.config.method_specs import MethodSpec, needed_components
from oodcert.config.models import Config, EvaluationSettings, LinfAttackBudget
from oodcert.reporting.figures import FIGURES
from oodcert.reporting.tables import TABLES
from oodcert.reporting.tables.values import WORST_CASE

TRAINING = "training"  # the folder of learning curves
EVIDENCE = (  # folders of the evidence files; of any other one the audit checks the checksums alone
    "clean",
    "guarantee_linf",
    "attack_linf",
    "sanity",
    "certify_l2",
    "attack_l2",
    "one_pass",
    "certify_id",
    "attack_id",
    "authors_code",
    "attack_linear",
    TRAINING,
)
ID_ONLY, OOD_ONLY = ("certify_id", "attack_id"), ("guarantee_linf", "attack_linf", "sanity", "attack_l2")


class SetRows(NamedTuple):
    """The rows of one image set in an evidence file.

    Attributes:
        set: name of the image set.
        first: the first image with such rows, as a position among the evaluated images of the set; those of "id_more"
            come after those of "id".
        last: the position after the last one.
        rows: the rows of each image, as dicts: the evaluation's keys, and every other column that the config fixes.
    """

    set: str
    first: int
    last: int
    rows: list[dict[str, Any]]


def names_of(config: Config, evaluation: str) -> list[str]:
    """Names of the files of an evaluation or the training, in the order of the tables and figures.

    They are methods, components, or that of the linear score.

    Args:
        config: the checked config.
        evaluation: one of EVIDENCE.

    Returns:
        The names.
    """
    if evaluation == TRAINING:
        return trained(config)
    if evaluation in ("authors_code", "one_pass") and getattr(config.evaluation, evaluation) is None:
        return []
    return ["linear"] if evaluation == "attack_linear" else [*config.methods]


def tables_of(config: Config) -> list[str]:
    """Names of the tables of a run: the ablation only where the authors' code is evaluated."""
    return [name for name in TABLES if name != "ablation" or config.evaluation.authors_code]


def drawings_of(config: Config) -> list[str]:
    """Names of the figures of a run: only those of what is trained and evaluated."""
    evaluation = config.evaluation
    absent = {"training": not trained(config), "ablation": not evaluation.authors_code}
    absent |= dict.fromkeys(("one_pass", "certified_roc"), not evaluation.one_pass)
    return [name for name in FIGURES if not absent.get(name)]


def files_of(config: Config) -> list[str]:
    """Names, as in a manifest, of all files that a run must have."""
    evidence = [f"evidence/{evaluation}/{name}" for evaluation in EVIDENCE for name in names_of(config, evaluation)]
    return [
        "checks.csv",
        "evidence/denoised.npz",
        *(f"{stem}.{kind}" for stem in evidence for kind in ("parquet", "json")),
        *(f"tables/{table}.{kind}" for table in tables_of(config) for kind in ("csv", "md", "tex")),
        *(f"figures/{name}.{kind}" for name in drawings_of(config) for kind in ("pdf", "png")),
    ]


def settings_of(config: Config, evaluation: str, name: str) -> dict[str, Any]:
    """The settings with which an evidence file is computed, as its sidecar has them.

    Args:
        config: the checked config.
        evaluation: one of EVIDENCE.
        name: one of its files, of names_of.

    Returns:
        The settings as JSON values.
    """
    whole, data = config.evaluation, config.data
    settings: dict[str, Any] = {"seed": config.seed, "device": config.device, "threads": config.threads}
    settings |= {"image_shape": list(data.image_shape), "num_classes": data.num_classes}
    if evaluation == TRAINING:
        components = [name, *needed_components(name, config.training)]
        return settings | {"networks": networks_of(components, config), "settings": config.training[name].as_json()}
    if evaluation == "attack_linear":
        return settings | _linf(whole)
    method_spec = config.methods[name]
    return settings | {
        "test_images": data.test_images,
        "batch_size": whole.batch_size,
        "method_spec": method_spec.as_json(),
        "networks": networks_of(method_spec.components, config),
        **_own_settings(config, evaluation, method_spec),
    }


def _own_settings(config: Config, evaluation: str, method_spec: MethodSpec) -> dict[str, Any]:
    """The settings that not all evaluations of methods have."""
    whole = config.evaluation
    deployed, certify_l2 = {"sigma": whole.sigma, "draws": whole.draws}, whole.certify_l2.as_json()
    autoattack = whole.attack_id.budget_of(method_spec).as_json()
    if evaluation == "clean":
        return {**deployed, "accuracy_images": config.data.accuracy_images}
    if evaluation == "guarantee_linf":
        return {"epsilon": whole.epsilon}
    if evaluation == "attack_linf":
        return {**deployed, **_linf(whole)}
    if evaluation == "sanity":
        return {**deployed, **_linf(whole), **whole.sanity.as_json()}
    if evaluation == "certify_l2":
        return certify_l2
    if evaluation == "attack_l2":
        shared: dict[str, Any] = {key: certify_l2[key] for key in ("radii", "precision") if key in certify_l2}
        return whole.attack_l2.as_json() | shared | ({"one_pass": True} if whole.one_pass else {})
    if evaluation == "one_pass" and whole.one_pass:
        one_pass = whole.one_pass
        precision = whole.certify_l2.precision
        return {"sigmas": list(one_pass.sigmas), "draws": one_pass.draws, "precision": precision}
    if evaluation == "certify_id":
        return whole.certify_id.as_json()
    if evaluation == "attack_id":
        return {**deployed, "epsilons": list(whole.attack_id.epsilons), "budget": autoattack}
    if evaluation == "authors_code" and whole.authors_code:
        budget = whole.attack_linf.as_json()
        return {
            **deployed,
            **whole.authors_code.as_json(),
            "epsilon": whole.epsilon,
            "budget": {key: budget[key] for key in ("apgd", "pgd", "draws")},
            **{key: certify_l2[key] for key in ("bounds", "alpha")},
            "epsilons": list(whole.attack_id.epsilons),
            "autoattack": autoattack,
        }
    raise KeyError(evaluation)


def _linf(whole: EvaluationSettings) -> dict[str, Any]:
    return {"budget": whole.attack_linf.as_json(), "epsilon": whole.epsilon}


def inputs_of(config: Config, evaluation: str, name: str) -> set[str]:
    """Paths of the weights and image sets that an evidence file is computed from, as in the sidecars.

    Args:
        config: the checked config.
        evaluation: one of EVIDENCE.
        name: one of its files, of names_of.

    Returns:
        The paths, relative to the folder that holds results/.
    """
    if evaluation == TRAINING:
        sets, components = ["id_train", "outliers"], needed_components(name, config.training)
    else:
        sets = [] if evaluation in (*OOD_ONLY, "attack_linear") else ["id_test"]
        sets += [] if evaluation in ID_ONLY else config.data.ood
        components = config.methods[name].components if name in config.methods else []
    weights = [f"results/{config.profile}/models/{component}.safetensors" for component in components]
    return {*weights, *(f"data/{config.profile}/{one}.npz" for one in sets)}


def rows_of(config: Config, evaluation: str, name: str) -> list[SetRows]:
    """The rows of an evidence file, by image set. Those of the authors' code are in oodcert.audit.authors_code.

    Args:
        config: the checked config.
        evaluation: one of EVIDENCE.
        name: one of its files, of names_of.

    Returns:
        A SetRows for each image set.
    """
    data, n, rows = config.data, config.data.test_images, _rows(config, evaluation, name)
    count = config.evaluation.sanity.images if evaluation == "sanity" else n
    blocks = [] if evaluation in ID_ONLY else [SetRows(ood, 0, count, rows) for ood in data.ood]
    if evaluation in (*ID_ONLY, "clean"):
        blocks.append(SetRows("id", 0, n, rows))
    if evaluation == "one_pass":
        blocks.append(SetRows("id", 0, n, rows))
    if evaluation == "certify_l2":
        adaptive = config.evaluation.certify_l2.sampling == "adaptive"
        blocks.append(SetRows("id", 0, n, [row for row in rows if row["radius"] == 0 or not adaptive]))
    if evaluation == "clean" and data.accuracy_images > n and not config.methods[name].is_randomised:
        blocks.append(SetRows("id_more", n, data.accuracy_images, rows))
    return blocks


def _rows(config: Config, evaluation: str, name: str) -> list[dict[str, Any]]:
    """The rows of one image."""
    whole = config.evaluation
    if evaluation in ("guarantee_linf", "attack_linear"):
        return [{"epsilon": whole.epsilon}]
    method_spec = config.methods[name]
    if evaluation == "clean":
        return [{"draws": _draws(whole.draws, method_spec)}]
    if evaluation == "attack_linf":
        return [{"epsilon": whole.epsilon, **_linf_budget(whole.attack_linf, 1.0, method_spec)}]
    if evaluation == "sanity":
        runs = [*((epsilon, 1.0) for epsilon in whole.sanity.epsilons), (whole.epsilon, REDUCED)]
        return [
            {"epsilon": epsilon, "share": share, **_linf_budget(whole.attack_linf, share, method_spec)}
            for epsilon, share in runs
        ]
    if evaluation == "certify_l2":
        l2 = whole.certify_l2
        points = product(l2.sigmas, method_spec.admitted_bounds(l2.bounds), l2.radii)
        fixed = {"alpha": l2.alpha, **_number_of_draws(l2.sampling, l2.n)}
        return [{"sigma": sigma, "bound": bound, "radius": radius, **fixed} for sigma, bound, radius in points]
    if evaluation == "attack_l2":
        attack = whole.attack_l2
        fixed = {key: getattr(attack, key) for key in ("n", "iterations", "restarts", "draws")}
        pairs = product(attack.sigmas, sorted({0.0, *whole.certify_l2.radii}))
        return [{"sigma": sigma, "radius": radius, **fixed, "alpha": ATTACK_ALPHA} for sigma, radius in pairs]
    if evaluation == "one_pass" and whole.one_pass:
        pairs = product(whole.one_pass.sigmas, range(whole.one_pass.draws))
        return [{"sigma": sigma, "draw": draw} for sigma, draw in pairs]
    if evaluation == "certify_id":
        labels = whole.certify_id
        fixed = {"n0": labels.n0, "alpha": labels.alpha, **_number_of_draws(labels.sampling, labels.n)}
        return [{"sigma": sigma, **fixed} for sigma in labels.sigmas]
    if evaluation == "attack_id":
        budget = whole.attack_id.budget_of(method_spec)
        attacks = product(whole.attack_id.epsilons, (*AUTOATTACK[budget.version], WORST_CASE))
        return [{"epsilon": epsilon, "attack": attack, **budget.as_json()} for epsilon, attack in attacks]
    raise KeyError(evaluation)


def _number_of_draws(sampling: str, n: int) -> dict[str, int]:
    return {"n": n} if sampling == "fixed" else {}


def _draws(draws: int, method_spec: MethodSpec) -> int:
    return draws if method_spec.is_randomised else 1


def _linf_budget(budget: LinfAttackBudget, share: float, method_spec: MethodSpec) -> dict[str, int]:
    """Columns of the l-infinity attack's budget, or of a share of its iterations and queries, each at least one."""
    scaled = {
        "apgd_iterations": budget.apgd.iterations,
        "pgd_iterations": budget.pgd.iterations,
        "queries": budget.square.queries,
    }
    return {
        **{column: max(1, round(share * value)) for column, value in scaled.items()},
        "apgd_restarts": budget.apgd.restarts,
        "pgd_restarts": budget.pgd.restarts,
        "draws": _draws(budget.draws, method_spec),
    }
