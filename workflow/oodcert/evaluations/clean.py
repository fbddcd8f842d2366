"""The unperturbed images."""

import pandas as pd

from oodcert.evaluations.base import frame, score_deployed
from oodcert.models.composition import deployed_network
from oodcert.models.wrappers import noisy_modules


def clean(evaluation):
    """Scores and predictions of the unperturbed images: method, set, sample, label, prediction, score, draws.

    The set "id_more", further ID images for the accuracy alone, is left to methods that are not randomised.
    """
    frames = []
    with evaluation.network(deployed_network, evaluation.settings["sigma"]) as network:
        detector = evaluation.detector(network)
        for name, image_set in evaluation.sets.items():
            if name == "id_more" and noisy_modules(network):
                continue
            scores, predictions = score_deployed(evaluation, detector, evaluation.images(name), name)
            columns = {"sample": image_set.ids, "label": image_set.labels, "prediction": predictions}
            frames.append(frame(evaluation, name, **columns, score=scores.mean(0), draws=len(scores)))
    return pd.concat(frames, ignore_index=True)
