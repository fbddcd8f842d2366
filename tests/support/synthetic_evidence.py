"""Synthetic evidence of every evaluation: random, but ordered as real evidence is (clean <= attacked <= upper)."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from conftest import checked, read_config
from oodcert.authors_code.flags import acting, case_of
from oodcert.config.method_specs import trained_components
from oodcert.config.models import Config

METHODS = ("plain", "oe", "vos", "prood", "distro")
WITH_GUARANTEE = ("good", "prood", "distro")
OUTLIERS = ("oe", "acet", "atom", "good", "prood", "discriminator")  # components whose loss has a term of outliers


def _base() -> Config:
    """The digits config with the settings of the synthetic evidence, and all ten methods."""
    values = read_config()
    values["seed"] = 7
    values["data"].update(ood=["held_out_digits", "photo_crops", "photo_patches", "gaussian_noise"], test_images=40)
    evaluation = values["evaluation"]
    evaluation.update(sigma=0.12, epsilon=0.05, draws=64, authors_code={"images": 18, "n0": 100, "n": 800})
    radii = {"sigmas": [0.12, 0.25, 0.5], "radii": [0.0, 0.25, 0.5, 0.75, 1.0], "n": 1000}
    evaluation["sanity"] = {"images": 10, "epsilons": [0.025, 0.05, 0.1, 1.0]}
    evaluation["certify_l2"].update(
        radii, alpha=0.01, sampling="fixed", bounds=["percentile", "cdf", "gaussian", "lipschitz"]
    )
    evaluation["certify_id"].update(radii, n0=100, alpha=0.001, sampling="fixed")
    evaluation["attack_l2"].update(sigmas=[0.25], n=500)
    evaluation["one_pass"] = {"sigmas": [0.25], "draws": 8, "confidence": 0.99}
    evaluation["attack_linf"]["apgd"] = {"iterations": 100, "restarts": 1}
    evaluation["attack_id"]["epsilons"] = [0.00784, 0.03137]
    evaluation["attack_id"]["deterministic"]["iterations"] = 100
    evaluation["attack_id"]["randomised"]["iterations"] = 30
    values["figures"] = {"context": "paper", "palette": "colorblind", "dpi": 200}
    return checked(values)


BASE = _base()
TEN = BASE.methods  # name -> MethodSpec


def config(methods: Sequence[str] = METHODS, **changes: Any) -> Config:
    """The config of the synthetic evidence, with these of the ten methods.

    changes: as of Config.changed, not checked; `ood` stands for data.ood.
    """
    if "ood" in changes:
        changes["data"] = {**changes.get("data", {}), "ood": tuple(changes.pop("ood"))}
    return BASE.changed(methods={name: TEN[name] for name in methods}, **changes)


def evidence(config: Config, images: int = 40, seed: int = 0) -> dict[str, Any]:
    """Evidence of all evaluations: dict from evaluation to the rows of all methods, `images` of every set."""
    rng = np.random.default_rng(seed)
    by_method = [_method(method, config, images, rng) for method in config.methods]
    frames = {name: pd.concat([one[name] for one in by_method], ignore_index=True) for name in by_method[0]}
    return frames | {
        "attack_linear": attack_linear(config, images, rng),
        "training": training(config),
        "denoised": denoised(config, rng),
    }


def attack_linear(config: Config, images: int, rng: np.random.Generator) -> pd.DataFrame:
    """The attack on a linear score, which gains all but half a percent of what is possible at most."""
    names = config.data.ood
    sets, samples = np.repeat(names, images), np.tile(np.arange(images), len(names))
    clean, gain = rng.normal(size=sets.size), rng.uniform(1, 2, sets.size)
    share = rng.uniform(0.995, 1, sets.size)
    rows = {"set": sets, "sample": samples, "epsilon": config.evaluation.epsilon, "clean": clean}
    return _rows("linear", **rows, attacked=clean + share * gain, maximum=clean + gain)


def training(config: Config, epochs: int = 40) -> pd.DataFrame:
    """Learning curves of every component of the methods, and of the denoiser."""
    epoch, frames = np.arange(1, epochs + 1), []
    components = dict.fromkeys([*trained_components(config.methods, config.training), "denoiser"])
    for index, component in enumerate(components):
        fall = np.exp(-epoch / (5 + index))
        terms = {"noise": 0.3 * fall + 0.1} if component == "denoiser" else {"id": 2 * fall + 0.05}
        if component in OUTLIERS:
            terms["outliers"] = (-2 if component == "acet" else 2) + 0.5 * fall
        terms |= {"total": sum(terms.values()), "learning_rate": np.where(epoch < 0.5 * epochs, 0.1, 0.01)}
        if component == "vos":
            terms["outliers"] = np.where(epoch < 0.4 * epochs, np.nan, 0.15 * fall)
        frames += [
            pd.DataFrame({"component": component, "epoch": epoch, "term": term, "value": value})
            for term, value in terms.items()
        ]
    return pd.concat(frames, ignore_index=True).dropna(ignore_index=True)


def denoised(config: Config, rng: np.random.Generator, channels: int = 1, size: int = 8) -> dict[str, np.ndarray]:
    """Example images: two of every set, as arrays clean, noisy, denoised, sigmas, names."""
    names = np.repeat(["id", *config.data.ood], 2)
    sigmas = np.float32(config.evaluation.certify_l2.sigmas)
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    clean = np.float32(rng.uniform(size=(len(names), channels, 1, 1))) * ramp[:, None] * ramp[None, :]
    noise = np.float32(rng.normal(size=(len(sigmas), *clean.shape)))
    noisy = clean + sigmas[:, None, None, None, None] * noise
    return {"clean": clean, "noisy": noisy, "denoised": 0.9 * clean + 0.1 * noisy, "sigmas": sigmas, "names": names}


def _method(method: str, config: Config, images: int, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    settings, method_spec = config.evaluation, config.methods[method]
    randomised, unbounded = method_spec.is_randomised, method_spec.score != "msp"
    names, classes = ["id", *config.data.ood], config.data.num_classes
    sets, samples = np.repeat(names, images), np.tile(np.arange(images), len(names))
    is_id, quality = sets == "id", rng.uniform(0.7, 4)
    confidence = np.where(is_id, rng.beta(3 * quality, 1, sets.size), rng.beta(1, quality, sets.size))
    clean_score = 1 / classes + (1 - 1 / classes) * confidence
    # an unbounded score has the order of one in [0, 1]
    spread = (lambda score: 10 * norm.ppf(np.clip(score, 0.001, 0.999))) if unbounded else (lambda score: score)
    labels = np.where(is_id, rng.integers(classes, size=sets.size), -1)
    right = rng.uniform(size=sets.size) < 0.95

    clean = _rows(
        method,
        set=sets,
        sample=samples,
        label=labels,
        prediction=np.where(right & is_id, labels, (labels + 1) % classes),
        score=spread(clean_score),
        draws=settings.draws if randomised else 1,
    )
    ood, gain = clean[~is_id], rng.uniform(size=sets.size)[~is_id]
    score = clean_score[~is_id]
    keys = ood[["method", "set", "sample"]]

    def attacked(rows, epsilon, share=1.0):
        """Scores that rise with epsilon up to one, at which a perturbation can reach any image."""
        power = np.minimum(1.0, 8 * epsilon) if epsilon < 1 else 1.0
        raised = score[rows] + share * power * np.where(epsilon < 1, gain[rows], 1) * (1 - score[rows])
        budget = {"apgd_iterations": 100, "apgd_restarts": 1, "pgd_iterations": 200, "pgd_restarts": 3}
        return keys[rows].assign(
            epsilon=epsilon,
            clean=spread(score[rows]),
            attacked=spread(raised),
            attack=np.where(gain[rows] > 0.5, "apgd", "uniform"),
            white_box=spread(raised),
            square=spread(score[rows] + 0.5 * (raised - score[rows])),
            standard_error=0.01 if randomised else 0.0,
            **budget,
            queries=1000,
            draws=8 if randomised else 1,
        )

    attack = attacked(np.full(len(ood), True), settings.epsilon)
    vacuous = method not in WITH_GUARANTEE
    guarantee = keys.assign(
        epsilon=settings.epsilon,
        upper=(np.inf if unbounded else 1.0) if vacuous else attack["attacked"] + 0.2 * (1 - attack["attacked"]),
        vacuous=vacuous,
    )
    few = (ood["sample"] < settings.sanity.images).to_numpy()
    sanity = [attacked(few, epsilon).assign(share=1.0) for epsilon in settings.sanity.epsilons]
    sanity.append(attacked(few, settings.epsilon, share=0.9).assign(share=0.25))

    one = clean[is_id]
    correct = (one["prediction"] == one["label"]).to_numpy()
    attack_id = []
    for epsilon in settings.attack_id.epsilons:
        withstood = {
            name: correct & (rng.uniform(size=images) > 5 * epsilon)
            for name in (("apgd-ce", "apgd-dlr") if randomised else ("apgd-ce", "apgd-t", "fab-t", "square"))
        }
        withstood["worst-case"] = np.logical_and.reduce(list(withstood.values()))
        attack_id += [
            one[["method", "set", "sample", "label"]].assign(
                epsilon=epsilon,
                attack=name,
                version="rand" if randomised else "standard",
                iterations=30 if randomised else 100,
                queries=0 if randomised else 1000,
                eot=8 if randomised else 1,
                clean_correct=correct,
                correct=robust,
            )
            for name, robust in withstood.items()
        ]
    authors_code = _authors_code(clean, attack, guarantee, method, config, np.random.default_rng(len(method)))
    bounds = method_spec.admitted_bounds(settings.certify_l2.bounds)
    smoothed = clean.assign(score=clean_score)  # in [0, 1]; what they are of an unbounded score comes at the end
    return {
        "clean": clean,
        "guarantee_linf": guarantee,
        "attack_linf": attack,
        "sanity": pd.concat(sanity, ignore_index=True),
        "certify_l2": _certify_l2(smoothed, settings.certify_l2.changed(bounds=bounds), spread),
        "attack_l2": _attack_l2(smoothed[~is_id], settings, spread, unbounded),
        "one_pass": _one_pass(clean, clean_score, settings.one_pass, spread),
        "certify_id": _certify_id(one, correct, settings.certify_id, rng),
        "attack_id": pd.concat(attack_id, ignore_index=True),
        "authors_code": authors_code,
    }


def _one_pass(clean, score, settings, spread):
    """Noisy scores, as the synthetic smoothed ones are: the same noise for every method."""
    frames, rng = [], np.random.default_rng(len(clean))
    for sigma in settings.sigmas:
        for draw in range(settings.draws):
            noisy = norm.cdf(norm.ppf(score.clip(0.01, 0.99)) + rng.normal(scale=0.3, size=len(clean)))
            rows = clean[["method", "set", "sample"]].assign(sigma=sigma, draw=draw, score=spread(noisy))
            frames.append(rows)
    return pd.concat(frames, ignore_index=True)


def _certify_l2(clean, settings, spread):
    frames = []
    for sigma in settings.sigmas:
        estimate = clean["score"].clip(0.13, 1 - 0.1 * sigma)
        for bound in settings.bounds:
            for radius in settings.radii:
                reach, slack = (
                    radius / sigma,
                    {"percentile": 0.02, "cdf": 0.03, "gaussian": 0.05, "lipschitz": 0.1}[bound],
                )
                upper = norm.cdf(norm.ppf(estimate) + reach) + slack
                lower = norm.cdf(norm.ppf(estimate) - reach) - slack
                lost = bound == "percentile" and reach > norm.ppf(1 - 5 / settings.n)
                rows = clean[["method", "set", "sample"]].assign(sigma=sigma, bound=bound, radius=radius)
                frames.append(
                    rows.assign(
                        estimate=spread(estimate),
                        lower=-np.inf if lost else spread(np.maximum(lower, 0)),
                        upper=np.inf if lost else spread(np.minimum(upper, 1)),
                        n=settings.n,
                        alpha=settings.alpha,
                    )
                )
    return pd.concat(frames, ignore_index=True)


def _attack_l2(ood, settings, spread, unbounded):
    frames, rng = [], np.random.default_rng(len(ood))
    for sigma, radius in product(settings.attack_l2.sigmas, settings.certify_l2.radii):
        moved = norm.ppf(ood["score"].clip(0.13, 0.99)) + 0.3 * radius / sigma
        score, single = norm.cdf(moved), spread(norm.cdf(moved + rng.normal(scale=0.3, size=len(ood))))
        median, low = spread(score), spread(score - 0.02)
        rows = ood[["method", "set", "sample"]].assign(sigma=sigma, radius=radius, median=median, mean=median)
        budget = {"n": settings.attack_l2.n, "alpha": 1e-4, "iterations": 10, "restarts": 1, "draws": 8}
        bounds = {"median_lower": low, "mean_lower": -np.inf if unbounded else low}
        frames.append(rows.assign(**bounds, **budget, one_pass_score=single))
    return pd.concat(frames, ignore_index=True)


def _certify_id(one, correct, settings, rng):
    frames = []
    for sigma in settings.sigmas:
        radius = sigma * np.minimum(rng.exponential(1.2, len(one)), 2.5)
        abstained = rng.uniform(size=len(one)) < 0.1
        frames.append(
            one[["method", "set", "sample", "label"]].assign(
                sigma=sigma,
                prediction=np.where(abstained, -1, one["prediction"]),
                radius=np.where(abstained, 0, radius),
                correct=correct & ~abstained,
                n0=settings.n0,
                n=settings.n,
                alpha=settings.alpha,
            )
        )
    return pd.concat(frames, ignore_index=True)


def _authors_code(clean, attack, guarantee, method, config, rng):
    """Of the first images, every quantity of the authors' code, and with each flag that acts corrected."""
    case, votes = case_of(method, config), config.evaluation.authors_code.n
    few = [table[table["sample"] < case.images] for table in (clean, attack, guarantee)]
    ids = few[0]["set"] == "id"
    frames = []

    def add(rows, values, *quantities, flags=()):
        for corrected_flag, quantity in product(["", *acting(flags, case)], quantities):
            keys = rows[["method", "set", "sample"]].assign(corrected_flag=corrected_flag, quantity=quantity)
            frames.append(keys.assign(value=values(len(rows)).astype(float)))

    def shares(count):
        return rng.uniform(1 / 8, 1, count)

    def truths(count):
        return rng.uniform(size=count) < 0.9

    add(few[0], shares, "score", flags=("D8", "D9", "D13", "D18", "D22"))
    add(few[1], shares, "attacked", flags=("D8", "D9", "D13", "D14", "D18", "D19", "D22"))
    add(few[2], shares, "bound", flags=("D10", "D11", "D13"))
    add(few[0], shares, "one_pass", "l2_bound", flags=("D1", "D9", "D13", "D22"))
    add(few[0], lambda count: rng.integers(votes // 2, votes + 1, count), "agreeing", flags=("D1", "D9", "D13"))
    others = few[0][~ids & (few[0]["set"] != "gaussian_noise")]
    for quantity, values in (("one_pass", shares), ("l2_bound", shares), ("agreeing", lambda n: np.full(n, votes))):
        frames.append(
            others[["method", "set", "sample"]].assign(
                corrected_flag="D6", quantity=quantity, value=values(len(others))
            )
        )
    add(few[0][ids], truths, "voted_right", flags=("D1", "D9", "D13"))
    add(few[0][ids], truths, "correct", flags=("D8", "D9", "D13", "D18"))
    if case.method_spec.denoiser:
        add(few[0][ids], truths, "robust", flags=("D9", "D13", "D17", "D18"))
    if case.method_spec.discriminator:
        one = few[0][ids][["method", "set", "sample"]][:1].assign(quantity="single_image")
        frames += [
            one.assign(corrected_flag=corrected_flag, value=value)
            for corrected_flag, value in (("", 0.0), ("D12", 1.0))
        ]
    return pd.concat(frames, ignore_index=True)


def _rows(method, **columns):
    return pd.DataFrame({"method": method, **columns})
