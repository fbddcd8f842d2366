"""What a profile costs: images through each network, and rows of evidence. Imports no torch.

Counted as the devices work: passes include the padding of batches to their one size, and every noise draw. One job's
passes are those of its whole network, part by part. Left out, as they cost nothing beside the others: attack_linear,
whose score is linear, and the rules that read, draw and write without a network.
"""

from typing import NamedTuple

import pandas as pd

from oodcert.attacks import REDUCED
from oodcert.authors_code.cost import cost as authors_code_cost
from oodcert.certification.adaptive import PILOT_DRAWS, PILOT_IMAGES, alpha_spending_schedule
from oodcert.config.components import declared_component
from oodcert.config.external_weights import imported
from oodcert.config.method_specs import bounds_of, components_of, computed_with, is_randomised, trained_components
from oodcert.data.overlaps import overlapping
from oodcert.data.sizes import image_count
from oodcert.errors import InputError
from oodcert.runtime.padding import images_per_batch, padded_count

EXACT, AT_MOST, ESTIMATE = COUNTS = ("exact", "at most", "estimate")  # how sure a count is, worse and worse
UNKNOWN_SIZE = 50_000  # images of a set that nobody has counted: as many as CIFAR-10 has for training
BACKWARD = 2  # forward passes that a backward pass takes as long as
TRAINING = {  # forward and backward passes of a part's own network per ID image of an epoch
    "plain": 1,
    "logitnorm": 1,
    "vos": 1,
    "denoiser": 1,
    "oe": 2,  # the image and an outlier
    "prood": 2,
    "acet": 2,
    "atom": 2,
    "discriminator": 3,  # the image, and interval bounds of an outlier, which count as two passes
    "good": 4,  # the image, an outlier, and its interval bounds
}
ON_BOUNDS = ("discriminator", "good")
EXAMPLES = 2  # images of each set that denoised_examples denoises
BYTES_PER_ROW = {  # of the evidence files of the committed digits run, whose largest these are
    "clean": 21,
    "guarantee_linf": 20,
    "attack_linf": 67,
    "sanity": 91,
    "certify_l2": 17,
    "attack_l2": 33,
    "certify_id": 30,
    "attack_id": 13,
    "published": 10,
    "attack_linear": 30,
    "train": 29,
}


class Job(NamedTuple):
    """One job, or its share of one that is for several methods: rule; job, the method or part it is for; images it
    works on; rows of its evidence file; count, how sure its passes are (one of COUNTS); passes, part -> (forward,
    backward)."""

    rule: str
    job: str
    images: int
    rows: int
    count: str
    passes: dict


def jobs(config):
    """All jobs that run networks, and attack_linear: a list of Job. config: checked, data.ood as it can be had.

    The first part of an evaluation is the one whose forward passes its sidecar records as network_calls; that of
    guarantee_linf follows the sidecar's convention, two passes an image for the interval bounds, though nothing is
    computed for a method that has none.
    """
    imports, sizes = imported(config), set_sizes(config)
    trained = dict.fromkeys([*trained_components(config["methods"], config["training"], imports), "denoiser"])
    found = [_training(config, sizes, part) for part in trained if part not in imports]
    rules = [rule for rule in EVALUATIONS if rule != "published" or config["evaluation"]["published"]]
    found += [evaluation_job(config, rule, method) for rule in rules for method in config["methods"]]
    data, sigmas = config["data"], config["evaluation"]["certify_l2"]["sigmas"]
    outside, shown = len(data["ood"]) * data["test_images"], EXAMPLES * (1 + len(data["ood"]))
    found.append(Job("attack_linear", "linear", outside, outside, EXACT, {}))
    found.append(Job("denoised_examples", "examples", shown, 0, EXACT, {"denoiser": (shown * len(sigmas), 0)}))
    return found


def evaluation_job(config, rule, method):
    """The Job of a method's evaluation. What methods that are computed together pass through their denoiser is that of
    the first of them alone."""
    images, rows, count, passes = EVALUATIONS[rule](config, config["methods"][method])
    if method != computed_with(rule, method, config["methods"])[0]:
        passes = {part: through for part, through in passes.items() if part != "denoiser"}
    return Job(rule, method, images, rows, count, passes)


def passes(jobs):
    """A row per job and network part: rule, job, part, images, forward, backward (images through the part), count."""
    rows = [
        (job.rule, job.job, part, job.images, *through, job.count)
        for job in jobs
        for part, through in job.passes.items()
    ]
    return pd.DataFrame(rows, columns=["rule", "job", "part", "images", "forward", "backward", "count"])


def evidence(jobs):
    """A row per evidence file: rule, job, rows, bytes; the rows are exact, the bytes an estimate (BYTES_PER_ROW)."""
    rows = [(job.rule, job.job, job.rows, job.rows * BYTES_PER_ROW[job.rule]) for job in jobs if job.rows]
    return pd.DataFrame(rows, columns=["rule", "job", "rows", "bytes"])


def hours(passes, rates):
    """Hours of one device for each row of `passes`; a backward pass counts as two forward passes.

    rates: forward passes (images) a second by part; "classifier" stands for every classifier without a rate of its own.
    Raises InputError where a part has none, and where a rate is of no part.
    """
    used = dict.fromkeys(passes["part"])
    unknown = rates.keys() - {*used, "classifier"}
    if unknown:
        raise InputError(
            f"Throughput of {', '.join(sorted(unknown))}: this profile has no such part. Its parts are "
            f"{', '.join(used)}; classifier stands for all classifiers."
        )
    found = {
        part: rates.get(part, None if part in ("discriminator", "denoiser") else rates.get("classifier"))
        for part in used
    }
    missing = [part for part, rate in found.items() if rate is None]
    if missing:
        raise InputError(
            f"Throughput of {', '.join(missing)} is missing: give it too, such as {missing[0]}=1000 images a second."
        )
    return (passes["forward"] + BACKWARD * passes["backward"]) / passes["part"].map(found) / 3600


def set_sizes(config):
    """Images of the sets on disk: dict of "id_train", "outliers", "id_test" and the OOD sets."""
    data = config["data"]
    return {
        **{key: image_count(*of, data, config["data_mirror"]) or UNKNOWN_SIZE for key, of in _whole_sets(data).items()},
        **dict.fromkeys(data["ood"], data["test_images"]),
    }


def uncounted(config):
    """Names of the sets whose size nobody knows here; UNKNOWN_SIZE stands for it."""
    sets = _whole_sets(config["data"]).values()
    return [
        f"{name} ({split})"
        for name, split in sets
        if image_count(name, split, config["data"], config["data_mirror"]) is None
    ]


def _whole_sets(data):
    return {"id_train": (data["id"], "train"), "outliers": (data["outliers"], "train"), "id_test": (data["id"], "test")}


def _training(config, sizes, part):
    """On top of TRAINING come attacks on outliers (attack_iterations), mining (pool), and the parts that it needs."""
    data, settings = config["data"], config["training"][part]
    epochs, images = settings["epochs"], sizes["id_train"]
    attacks = 1 + settings["attack_iterations"] if "attack_iterations" in settings else 0
    own = epochs * images * (TRAINING.get(part, 1) + attacks)
    mined = epochs * min(settings.get("pool", 0), sizes["outliers"])
    needed = {name: (epochs * images * TRAINING.get(part, 1), 0) for name in declared_component(part).needs}
    count = ESTIMATE if part in ON_BOUNDS or part not in TRAINING else EXACT
    if count == EXACT and mined and overlapping(data["outliers"], data["id"]):
        count = AT_MOST
    terms = 3 if part in ("plain", "logitnorm", "denoiser") else 4  # of the learning curve
    return Job("train", part, images, epochs * terms, count, {part: (own + mined, own), **needed})


def _clean(config, method_spec):
    data = config["data"]
    images = data["test_images"] * (1 + len(data["ood"]))
    more = 0 if is_randomised(method_spec) else data["accuracy_images"] - data["test_images"]
    calls = (1 + len(data["ood"])) * _deployed(config, method_spec, data["test_images"])
    calls += _deployed(config, method_spec, more)
    return images + more, images + more, EXACT, _through(method_spec, calls)


def _guarantee_linf(config, method_spec):
    images = _outside(config)
    bounded = "discriminator" if method_spec["discriminator"] else method_spec["classifier"]
    return images, images, ESTIMATE, {bounded: (2 * images, 0)}


def _attack_linf(config, method_spec):
    data, settings = config["data"], config["evaluation"]
    counts = _ensemble(config, method_spec, data["test_images"], settings["attack_linf"], settings["batch_size"])
    found = _through(method_spec, *(len(data["ood"]) * count for count in counts))
    return _outside(config), _outside(config), EXACT, found


def _sanity(config, method_spec):
    sets, settings = len(config["data"]["ood"]), config["evaluation"]
    images, budget, epsilons = settings["sanity"]["images"], settings["attack_linf"], settings["sanity"]["epsilons"]
    size = min(settings["batch_size"], images * _draws(method_spec, budget))
    full = _ensemble(config, method_spec, images, budget, size)
    less = {
        **budget,
        **{kind: {**budget[kind], "iterations": _share(budget[kind]["iterations"])} for kind in ("apgd", "pgd")},
        "square": {"queries": _share(budget["square"]["queries"])},
    }
    reduced = _ensemble(config, method_spec, images, less, size)
    counts = (sets * (len(epsilons) * all_ + few) for all_, few in zip(full, reduced, strict=True))
    return sets * images, sets * images * (len(epsilons) + 1), EXACT, _through(method_spec, *counts)


def _certify_l2(config, method_spec):
    data, settings = config["data"], config["evaluation"]["certify_l2"]
    adaptive = settings["sampling"] == "adaptive"
    stages, _ = alpha_spending_schedule(settings["sampling"], settings["n"], settings["alpha"])
    images, sets, sigmas = data["test_images"], 1 + len(data["ood"]), len(settings["sigmas"])
    bounds, radii = len(bounds_of(method_spec, settings["bounds"])), len(settings["radii"])
    calls = sigmas * sets * _sampled(config, images, stages)
    if len(stages) > 1:  # every shard of the ID images has a pilot
        pilot = _sampled(config, min(images, PILOT_IMAGES), [PILOT_DRAWS])
        calls += sigmas * min(config["shards"], images) * pilot
    rows = sigmas * images * bounds * ((sets - 1) * radii + (1 if adaptive else radii))
    return images * sets, rows, AT_MOST if adaptive else EXACT, _through(method_spec, calls)


def _attack_l2(config, method_spec):
    images, settings = config["data"]["test_images"], config["evaluation"]["attack_l2"]
    radii = {0.0, *config["evaluation"]["certify_l2"]["radii"]}
    times = len(settings["sigmas"]) * len(config["data"]["ood"])
    padded = padded_count(images, images_per_batch(config["evaluation"]["batch_size"], settings["draws"], images))
    gradients = (1 + settings["restarts"]) * (1 + settings["iterations"])
    backward = times * (len(radii) - 1) * padded * settings["draws"] * gradients
    forward = backward + times * len(radii) * _sampled(config, images, [settings["n"]])
    rows = times * images * len(radii)
    return _outside(config), rows, EXACT, _through(method_spec, forward, backward)


def _certify_id(config, method_spec):
    images, settings = config["data"]["test_images"], config["evaluation"]["certify_id"]
    stages, _ = alpha_spending_schedule(settings["sampling"], settings["n"], settings["alpha"])
    calls = _sampled(config, images, [settings["n0"] + drawn for drawn in stages])
    times, count = len(settings["sigmas"]), EXACT if settings["sampling"] == "fixed" else AT_MOST
    return images, times * images, count, _through(method_spec, times * calls)


def _attack_id(config, method_spec):
    """AutoAttack as pyautoattack runs it. "standard" leaves out the images that it has broken: at most these passes."""
    images, settings = config["data"]["test_images"], config["evaluation"]["attack_id"]
    budget = settings["randomised" if is_randomised(method_spec) else "deterministic"]
    iterations, steps = budget["iterations"], (1 + budget["iterations"]) * budget["eot"]
    scored = _deployed(config, method_spec, images)
    if budget["version"] == "rand":
        attacks, count, checked = 2, EXACT, 0
        backward = 2 * steps
        forward = backward + 2
    else:
        attacks, count = 4, AT_MOST
        targets = min(9, config["data"]["num_classes"] - 1)
        checked = 8 * images  # before each attack
        backward = steps + targets * (1 + iterations) + targets * iterations  # of apgd-ce, apgd-t and fab-t
        forward = backward + 2 + (2 + targets) + (2 + targets * (3 + iterations)) + (4 + budget["queries"])
    times = len(settings["epsilons"])
    batches = -(-images // config["evaluation"]["batch_size"])
    calls = scored + times * (batches + attacks * (checked + scored) + images * forward)
    rows = times * images * (attacks + 1)
    return images, rows, count, _through(method_spec, calls, times * images * backward)


def _published(config, method_spec):
    images, rows, passes = authors_code_cost(config, method_spec)
    return images, rows, EXACT, passes


EVALUATIONS = {  # rule -> function of (config, method_spec): images, rows, count, passes of the Job
    "clean": _clean,
    "guarantee_linf": _guarantee_linf,
    "attack_linf": _attack_linf,
    "sanity": _sanity,
    "certify_l2": _certify_l2,
    "attack_l2": _attack_l2,
    "certify_id": _certify_id,
    "attack_id": _attack_id,
    "published": _published,
}


def _ensemble(config, method_spec, images, budget, batch_size):
    """Passes of attack_linf on one OOD set: (forward, backward, those of the discriminator alone)."""
    joint, draws = method_spec["discriminator"], _draws(method_spec, budget)
    padded = padded_count(images, images_per_batch(batch_size, draws, images))
    starts = 1 + 2 * budget["pgd"]["restarts"] + joint  # decontrast, uniform and gaussian, and the discriminator's
    gradients = budget["apgd"]["restarts"] * (1 + budget["apgd"]["iterations"])
    gradients += starts * (1 + budget["pgd"]["iterations"])
    candidates = 6 + joint  # the clean image and each attack's
    forward = draws * padded * (gradients + budget["square"]["queries"])
    forward += candidates * _deployed(config, method_spec, images, batch_size)
    return forward, draws * padded * gradients, joint * padded * (1 + budget["pgd"]["iterations"])


def _deployed(config, method_spec, images, batch_size=None):
    """Passes of the deployed method's scores of one set."""
    draws = _draws(method_spec, config["evaluation"])
    size = batch_size or config["evaluation"]["batch_size"]
    return draws * padded_count(images, images_per_batch(size, draws, config["data"]["test_images"]))


def _sampled(config, images, stages):
    """Passes of noise draws of one set: of at most stages[-1] an image, in full batches but for the last.

    With several stages, and in one piece, a batch is short only where every image under way has come to the end of its
    stage, so at most one a stage.
    """
    size = config["evaluation"]["batch_size"]
    return (images * stages[-1] + len(stages) * (size - 1)) // size * size


def _through(method_spec, forward, backward=0, alone=0):
    """part -> (forward, backward) where every part sees every image; alone: further ones, of the discriminator."""
    more = {"discriminator": alone}
    return {part: (forward + more.get(part, 0), backward + more.get(part, 0)) for part in components_of(method_spec)}


def _draws(method_spec, settings):
    return settings["draws"] if is_randomised(method_spec) else 1


def _outside(config):
    return len(config["data"]["ood"]) * config["data"]["test_images"]


def _share(count):
    return max(1, round(REDUCED * count))
