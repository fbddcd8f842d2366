"""The rows that the evaluation of the authors' code consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from oodcert.authors_code.flags import acting, case_of
from oodcert.config.models import Config
from oodcert.data.noise_sets import NOISE

# flags that are corrected for each quantity, "" being none
SCORES = ("", "D8", "D9", "D13", "D18", "D22")
BOUNDS = ("", "D10", "D11", "D13")
ATTACKS = ("", "D8", "D9", "D13", "D14", "D18", "D19", "D22")
VOTES = ("", "D1", "D9", "D13", "D22")
LABELS = ("", "D9", "D13", "D17", "D18")
VOTED = ("agreeing", "one_pass", "l2_bound")
KEY = ["set", "corrected_flag", "quantity", "sample"]


def authors_code_rows(config: Config, method: str, roster: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Every row of a method's evidence of the authors' code.

    Args:
        config: the checked config, which has the authors' code evaluated.
        method: name of the method.
        roster: image set -> all its samples in their order.

    Returns:
        A frame with the columns KEY.
    """
    method_spec, case, ood = config.methods[method], case_of(method, config), config.data.ood
    first = {name: list(samples[: case.images]) for name, samples in roster.items()}
    lowest = {name: sorted(samples[: case.test_images])[: case.images] for name, samples in roster.items()}

    def rows(
        sets: Sequence[str], quantities: Sequence[str], flags: Sequence[str], samples: Mapping[str, list[int]] = first
    ) -> list[pd.DataFrame]:
        flags = [flag for flag in flags if flag == "" or acting([flag], case)]
        return [_product([name], flags, quantities, samples[name]) for name in sets]

    blocks = [
        *rows(["id", *ood], ["score"], SCORES),
        *rows(["id"], ["correct"], SCORES),
        *rows(ood, ["bound"], BOUNDS),
        *rows(ood, ["attacked"], ATTACKS),
        *rows(["id"], [*VOTED, "voted_right"], VOTES),
        *rows(ood, VOTED, VOTES, lowest),  # of the first images of the source (D6)
    ]
    if acting(["D6"], case):
        blocks += rows([name for name in ood if name not in NOISE], VOTED, ["D6"])
    if method_spec.discriminator:
        blocks += rows(["id"], ["single_image"], ("", "D12"), {"id": first["id"][:1]})
    if method_spec.is_randomised:
        blocks += rows(["id"], ["robust"], LABELS)
    return pd.concat(blocks, ignore_index=True)


def _product(*values: Sequence[str] | Sequence[int]) -> pd.DataFrame:
    return pd.MultiIndex.from_product(values, names=KEY).to_frame(index=False)
