"""Whether the attack attacks: what must hold of any attack worth its name, method by method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from oodcert.attacks import REDUCED
from oodcert.config.models import Config
from oodcert.evidence.selection import rows_at, rows_of_method, rows_of_set
from oodcert.evidence.store import Evidence
from oodcert.statistics.metrics import ood_metrics

SLACK = 0.001  # of the gap between the mean clean scores of ID and OOD images: less is no difference
WINS = 0.2  # share of the images on which Square may reach more than the white-box attacks
CHANCE = 0.5
CHECKS = ("grows", "reaches_chance", "beats_square", "gains")


def sanity_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per method: AUC under the attack as its radius grows, with a quarter of its budget, and by its attacks.

    An AUC is of the clean ID scores against the attacked scores of all OOD images of the sanity runs, in [0, 1].

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        A DataFrame with these columns.

        - method; images, their number; clean, the AUC without an attack; auc_<epsilon> at every radius.
        - At evaluation.epsilon: auc_reduced (a quarter of the budget), auc_white_box, auc_square, and square_wins, the
          share of images on which Square reaches more than the white-box attacks.
        - grows: the mean attacked score rises from every radius to the next, and from clean to the first.
        - reaches_chance: at the largest radius, at which a perturbation can reach any image, the AUC is at most 0.5.
        - beats_square: Square wins on a share of at most WINS.
        - gains: the mean attacked score is no higher with a quarter of the budget.
        - reliable: all four hold.

        grows and gains compare scores, for an AUC near 1 hardly moves.
    """
    return pd.DataFrame([_row(evidence, config, method) for method in config.methods])


def radius_column(epsilon: float) -> str:
    """The column of the AUC at this radius."""
    return f"auc_{epsilon:g}"


def _row(evidence: Evidence, config: Config, method: str) -> dict[str, object]:
    epsilons, epsilon = config.evaluation.sanity.epsilons, config.evaluation.epsilon
    id_scores = rows_of_set(rows_of_method(evidence, "clean", method), "clean", "id")["score"]
    runs = rows_of_method(evidence, "sanity", method)
    full, reduced = (rows_at(runs, "sanity", "share", share) for share in (1.0, REDUCED))
    reduced = rows_at(reduced, "sanity", "epsilon", epsilon)
    at_radii = [rows_at(full, "sanity", "epsilon", radius) for radius in epsilons]
    here = at_radii[epsilons.index(epsilon)]
    scores = {"clean": here["clean"]}
    scores |= {radius_column(radius): rows["attacked"] for radius, rows in zip(epsilons, at_radii, strict=True)}
    scores |= {"auc_reduced": reduced["attacked"], "auc_white_box": here["white_box"], "auc_square": here["square"]}
    aucs = {column: ood_metrics(id_scores, values)["auc"] for column, values in scores.items()}
    wins, grows, gains = _compared(id_scores, here, at_radii, reduced)
    checks = {
        "grows": grows,
        "reaches_chance": aucs[radius_column(epsilons[-1])] <= CHANCE,
        "beats_square": wins <= WINS,
        "gains": gains,
    }
    reliable = all(checks[check] for check in CHECKS)
    return {"method": method, "images": len(here), **aucs, "square_wins": wins, **checks, "reliable": reliable}


def _compared(
    id_scores: pd.Series, here: pd.DataFrame, at_radii: Sequence[pd.DataFrame], reduced: pd.DataFrame
) -> tuple[float, bool, bool]:
    """square_wins, grows and gains."""
    slack = SLACK * max(0.0, id_scores.mean() - here["clean"].mean())
    means = [here["clean"].mean(), *(rows["attacked"].mean() for rows in at_radii)]
    wins = (here["square"] > here["white_box"] + slack).mean()
    grows = all(larger > smaller + slack for smaller, larger in pairwise(means))
    return wins, grows, here["attacked"].mean() >= reduced["attacked"].mean() - slack
