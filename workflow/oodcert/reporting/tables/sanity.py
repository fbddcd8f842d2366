"""Whether the attack attacks: what must hold of any attack worth its name, method by method."""

from itertools import pairwise

import pandas as pd

from oodcert.attacks import REDUCED
from oodcert.evidence.selection import at, of_method, of_set
from oodcert.statistics.metrics import ood_metrics

SLACK = 0.001  # of the gap between the mean clean scores of ID and OOD images: less is no difference
WINS = 0.2  # share of the images on which Square may find more than the white-box attacks
CHANCE = 0.5


def sanity_table(evidence, config):
    """A row per method: AUC under the attack as its radius grows, with a part of its budget, and by its parts.

    The clean ID scores against the pooled attacked scores of the sanity runs' OOD images, in [0, 1]. columns: method,
    images, clean, auc_<epsilon> at every radius, and at evaluation.epsilon auc_reduced (a quarter of the iterations),
    auc_white_box, auc_square and square_wins (share of images on which Square finds more than the white-box attacks).
    Then, true or false: the mean attacked score rises from every radius to the next, from clean on (grows); the AUC
    reaches chance where a perturbation can reach any image (reaches_chance); Square wins on a share of WINS at most
    (beats_square); the mean attacked score is no higher with a quarter of the budget (gains); all four (reliable).
    The scores, not their AUC, are compared, for an AUC near 1 hardly moves.
    """
    epsilons, epsilon = config["evaluation"]["sanity"]["epsilons"], config["evaluation"]["epsilon"]
    rows = []
    for method in config["methods"]:
        inside = of_set(of_method(evidence, "clean", method), "clean", "id")["score"]
        runs = of_method(evidence, "sanity", method)
        full, reduced = (at(runs, "sanity", "share", share) for share in (1.0, REDUCED))
        reduced = at(reduced, "sanity", "epsilon", epsilon)
        grown = [at(full, "sanity", "epsilon", one) for one in epsilons]
        here = grown[epsilons.index(epsilon)]
        aucs = {"clean": here["clean"]}
        aucs |= {radius_column(one): found["attacked"] for one, found in zip(epsilons, grown, strict=True)}
        aucs |= {"auc_reduced": reduced["attacked"], "auc_white_box": here["white_box"], "auc_square": here["square"]}
        row = {"method": method, "images": len(here)}
        row |= {column: ood_metrics(inside, scores)["auc"] for column, scores in aucs.items()}

        slack = SLACK * max(0.0, inside.mean() - here["clean"].mean())
        means = [here["clean"].mean(), *(found["attacked"].mean() for found in grown)]
        row["square_wins"] = (here["square"] > here["white_box"] + slack).mean()
        row["grows"] = all(larger > smaller + slack for smaller, larger in pairwise(means))
        row["reaches_chance"] = row[radius_column(epsilons[-1])] <= CHANCE
        row["beats_square"] = row["square_wins"] <= WINS
        row["gains"] = here["attacked"].mean() >= reduced["attacked"].mean() - slack
        row["reliable"] = all(row[check] for check in ("grows", "reaches_chance", "beats_square", "gains"))
        rows.append(row)
    return pd.DataFrame(rows)


def radius_column(epsilon):
    return f"auc_{epsilon:g}"
