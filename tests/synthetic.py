"""Synthetic evidence of every evaluation: random, but ordered as real evidence is (clean <= attacked <= upper)."""

import copy
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import norm

CONFIG = {
    "seed": 7,
    "data": {"num_classes": 8, "ood": ["held_out_digits", "photo_crops", "photo_patches", "gaussian_noise"]},
    "methods": ["plain", "oe", "prood", "distro"],
    "evaluation": {
        "sigma": 0.12,
        "epsilon": 0.05,
        "draws": 64,
        "certify_l2": {
            "sigmas": [0.12, 0.25, 0.5],
            "radii": [0.0, 0.25, 0.5, 0.75, 1.0],
            "n": 1000,
            "alpha": 0.01,
            "sampling": "fixed",
            "bounds": ["percentile", "cdf", "gaussian", "lipschitz"],
        },
        "attack_l2": {"sigmas": [0.25], "n": 500},
        "certify_id": {
            "sigmas": [0.12, 0.25, 0.5],
            "radii": [0.0, 0.25, 0.5, 0.75, 1.0],
            "n0": 100,
            "sampling": "fixed",
            "n": 1000,
            "alpha": 0.001,
        },
        "attack_id": {"epsilons": [0.00784, 0.03137]},
    },
    "figures": {"context": "paper", "palette": "colorblind", "dpi": 200},
}
RANDOMISED = ("diffusion", "distro")
WITH_GUARANTEE = ("good", "prood", "distro")


def config(**changes):
    """A copy of CONFIG with top-level keys replaced (`ood` stands for data.ood)."""
    changed = copy.deepcopy(CONFIG)
    if "ood" in changes:
        changed["data"]["ood"] = changes.pop("ood")
    return changed | changes


def evidence(config, images=40, seed=0):
    """Evidence of all evaluations: dict from evaluation to the rows of all methods, `images` of every set."""
    rng = np.random.default_rng(seed)
    parts = [_method(method, config, images, rng) for method in config["methods"]]
    frames = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
    return frames | {"denoised": denoised(config, rng)}


def denoised(config, rng, channels=1, size=8):
    """Example images: two of every set, as arrays clean, noisy, denoised, sigmas, names."""
    names = np.repeat(["id", *config["data"]["ood"]], 2)
    sigmas = np.float32(config["evaluation"]["certify_l2"]["sigmas"])
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    clean = np.float32(rng.uniform(size=(len(names), channels, 1, 1))) * ramp[:, None] * ramp[None, :]
    noise = np.float32(rng.normal(size=(len(sigmas), *clean.shape)))
    noisy = clean + sigmas[:, None, None, None, None] * noise
    return {"clean": clean, "noisy": noisy, "denoised": 0.9 * clean + 0.1 * noisy, "sigmas": sigmas, "names": names}


def _method(method, config, images, rng):
    settings, randomised = config["evaluation"], method in RANDOMISED
    names, classes = ["id", *config["data"]["ood"]], config["data"]["num_classes"]
    sets, samples = np.repeat(names, images), np.tile(np.arange(images), len(names))
    is_id, quality = sets == "id", rng.uniform(1, 6)
    confidence = np.where(is_id, rng.beta(3 * quality, 1, sets.size), rng.beta(1, quality, sets.size))
    clean_score = 1 / classes + (1 - 1 / classes) * confidence
    labels = np.where(is_id, rng.integers(classes, size=sets.size), -1)
    right = rng.uniform(size=sets.size) < 0.95

    clean = _rows(
        method,
        set=sets,
        sample=samples,
        label=labels,
        prediction=np.where(right & is_id, labels, (labels + 1) % classes),
        score=clean_score,
        draws=settings["draws"] if randomised else 1,
    )
    ood, attacked = clean[~is_id], clean_score + 0.4 * (1 - clean_score) * rng.uniform(size=sets.size)
    vacuous = method not in WITH_GUARANTEE
    guarantee = ood[["method", "set", "sample"]].assign(
        epsilon=settings["epsilon"],
        upper=1.0 if vacuous else attacked[~is_id] + 0.2 * (1 - attacked[~is_id]),
        vacuous=vacuous,
    )
    attack = ood[["method", "set", "sample"]].assign(
        epsilon=settings["epsilon"],
        clean=ood["score"],
        attacked=attacked[~is_id],
        attack="uniform",
        iterations=30 if randomised else 100,
        restarts=1 if randomised else 3,
        draws=8 if randomised else 1,
        standard_error=0.01 if randomised else 0.0,
    )
    one = clean[is_id]
    correct = (one["prediction"] == one["label"]).to_numpy()
    attack_id = [
        one[["method", "set", "sample", "label"]].assign(
            epsilon=epsilon,
            version="rand" if randomised else "standard",
            iterations=30 if randomised else 100,
            queries=0 if randomised else 1000,
            eot=8 if randomised else 1,
            clean_correct=correct,
            correct=correct & (rng.uniform(size=images) > 10 * epsilon),
        )
        for epsilon in settings["attack_id"]["epsilons"]
    ]
    return {
        "clean": clean,
        "guarantee_linf": guarantee,
        "attack_linf": attack,
        "certify_l2": _certify_l2(clean, settings["certify_l2"]),
        "attack_l2": _attack_l2(ood, settings),
        "certify_id": _certify_id(one, correct, settings["certify_id"], rng),
        "attack_id": pd.concat(attack_id, ignore_index=True),
    }


def _certify_l2(clean, settings):
    frames = []
    for sigma in settings["sigmas"]:
        estimate = clean["score"].clip(0.13, 1 - 0.1 * sigma)
        for bound in settings["bounds"]:
            for radius in settings["radii"]:
                reach, slack = (
                    radius / sigma,
                    {"percentile": 0.02, "cdf": 0.03, "gaussian": 0.05, "lipschitz": 0.1}[bound],
                )
                upper = norm.cdf(norm.ppf(estimate) + reach) + slack
                lower = norm.cdf(norm.ppf(estimate) - reach) - slack
                lost = bound == "percentile" and reach > norm.ppf(1 - 5 / settings["n"])
                rows = clean[["method", "set", "sample"]].assign(sigma=sigma, bound=bound, radius=radius)
                frames.append(
                    rows.assign(
                        estimate=estimate,
                        lower=-np.inf if lost else np.maximum(lower, 0),
                        upper=np.inf if lost else np.minimum(upper, 1),
                        n=settings["n"],
                        alpha=settings["alpha"],
                    )
                )
    return pd.concat(frames, ignore_index=True)


def _attack_l2(ood, settings):
    frames = []
    for sigma, radius in product(settings["attack_l2"]["sigmas"], settings["certify_l2"]["radii"]):
        median = norm.cdf(norm.ppf(ood["score"].clip(0.13, 0.99)) + 0.3 * radius / sigma)
        rows = ood[["method", "set", "sample"]].assign(sigma=sigma, radius=radius, median=median, mean=median)
        budget = {"n": settings["attack_l2"]["n"], "alpha": 1e-4, "iterations": 10, "restarts": 1, "draws": 8}
        frames.append(rows.assign(median_lower=median - 0.02, mean_lower=median - 0.02, **budget))
    return pd.concat(frames, ignore_index=True)


def _certify_id(one, correct, settings, rng):
    frames = []
    for sigma in settings["sigmas"]:
        radius = sigma * np.minimum(rng.exponential(1.2, len(one)), 2.5)
        abstained = rng.uniform(size=len(one)) < 0.1
        frames.append(
            one[["method", "set", "sample", "label"]].assign(
                sigma=sigma,
                prediction=np.where(abstained, -1, one["prediction"]),
                radius=np.where(abstained, 0, radius),
                correct=correct & ~abstained,
                n0=settings["n0"],
                n=settings["n"],
                alpha=settings["alpha"],
            )
        )
    return pd.concat(frames, ignore_index=True)


def _rows(method, **columns):
    return pd.DataFrame({"method": method, **columns})
