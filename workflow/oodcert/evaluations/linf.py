"""OOD scores in the l-infinity ball: guaranteed and attacked."""

from copy import deepcopy

import numpy as np
import pandas as pd
import torch

from oodcert.attacks.ood import linf_ensemble
from oodcert.certification.linf_bounds import linf_score_upper_bound
from oodcert.evaluations.base import chunks, frame, score_deployed
from oodcert.models.composition import deployed_network
from oodcert.models.scores import UNBOUNDED_SCORES
from oodcert.models.wrappers import noisy_modules
from oodcert.runtime.memory import with_oom_backoff


def guarantee_linf(evaluation):
    """Upper bounds on the OOD score in the l-infinity ball, in float64: set, sample, epsilon, upper, vacuous."""
    frames, epsilon = [], evaluation.settings["epsilon"]
    score = evaluation.settings["method_spec"]["score"]
    worst = np.inf if score in UNBOUNDED_SCORES else 1.0
    network = deepcopy(evaluation.build(deployed_network, sigma=None)).double()  # the bound does not depend on sigma
    for name, ids in evaluation.ood():
        images = evaluation.images(name).double()
        compute = with_oom_backoff(
            lambda index, images=images: linf_score_upper_bound(network, score, images[index], epsilon)
        )
        with torch.inference_mode():
            bounds = [compute(index)[:real] for index, real in chunks(ids, evaluation.images_per_batch())]
        upper = torch.cat(bounds).cpu().numpy()
        evaluation.calls += 2 * len(ids)
        frames.append(frame(evaluation, name, sample=ids, epsilon=epsilon, upper=upper, vacuous=upper >= worst))
    return pd.concat(frames, ignore_index=True)


def attack_linf(evaluation):
    """The highest OOD confidence that the l-infinity ensemble finds: set, sample, epsilon, clean, attacked, attack, …

    attack names the winner, "clean" where no attack raised the score; white_box is the highest score without Square,
    the clean one included, and square Square's own: where it wins often, the gradients mislead. standard_error is that
    of the attacked score over a randomised method's draws. Such a method is attacked on one set of noise draws and
    scored on the draws of its clean evaluation, which the attack never saw, with all candidates on the same ones; the
    clean image is a candidate, so attacked ≥ clean.
    """
    settings, budget, frames = evaluation.settings, evaluation.settings["budget"], []
    epsilon = settings["epsilon"]
    with evaluation.network(deployed_network, settings["sigma"]) as network:
        detector = evaluation.detector(network)
        draws = budget["draws"] if noisy_modules(network) else 1
        for name, ids in evaluation.ood():
            images, found = evaluation.images(name), []

            def attack(index, images=images, ids=ids, name=name):
                return linf_ensemble(
                    detector, images[index], ids[index], name, epsilon, **budget, seed=settings["seed"]
                )

            compute = with_oom_backoff(attack)
            for index, real in chunks(ids, evaluation.images_per_batch(draws), f"attack, {name}"):
                found.append({kind: points[:real] for kind, points in compute(index).items()})
            candidates = {"clean": images}
            for attack in found[0]:
                candidates[attack] = torch.cat([part[attack] for part in found])
            scores = np.stack([score_deployed(evaluation, detector, points, name)[0] for points in candidates.values()])
            means = pd.DataFrame(scores.mean(1).T, columns=list(candidates))
            winners = scores[means.to_numpy().argmax(1), :, np.arange(len(ids))]
            columns = {
                "clean": means["clean"],
                "attacked": means.max(axis=1),
                "attack": means.idxmax(axis=1),
                "white_box": means.drop(columns="square").max(axis=1),
                "square": means["square"],
                "standard_error": winners.std(1, ddof=1) / winners.shape[1] ** 0.5 if winners.shape[1] > 1 else 0.0,
            }
            constants = {
                **{f"{kind}_{key}": value for kind in ("apgd", "pgd") for key, value in budget[kind].items()},
                **budget["square"],
                "draws": draws,
            }
            frames.append(frame(evaluation, name, sample=ids, epsilon=epsilon, **columns, **constants))
    return pd.concat(frames, ignore_index=True)
