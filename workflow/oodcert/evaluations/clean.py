"""The unperturbed images."""

import pandas as pd

from oodcert.evaluations.base import deployed, frame
from oodcert.methods import deployed_network


def clean(evaluation):
    """Scores and predictions of the unperturbed images: method, set, sample, label, prediction, score, draws."""
    frames = []
    with evaluation.network(deployed_network, evaluation.settings["sigma"]) as network:
        detector = evaluation.detector(network)
        for name, image_set in evaluation.sets.items():
            scores, predictions = deployed(evaluation, detector, evaluation.images(name), name)
            columns = {"sample": image_set.ids, "label": image_set.labels, "prediction": predictions}
            frames.append(frame(evaluation, name, **columns, score=scores.mean(0), draws=len(scores)))
    return pd.concat(frames, ignore_index=True)
