"""What a profile's networks weigh and how fast they are here: bytes on disk and in memory, and forward passes a second.

Weights are exact, on networks without storage (torch's meta device). Memory is an estimate: see `memory`.
"""

import time
from inspect import signature
from math import prod

import pandas as pd
import torch
from torch.autograd.graph import saved_tensors_hooks

from oodcert.certification.monte_carlo import BATCH_VALUES
from oodcert.config.external_weights import imported
from oodcert.config.method_specs import components_of, computed_with, trained_components
from oodcert.errors import InputError
from oodcert.execution.cost import TRAINING, evidence, set_sizes
from oodcert.models.components import build_component
from oodcert.runtime.memory import is_out_of_memory

PROGRAM = 890_000_000  # bytes of a process that has imported what jobs import, and run a network (torch for CPUs)
ROW = 250  # bytes of a row of evidence in memory, while tables are put together
DRAW = 80  # bytes of a draw in memory, while bounds are computed from an image's or a set's draws
COPIES = 4  # of the weights of a part in training: weights, gradients and what the optimizer keeps
WITH_GRADIENTS = 2  # times what a forward pass keeps, for the gradients and the layers' workspace
PAIR = 2  # images of a trial pass, for a group norm of one value needs more than one
BATCHES, SECONDS = 3, 0.5  # that a measurement takes at least
SMALLEST, WORTH = 32, 1.05  # batch size that is tried first; what twice a batch must gain to be worth it


def parts(config):
    """All parts of a profile, trained and imported ones: name -> module, without storage unless it is one's own."""
    data, networks = config["data"], _networks(config)
    trained = trained_components(config["methods"], config["training"], imported(config))
    used = (part for method_spec in config["methods"].values() for part in components_of(method_spec))
    found = {}
    for part in dict.fromkeys([*trained, *used, "denoiser"]):
        own = networks.get(part, {}).get("name") == "own"
        with torch.device("cpu" if own else "meta"):
            module = build_component(part, networks, data["image_shape"], data["num_classes"])
        found[part] = module if own else module.to("meta")
    return found


def weight_bytes(module):
    """Bytes of a part's tensors in its file, header aside."""
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def activation_bytes(module, image_shape):
    """(kept, largest) bytes an image: what a forward pass keeps for its backward pass, and its largest layer's input
    and output, which is what a pass without gradients needs. In float32."""
    kept, layers = {}, [0]

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept.setdefault(storage._cdata, (storage, tensor.numel() * tensor.element_size()))
        return tensor

    def layer(_, inputs, output):
        tensors = [one for one in (*inputs, output) if torch.is_tensor(one)]
        layers.append(sum(one.numel() * one.element_size() for one in tensors))

    leaves = [one for one in module.modules() if not any(one.children())]
    hooks = [leaf.register_forward_hook(layer) for leaf in leaves]
    own = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        device = next((tensor.device for tensor in module.state_dict().values()), "cpu")
        _forward(module.eval(), torch.zeros(PAIR, *image_shape, device=device))
    for hook in hooks:
        hook.remove()
    return sum(size for key, (_, size) in kept.items() if key not in own) // PAIR, max(layers) // PAIR


def disk(config, jobs):
    """Bytes by kind: evidence (an estimate), models (exact but for the files' headers), image sets (at most: npz files
    are compressed). Downloads and figures are not counted."""
    bytes_per_image = prod(config["data"]["image_shape"]) + 16  # a label and an id of 8 bytes each
    return {
        "evidence": int(evidence(jobs)["bytes"].sum()),
        "models": sum(map(weight_bytes, parts(config).values())),
        "image sets": bytes_per_image * sum(set_sizes(config).values()),
    }


def memory(config, jobs):
    """Estimated peak bytes of each job: rule, job, images, scores, networks, total, which has PROGRAM in it. Of methods
    that are computed together each has those of their one job.

    images: the sets, as bytes, twice in training, where they are laid out anew, and what an attack or an evaluation
    holds of one set as float32. scores: rows and draws. networks: weights, four times in training, and activations of
    one batch: where gradients are taken twice what the pass keeps for them, else the largest layer's. On a GPU the
    networks are in its memory, and the images of a training too; that of its libraries comes on top.
    """
    sizes, shape, modules = set_sizes(config), config["data"]["image_shape"], parts(config)
    weights = {part: weight_bytes(module) for part, module in modules.items()}
    activations = {part: activation_bytes(module, shape) for part, module in modules.items()}
    rows = []
    for job in jobs:
        if job.passes and job.rule != "denoised_examples":
            measure = _training if job.rule == "train" else _evaluation
            found = measure(config, job, sizes, weights, activations)
            rows.append((job.rule, job.job, *found, PROGRAM + sum(found)))
    return pd.DataFrame(rows, columns=["rule", "job", "images", "scores", "networks", "total"])


def _training(config, job, sizes, weights, activations):
    images = 2 * (sizes["id_train"] + sizes["outliers"]) * prod(config["data"]["image_shape"])
    batch = config["training"][job.job]["batch_size"] * TRAINING.get(job.job, 1)
    kept = WITH_GRADIENTS * sum(activations[part][0] for part in job.passes)
    held = COPIES * weights[job.job] + sum(weights[part] for part in job.passes)
    return images, 0, held + batch * kept


def _evaluation(config, job, sizes, weights, activations):
    data, settings, values = config["data"], config["evaluation"], prod(config["data"]["image_shape"])
    methods, test = computed_with(job.rule, job.job, config["methods"]), data["test_images"]
    of_methods = dict.fromkeys(part for method in methods for part in components_of(config["methods"][method]))
    inside = 0 if job.rule in ("guarantee_linf", "attack_linf", "sanity", "attack_l2") else sizes["id_test"]
    outside = 0 if job.rule in ("certify_id", "attack_id") else test * len(data["ood"])
    floats = {"clean": max(test, data["accuracy_images"] - test), "attack_linf": 8 * test, "attack_l2": 3 * test}
    images = values * (inside + outside + 4 * floats.get(job.rule, test))
    draws = test * settings["attack_l2"]["n"] if job.rule == "attack_l2" else 0
    gradients = any(backward for _, backward in job.passes.values())
    layers = [activations[part] for part in of_methods]
    kept = WITH_GRADIENTS * sum(one for one, _ in layers) if gradients else max(largest for _, largest in layers)
    networks = sum(weights[part] for part in of_methods) + settings["batch_size"] * kept
    return images, DRAW * draws + ROW * job.rows * len(methods), networks


def measured_rates(config, names, device):
    """Forward passes (images) a second on a device, in batches of evaluation.batch_size, of every network that the
    parts `names` have: by part where it has a network of its own, "classifier" for the others. Weights are fresh."""
    images = torch.rand(config["evaluation"]["batch_size"], *config["data"]["image_shape"], device=device)
    return {name: _rate(module, images) for name, module in _measured(config, names, device)}


def best_batches(config, names, device):
    """(batch size, rate) of these networks, in the precision of certify_l2: the first power of two whose double is not
    WORTH it or does not fit; no batch has more values than oodcert.certification.monte_carlo gives one by default."""
    precision, shape = config["evaluation"]["certify_l2"].get("precision", "float32"), config["data"]["image_shape"]
    found = {}
    for name, module in _measured(config, names, device):
        larger = SMALLEST
        while name not in found or larger * prod(shape) <= BATCH_VALUES:
            try:
                with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                    rate = _rate(module, torch.rand(larger, *shape, device=device))
            except RuntimeError as error:
                if name not in found or not is_out_of_memory(error):
                    raise
                break
            if name in found and rate < WORTH * found[name][1]:
                break
            found[name], larger = (larger, rate), 2 * larger
    return found


def _measured(config, names, device):
    """(name, module on the device) of every network that the parts have, once each."""
    data, networks, seen = config["data"], _networks(config), set()
    for part in names:
        name = part if part in networks else "classifier"
        if name not in seen:
            seen.add(name)
            yield name, build_component(part, networks, data["image_shape"], data["num_classes"]).to(device).eval()


def _networks(config):
    """The config's networks, and those of imported parts."""
    return config["networks"] | {name: one.network for name, one in imported(config).items()}


def _rate(module, images):
    with torch.inference_mode():
        _timed(module, images)
        batches, seconds = 0, 0.0
        while batches < BATCHES or seconds < SECONDS:
            batches, seconds = batches + 1, seconds + _timed(module, images)
    return batches * len(images) / seconds


def _timed(module, images):
    started = time.perf_counter()
    _forward(module, images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _forward(module, images):
    """One pass; of a denoiser through its noise model, whose timestep needs a storage, or of one's own with a sigma."""
    if hasattr(module, "noise_model"):
        return module.noise_model(images, torch.zeros(len(images), device=images.device))
    needed = [one for one in signature(module.forward).parameters.values() if one.default is one.empty]
    try:
        return module(images, 0.25) if len(needed) == 2 else module(images)
    except Exception as error:  # one's own is any code
        raise InputError(
            f"The network {type(module).__name__} fails on images of shape {tuple(images.shape)} ({error!r}). Correct "
            "it, or data.image_shape of the config."
        ) from error
