"""The rows that the published evaluation of a config consists of."""

import pandas as pd

from oodcert.authors_code.flags import acting, case_of
from oodcert.config.method_specs import is_randomised
from oodcert.data.noise_sets import NOISE

SCORES = ("", "D8", "D9", "D13", "D18", "D22")
BOUNDS = ("", "D10", "D11", "D13")
ATTACKS = ("", "D8", "D9", "D13", "D14", "D18", "D19", "D22")
VOTES = ("", "D1", "D9", "D13", "D22")
LABELS = ("", "D9", "D13", "D17", "D18")
VOTED = ("agreeing", "one_pass", "l2_bound")


def authors_code_rows(config, method, roster):
    """Every row of a method's published evidence: set, corrected_flag, quantity, sample. roster: set -> all its samples."""
    method_spec, case = config["methods"][method], case_of(method, config)
    ood, blocks = config["data"]["ood"], []

    def add(sets, quantities, flags, count=case.images, in_order=False):
        corrected_flag = [flag for flag in flags if flag == "" or acting([flag], case)]
        for one in sets:
            samples = sorted(roster[one][: case.test_images]) if in_order else roster[one]
            points = pd.MultiIndex.from_product(
                [[one], corrected_flag, quantities, samples[:count]],
                names=["set", "corrected_flag", "quantity", "sample"],
            )
            blocks.append(points.to_frame(index=False))

    add(["id", *ood], ["score"], SCORES)
    add(["id"], ["correct"], SCORES)
    add(ood, ["bound"], BOUNDS)
    add(ood, ["attacked"], ATTACKS)
    add(["id"], [*VOTED, "voted_right"], VOTES)
    add(ood, VOTED, VOTES, in_order=True)
    add([one for one in ood if one not in NOISE], VOTED, [flag for flag in ("D6",) if acting([flag], case)])
    if method_spec["discriminator"]:
        add(["id"], ["single_image"], ("", "D12"), count=1)
    if is_randomised(method_spec):
        add(["id"], ["robust"], LABELS)
    return pd.concat(blocks, ignore_index=True)
