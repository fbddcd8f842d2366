"""The released networks once more, written straight on the tensors of their files by name, with nothing of oodcert.

The facts come from the repositories that published them: AlexMeinke/Provable-OOD-Detection, j-cb/GOOD,
hongxin001/logitnorm_ood, deeplearning-wisc/vos, jfc43/informative-outlier-mining and openai/improved-diffusion.
"""

import gzip
import json
from math import cos, exp, log, pi, prod, sqrt
from pathlib import Path

import torch
from torch.nn import functional as F

CHECKPOINTS = Path(__file__).parents[1] / "data" / "checkpoints.json.gz"  # format -> name of a tensor -> its shape


def released_shapes():
    return json.loads(gzip.decompress(CHECKPOINTS.read_bytes()))


def random_state(shapes, seed=0):
    """Random tensors of the given names and shapes, such that activations neither fade nor explode."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
        elif name.endswith("running_var"):
            state[name] = noise.abs() + 0.5
        elif name.endswith("L5.weight"):
            state[name] = 0.5 * noise - 5  # the logarithm of the last layer's weights
        elif len(shape) > 1:
            state[name] = noise / sqrt(prod(shape[1:]))
        else:
            state[name] = 0.3 * noise + (1.0 if name.endswith("weight") else 0.0)
    return state


def _conv(x, w, name, stride=1):
    weight = w[f"{name}.weight"]
    return F.conv2d(x, weight, w.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2)


def _linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _batch_norm(x, w, name):
    mean, var, weight, bias = (
        w[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def _normalised(x, mean, std):
    return torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], 1)


def resnet18(x, w):
    x = F.relu(_batch_norm(_conv(x, w, "conv1"), w, "bn1"))
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = F.relu(_batch_norm(_conv(x, w, f"{name}.conv1", stride), w, f"{name}.bn1"))
            y = _batch_norm(_conv(y, w, f"{name}.conv2"), w, f"{name}.bn2")
            if f"{name}.shortcut.0.weight" in w:
                x = _batch_norm(_conv(x, w, f"{name}.shortcut.0", stride), w, f"{name}.shortcut.1")
            x = F.relu(x + y)
    return _linear(F.avg_pool2d(x, 4).flatten(1), w, "linear")


def discriminator(x, w):
    x = F.relu(_conv(x, w, "C1"))
    x = F.relu(_conv(x, w, "C2", stride=2))
    x = F.avg_pool2d(F.relu(_conv(x, w, "C3")), 2).flatten(1)
    x = F.relu(_linear(x, w, "L4"))
    return w["L5.bias"] - x @ torch.exp(w["L5.weight"]).T


def joint(x, w):
    base, detector = (
        {key.removeprefix(part): tensor for key, tensor in w.items() if key.startswith(part)}
        for part in ("base_model.", "detector.")
    )
    inside = 1 / (1 + torch.exp(-discriminator(x, detector)))
    classes = resnet18(x, base).softmax(1)
    return torch.log(classes * inside + (1 - inside) / classes.shape[1])


def good(x, w):
    for layer, stride in zip(("C1", "C2", "C3", "C4", "C5"), (1, 1, 2, 1, 1), strict=True):
        x = F.relu(_conv(x, w, layer, stride))
    x = F.relu(_linear(x.flatten(1), w, "L6"))
    return _linear(F.relu(_linear(x, w, "L7")), w, "L8")


def _wideresnet(x, w):
    x = _conv(x, w, "conv1")
    for stage in range(1, 4):
        for index in range(6):
            name, stride = f"block{stage}.layer.{index}", 2 if stage > 1 and index == 0 else 1
            active = F.relu(_batch_norm(x, w, f"{name}.bn1"))
            y = _conv(
                F.relu(_batch_norm(_conv(active, w, f"{name}.conv1", stride), w, f"{name}.bn2")), w, f"{name}.conv2"
            )
            x = y + (_conv(active, w, f"{name}.convShortcut", stride) if index == 0 else x)
    return _linear(F.avg_pool2d(F.relu(_batch_norm(x, w, "bn1")), 8).flatten(1), w, "fc")


def logitnorm(x, w):
    return _wideresnet(_normalised(x, (0.492, 0.482, 0.446), (0.247, 0.244, 0.262)), w)


def vos(x, w):
    return _wideresnet(_normalised(255 * x, (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)), w)


def densenet(x, w):
    x = _conv(_normalised(255 * x, (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)), w, "conv1")
    for stage in range(1, 4):
        for index in range(16):
            name = f"block{stage}.layer.{index}"
            y = _conv(F.relu(_batch_norm(x, w, f"{name}.bn1")), w, f"{name}.conv1")
            y = _conv(F.relu(_batch_norm(y, w, f"{name}.bn2")), w, f"{name}.conv2")
            x = torch.cat([x, y], 1)
        if stage < 3:
            x = F.avg_pool2d(_conv(F.relu(_batch_norm(x, w, f"trans{stage}.bn1")), w, f"trans{stage}.conv1"), 2)
    return _linear(F.avg_pool2d(F.relu(_batch_norm(x, w, "bn1")), 8).flatten(1), w, "fc")


def _group_norm(x, w, name):
    grouped = x.reshape(len(x), 32, -1)
    mean, var = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, unbiased=False)
    x = ((grouped - mean) / (var + 1e-5).sqrt()).reshape(x.shape)
    shape = (-1, *(1,) * (x.ndim - 2))
    return x * w[f"{name}.weight"].reshape(shape) + w[f"{name}.bias"].reshape(shape)


def _silu(x):
    return x * torch.sigmoid(x)


def _residual(x, embedding, w, name):
    y = _conv(_silu(_group_norm(x, w, f"{name}.in_layers.0")), w, f"{name}.in_layers.2")
    scale_shift = _linear(_silu(embedding), w, f"{name}.emb_layers.1")[..., None, None]
    scale, shift = scale_shift[:, : y.shape[1]], scale_shift[:, y.shape[1] :]
    y = _silu(_group_norm(y, w, f"{name}.out_layers.0") * (1 + scale) + shift)
    y = _conv(y, w, f"{name}.out_layers.3")
    return y + (_conv(x, w, f"{name}.skip_connection") if f"{name}.skip_connection.weight" in w else x)


def _attention(x, w, name, heads=4):
    """One head after the other; its queries, keys and values are consecutive rows of qkv."""
    flat = x.flatten(2)
    qkv = w[f"{name}.qkv.weight"][:, :, 0] @ _group_norm(flat, w, f"{name}.norm") + w[f"{name}.qkv.bias"][:, None]
    size, mixed = x.shape[1] // heads, []
    for head in range(heads):
        query, key, value = qkv[:, 3 * size * head : 3 * size * (head + 1)].split(size, 1)
        weights = torch.softmax(torch.einsum("nct,ncs->nts", query, key) / sqrt(size), 2)
        mixed.append(torch.einsum("nts,ncs->nct", weights, value))
    out = w[f"{name}.proj_out.weight"][:, :, 0] @ torch.cat(mixed, 1) + w[f"{name}.proj_out.bias"][:, None]
    return x + out.reshape(x.shape)


def improved_unet(x, timestep, w):
    """All six outputs, at a timestep out of 4000."""
    half = w["time_embed.0.weight"].shape[1] // 2
    angles = torch.tensor([timestep / 4 * exp(-log(10000) * k / half) for k in range(half)], dtype=x.dtype)
    embedding = torch.cat([angles.cos(), angles.sin()])[None]
    embedding = _linear(_silu(_linear(embedding, w, "time_embed.0")), w, "time_embed.2")

    def block(x, name):
        for layer in range(3):
            part = f"{name}.{layer}"
            if f"{part}.in_layers.0.weight" in w:
                x = _residual(x, embedding, w, part)
            elif f"{part}.qkv.weight" in w:
                x = _attention(x, w, part)
            elif f"{part}.op.weight" in w:
                x = _conv(x, w, f"{part}.op", stride=2)
            elif f"{part}.conv.weight" in w:
                x = _conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), w, f"{part}.conv")
            elif f"{part}.weight" in w:
                x = _conv(x, w, part)
        return x

    kept = []
    for index in range(16):
        x = block(x, f"input_blocks.{index}")
        kept.append(x)
    x = block(x, "middle_block")
    for index in range(16):
        x = block(torch.cat([x, kept.pop()], 1), f"output_blocks.{index}")
    return _conv(_silu(_group_norm(x, w, "out.0")), w, "out.2")


def cosine_alphas(steps):
    """The running product of 1 - beta of the cosine schedule, in Python's floats."""
    products, product = [], 1.0
    for step in range(steps):
        start, end = (cos((t / steps + 0.008) / 1.008 * pi / 2) ** 2 for t in (step, step + 1))
        product *= 1 - min(1 - end / start, 0.999)
        products.append(product)
    return products


ORIGINALS = {
    "prood-joint": joint,
    "prood-joint-100": joint,
    "good": good,
    "logitnorm": logitnorm,
    "vos": vos,
    "acet": densenet,
    "atom": densenet,
}
