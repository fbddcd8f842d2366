"""How an evaluation is cut: in shards, each a job of its own, and in pieces, after each of which its job can resume.

No result depends on it: noise is keyed by image, and cuts lie between batches, so that every batch holds what it would
hold anyway; with adaptive sampling it has the same shape, at least. Imports no torch.
"""

from itertools import chain
from math import gcd, lcm
from typing import NamedTuple

from oodcert.config.method_specs import computed_with, is_randomised
from oodcert.execution.cost import BACKWARD, evaluation_job

SETS = {  # of every evaluation that can be cut: the ID set, the OOD sets, or both
    "certify_l2": ("id", "ood"),
    "attack_linf": ("ood",),
    "sanity": ("ood",),
    "attack_l2": ("ood",),
    "certify_id": ("id",),
    "attack_id": ("id",),
    "published": ("id", "ood"),
}
QUANTITIES = {  # of published: what is computed by itself, and of which sets
    "scores": ("id", "ood"),
    "bounds": ("id", "ood"),
    "attacks": ("ood",),
    "votes": ("id", "ood"),
    "labels": ("id",),
}


class Cell(NamedTuple):
    """What is never cut: images start to stop - 1 of a set, which fill batches.

    quantity: one of the QUANTITIES, or None where the evaluation has a single one.
    """

    quantity: str | None
    name: str
    start: int
    stop: int


def cells(config, evaluation, method):
    """Stage -> its cells, in order; "all", or "id" before "ood", where sampling on OOD images needs all ID bounds."""
    settings, names = config["evaluation"], {"id": ["id"], "ood": config["data"]["ood"]}
    if evaluation == "published":
        images = settings["published"]["images"]
        found = [
            Cell(quantity, name, 0, images)
            for quantity, sides in QUANTITIES.items()
            for side in sides
            if not _is_empty(quantity, side, config["methods"][method])
            for name in names[side]
        ]
        return {"all": found}
    images = settings["sanity"]["images"] if evaluation == "sanity" else config["data"]["test_images"]
    size = _whole_batches(evaluation, settings, config["methods"][method])
    found = {
        side: [
            Cell(None, name, start, min(start + size, images))
            for name in names[side]
            for start in range(0, images, size)
        ]
        for side in SETS[evaluation]
    }
    if evaluation == "certify_l2" and settings["certify_l2"]["sampling"] == "adaptive":
        return found
    return {"all": [*chain(*found.values())]}


def _is_empty(quantity, side, method_spec):
    """Whether a quantity of published is not computed: interval bounds of ID images are those of joint models alone."""
    if quantity == "labels":
        return not is_randomised(method_spec)
    return quantity == "bounds" and side == "id" and not method_spec["discriminator"]


def _whole_batches(evaluation, settings, method_spec):
    """The least number of a set's images that fill batches, all that an evaluation makes of them."""
    size, randomised = settings["batch_size"], is_randomised(method_spec)
    deployed = max(1, size // (settings["draws"] if randomised else 1))
    if evaluation == "attack_linf":
        return lcm(deployed, max(1, size // (settings["attack_linf"]["draws"] if randomised else 1)))
    if evaluation == "attack_id":
        return lcm(deployed, size)
    if evaluation == "sanity":
        return settings["sanity"]["images"]
    own = settings[evaluation]
    if own.get("sampling") == "adaptive":
        return 1  # how many draws an image takes is not known
    drawn = size // gcd(size, own.get("n0", 0) + own["n"])
    return lcm(drawn, max(1, size // own["draws"])) if evaluation == "attack_l2" else drawn


def shards(config, evaluation, method):
    """Stage -> names of its shards, "<stage>-<i>-of-<k>": as many as config shards, but no empty one."""
    found = {}
    for stage, all_cells in cells(config, evaluation, method).items():
        count = min(config["shards"], len(all_cells))
        found[stage] = [f"{stage}-{index + 1}-of-{count}" for index in range(count)]
    return found


def pieces(config, evaluation, method, shard=None):
    """Stage -> its pieces, in order: dicts quantity -> set -> (start, stop), of about config chunk passes each.

    Methods that are computed together have the same pieces, by the passes of all of them. shard: the name of one, whose
    pieces alone are given.
    """
    whole = cells(config, evaluation, method)
    if shard is not None:
        whole = {shard.split("-")[0]: _cells_of(shard, whole)}
    found, per_cell = {}, _passes_of_a_cell(config, evaluation, method)
    for stage, own in whole.items():
        count = min(len(own), max(1, round(len(own) * per_cell / config["chunk"])))
        found[stage] = [_joined(piece) for piece in _cut(own, count)]
    return found


def content(config, evaluation, method, shard):
    """What a shard holds, as JSON has it: quantity -> set -> [start, stop]."""
    joined = _joined(_cells_of(shard, cells(config, evaluation, method)))
    return {str(quantity): {name: [*span] for name, span in spans.items()} for quantity, spans in joined.items()}


def _cells_of(shard, whole):
    stage, index, _, count = shard.split("-")
    return _cut(whole[stage], int(count))[int(index) - 1]


def _passes_of_a_cell(config, evaluation, method):
    jobs = (evaluation_job(config, evaluation, one) for one in computed_with(evaluation, method, config["methods"]))
    count = sum(map(len, cells(config, evaluation, method).values()))
    return sum(forward + BACKWARD * backward for job in jobs for forward, backward in job.passes.values()) / count


def _cut(items, count):
    return [items[len(items) * index // count : len(items) * (index + 1) // count] for index in range(count)]


def _joined(piece):
    """quantity -> name -> (start, stop), from neighbouring cells."""
    found = {}
    for quantity, name, start, stop in piece:
        spans = found.setdefault(quantity, {})
        spans[name] = (spans.get(name, (start,))[0], stop)
    return found
