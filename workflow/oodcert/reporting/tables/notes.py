"""What one expects of the methods under attack and does not find, said in the table's caption with the numbers."""

from oodcert.reporting.display_names import label
from oodcert.reporting.tables.sanity import radius_column, sanity_table
from oodcert.reporting.tables.values import ood_table

AGAINST = {"acet": "oe", "atom": "oe"}  # trained on attacked outliers: the method trained on the same ones, clean
FAR = 0.1  # a fall of the plain classifier's AUC under attack that deserves no remark


def unexpected(evidence, config):
    """Sentences on the methods whose adversarial AUC is not what their training, or its lack, lets one expect."""
    table = ood_table(evidence, config).set_index(["method", "set", "protocol"])["auc"]
    trained = [pair for pair in AGAINST.items() if set(pair) <= set(config["methods"])]
    sentences = [_no_better(table, config, *pair) for pair in trained if _lead(table, *pair, "average") <= 0]
    if "plain" in config["methods"] and _fall(table, "plain") < FAR:
        sentences.append(_little_harm(table, evidence, config))
    return sentences


def _no_better(table, config, method, other):
    worst = min(config["data"]["ood"], key=lambda name: _lead(table, method, other, name))

    def compared(name, protocol):
        return f"{100 * table[method, name, protocol]:.1f} against {100 * table[other, name, protocol]:.1f}"

    return (
        f"{label(method)}, though trained on attacked outliers, is no better under attack than {label(other)} "
        f"(adversarial AUC {compared('average', 'adversarial')}): it is behind most on {label(worst)} "
        f"({compared(worst, 'adversarial')}; clean, {compared(worst, 'clean')})."
    )


def _little_harm(table, evidence, config):
    epsilon = config["evaluation"]["epsilon"]
    larger = [one for one in config["evaluation"]["sanity"]["epsilons"] if epsilon < one < 1]
    sanity = sanity_table(evidence, config).set_index("method").loc["plain"]
    beyond = [f"{100 * sanity[radius_column(one)]:.1f} at ε = {one:g}" for one in larger]
    return (
        f"Plain loses only {100 * _fall(table, 'plain'):.1f} points of AUC to the attack, for ε = {epsilon:g} is small "
        f"on these images: on those of the sanity runs its AUC is {100 * sanity[radius_column(epsilon)]:.1f} at "
        f"ε = {epsilon:g}" + (f" and {', '.join(beyond)}." if beyond else ".")
    )


def _lead(table, method, other, name):
    return table[method, name, "adversarial"] - table[other, name, "adversarial"]


def _fall(table, method):
    return table[method, "average", "clean"] - table[method, "average", "adversarial"]
