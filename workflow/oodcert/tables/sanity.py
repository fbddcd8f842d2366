"""Whether the attack attacks: what must hold of any attack worth its name, method by method."""

from itertools import pairwise

import pandas as pd

from oodcert.attacks import REDUCED
from oodcert.metrics import ood_metrics
from oodcert.tables.select import at, of_method, of_set

SLACK = 0.01  # of the AUC, for the luck of random starts
CHANCE = 0.5


def sanity_table(evidence, config):
    """A row per method: AUC under the attack as its radius grows, with a part of its budget, and by Square alone.

    The clean ID scores against the pooled attacked scores of the sanity runs' OOD images, in [0, 1]. columns: method,
    clean, auc_<epsilon> at every radius, auc_reduced (a quarter of the iterations), auc_white_box and auc_square at
    evaluation.epsilon, then True where the AUC, up to SLACK, falls as the radius grows (grows), reaches chance where a
    perturbation can reach any image (reaches_chance), is no lower by Square than by the white-box attacks
    (beats_square) and no lower with fewer iterations (gains); reliable: all four.
    """
    epsilons, epsilon = config["evaluation"]["sanity"]["epsilons"], config["evaluation"]["epsilon"]
    rows = []
    for method in config["methods"]:
        inside = of_set(of_method(evidence, "clean", method), "clean", "id")["score"]
        sanity = of_method(evidence, "sanity", method)
        full, reduced = (at(sanity, "sanity", "share", share) for share in (1.0, REDUCED))

        def auc(found, column, inside=inside):
            return ood_metrics(inside, found[column])["auc"]

        here = at(full, "sanity", "epsilon", epsilon)
        grown = [auc(at(full, "sanity", "epsilon", one), "attacked") for one in epsilons]
        row = {"method": method, "images": len(here), "clean": auc(here, "clean")}
        row |= {radius_column(one): value for one, value in zip(epsilons, grown, strict=True)}
        row["auc_reduced"] = auc(at(reduced, "sanity", "epsilon", epsilon), "attacked")
        row["auc_white_box"], row["auc_square"] = auc(here, "white_box"), auc(here, "square")
        path = [row["clean"], *grown]
        row["grows"] = all(later <= earlier + SLACK for earlier, later in pairwise(path))
        row["reaches_chance"] = grown[-1] <= CHANCE
        row["beats_square"] = row["auc_white_box"] <= row["auc_square"] + SLACK
        row["gains"] = row[radius_column(epsilon)] <= row["auc_reduced"] + SLACK
        row["reliable"] = all(row[key] for key in ("grows", "reaches_chance", "beats_square", "gains"))
        rows.append(row)
    return pd.DataFrame(rows)


def radius_column(epsilon):
    return f"auc_{epsilon:g}"
