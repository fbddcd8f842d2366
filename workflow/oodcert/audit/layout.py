"""What a run of a config consists of: its files, and the settings, inputs and rows of each piece of evidence.

Written down apart from the rules and the evaluations, so that each is checked against the other.
"""

from itertools import product

from oodcert.attacks import ATTACK_ALPHA, AUTOATTACK, REDUCED
from oodcert.config.external_weights import networks_of, trained
from oodcert.config.method_specs import bounds_of, components_of, is_randomised, needed_components
from oodcert.reporting.figures import FIGURES
from oodcert.reporting.tables import TABLES
from oodcert.reporting.tables.values import WORST_CASE

KEYS = {  # columns that, beside set and sample, tell the rows of an evaluation apart
    "clean": (),
    "guarantee_linf": ("epsilon",),
    "attack_linf": ("epsilon",),
    "sanity": ("epsilon", "share"),
    "certify_l2": ("sigma", "bound", "radius"),
    "attack_l2": ("sigma", "radius"),
    "certify_id": ("sigma",),
    "attack_id": ("epsilon", "attack"),
    "attack_linear": ("epsilon",),
    "published": ("corrected_flag", "quantity"),
}
ID_ONLY, OOD_ONLY = ("certify_id", "attack_id"), ("guarantee_linf", "attack_linf", "sanity", "attack_l2")


def names_of(config, evaluation):
    """Names of an evaluation's files: methods, parts, or the linear score, in the order of the tables and figures."""
    if evaluation == "training":
        return trained(config)
    if evaluation == "published" and not config["evaluation"]["published"]:
        return []
    return ["linear"] if evaluation == "attack_linear" else [*config["methods"]]


def tables_of(config):
    """Names of the tables of a run: the ablation only where the published protocol is evaluated."""
    return [name for name in TABLES if name != "ablation" or config["evaluation"]["published"]]


def drawings_of(config):
    """Names of the figures of a run: learning curves only where something is trained, and the ablation likewise."""
    absent = {"training": not trained(config), "ablation": not config["evaluation"]["published"]}
    return [name for name in FIGURES if not absent.get(name)]


def files_of(config):
    """Names, as in a manifest, of all files that a run must have."""
    evidence = [f"evidence/{one}/{name}" for one in (*KEYS, "training") for name in names_of(config, one)]
    return [
        "checks.csv",
        "evidence/denoised.npz",
        *(f"{stem}.{kind}" for stem in evidence for kind in ("parquet", "json")),
        *(f"tables/{table}.{kind}" for table in tables_of(config) for kind in ("csv", "md", "tex")),
        *(f"figures/{name}.{kind}" for name in drawings_of(config) for kind in ("pdf", "png")),
    ]


def settings_of(config, evaluation, name):
    """The settings with which evidence/<evaluation>/<name> is computed, of an evaluation in KEYS or the training."""
    whole, data = config["evaluation"], config["data"]
    settings = {key: config[key] for key in ("seed", "device", "threads")}
    settings |= {key: data[key] for key in ("image_shape", "num_classes")}
    if evaluation == "training":
        parts = [name, *needed_components(name, config["training"])]
        return settings | {"networks": networks_of(parts, config), "settings": config["training"][name]}
    linf = {"budget": whole["attack_linf"], "epsilon": whole["epsilon"]}
    if evaluation == "attack_linear":
        return settings | linf
    method_spec, deployed = config["methods"][name], {key: whole[key] for key in ("sigma", "draws")}
    certified = whole["certify_l2"]
    own = {
        "clean": {**deployed, "accuracy_images": data["accuracy_images"]},
        "guarantee_linf": {"epsilon": whole["epsilon"]},
        "attack_linf": {**deployed, **linf},
        "sanity": {**deployed, **linf, **whole["sanity"]},
        "certify_l2": certified,
        "attack_l2": whole["attack_l2"] | {key: certified[key] for key in ("radii", "precision") if key in certified},
        "certify_id": whole["certify_id"],
        "attack_id": {
            **deployed,
            "epsilons": whole["attack_id"]["epsilons"],
            "budget": _autoattack(whole, method_spec),
        },
        "published": {
            **deployed,
            **(whole["published"] or {}),
            "epsilon": whole["epsilon"],
            "budget": {key: whole["attack_linf"][key] for key in ("apgd", "pgd", "draws")},
            **{key: certified[key] for key in ("bounds", "alpha")},
            "epsilons": whole["attack_id"]["epsilons"],
            "autoattack": _autoattack(whole, method_spec),
        },
    }
    common = {"test_images": data["test_images"], "batch_size": whole["batch_size"], "method_spec": method_spec}
    return settings | common | {"networks": networks_of(components_of(method_spec), config)} | own[evaluation]


def inputs_of(config, evaluation, name):
    """Paths of the weights and image sets that it is computed from, as in the sidecars."""
    profile, methods = config["profile"], config["methods"]
    if evaluation == "training":
        sets, parts = ["id_train", "outliers"], needed_components(name, config["training"])
    else:
        sets = [*([] if evaluation in (*OOD_ONLY, "attack_linear") else ["id_test"])]
        sets += [] if evaluation in ID_ONLY else config["data"]["ood"]
        parts = components_of(methods[name]) if name in methods else []
    weights = [f"results/{profile}/models/{part}.safetensors" for part in parts]
    return {*weights, *(f"data/{profile}/{one}.npz" for one in sets)}


def rows_of(config, evaluation, name):
    """(set, first, last, rows) of every image set: its images first .. last - 1 have these rows each; not of the
    evaluation published (see oodcert.audit.authors_code).

    rows: list of dicts, the KEYS of the evaluation and every other column that the config fixes. first and last count
    the images that are evaluated, those of "id_more" after those of "id".
    """
    data, n, rows = config["data"], config["data"]["test_images"], _rows(config, evaluation, name)
    count = config["evaluation"]["sanity"]["images"] if evaluation == "sanity" else n
    found = [] if evaluation in ID_ONLY else [(one, 0, count, rows) for one in data["ood"]]
    if evaluation in (*ID_ONLY, "clean"):
        found.append(("id", 0, n, rows))
    if evaluation == "certify_l2":
        adaptive = config["evaluation"][evaluation]["sampling"] == "adaptive"
        found.append(("id", 0, n, [row for row in rows if row["radius"] == 0 or not adaptive]))
    if evaluation == "clean" and data["accuracy_images"] > n and not is_randomised(config["methods"][name]):
        found.append(("id_more", n, data["accuracy_images"], rows))
    return found


def _rows(config, evaluation, name):
    whole, method_spec = config["evaluation"], config["methods"].get(name)
    settings = whole.get(evaluation)
    if evaluation == "clean":
        return [{"draws": _draws(whole["draws"], method_spec)}]
    if evaluation in ("guarantee_linf", "attack_linear"):
        return [{"epsilon": whole["epsilon"]}]
    if evaluation == "attack_linf":
        return [{"epsilon": whole["epsilon"], **_linf_budget(settings, 1.0, method_spec)}]
    if evaluation == "sanity":
        runs = [*((epsilon, 1.0) for epsilon in settings["epsilons"]), (whole["epsilon"], REDUCED)]
        budget = whole["attack_linf"]
        return [
            {"epsilon": epsilon, "share": share, **_linf_budget(budget, share, method_spec)} for epsilon, share in runs
        ]
    if evaluation == "certify_l2":
        bounds, fixed = bounds_of(method_spec, settings["bounds"]), {"alpha": settings["alpha"]} | _fixed(settings)
        points = product(settings["sigmas"], bounds, settings["radii"])
        return [{"sigma": sigma, "bound": bound, "radius": radius, **fixed} for sigma, bound, radius in points]
    if evaluation == "attack_l2":
        fixed = {key: settings[key] for key in ("n", "iterations", "restarts", "draws")} | {"alpha": ATTACK_ALPHA}
        points = product(settings["sigmas"], sorted({0.0, *whole["certify_l2"]["radii"]}))
        return [{"sigma": sigma, "radius": radius, **fixed} for sigma, radius in points]
    if evaluation == "certify_id":
        fixed = {key: settings[key] for key in ("n0", "alpha")} | _fixed(settings)
        return [{"sigma": sigma, **fixed} for sigma in settings["sigmas"]]
    budget = _autoattack(whole, method_spec)
    points = product(settings["epsilons"], (*AUTOATTACK[budget["version"]], WORST_CASE))
    return [{"epsilon": epsilon, "attack": attack, **budget} for epsilon, attack in points]


def _fixed(settings):
    return {"n": settings["n"]} if settings["sampling"] == "fixed" else {}


def _draws(draws, method_spec):
    return draws if is_randomised(method_spec) else 1


def _autoattack(whole, method_spec):
    return whole["attack_id"]["randomised" if is_randomised(method_spec) else "deterministic"]


def _linf_budget(budget, share, method_spec):
    """Columns of the l-infinity attack's budget, or of a share of its iterations and queries, each at least one."""
    less = {f"{kind}_iterations": budget[kind]["iterations"] for kind in ("apgd", "pgd")}
    less |= {"queries": budget["square"]["queries"]}
    restarts = {f"{kind}_restarts": budget[kind]["restarts"] for kind in ("apgd", "pgd")}
    scaled = {column: max(1, round(share * value)) for column, value in less.items()}
    return scaled | restarts | {"draws": _draws(budget["draws"], method_spec)}
