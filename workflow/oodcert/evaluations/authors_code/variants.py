"""What the quantities share: the variants of a quantity, their networks, and their rows."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from oodcert.authors_code import networks
from oodcert.authors_code.flags import Case, acting, protocol
from oodcert.evaluations.authors_code import AuthorsCodeJob
from oodcert.evaluations.base import Evaluation

Flags = frozenset[str]
Variant = tuple[str, Flags]  # the corrected flag, or "", and the flags that are as the authors' code has them


def variants(evaluation: Evaluation[AuthorsCodeJob], *flags: str) -> list[Variant]:
    """The authors' code as it is, and with each of the flags that act corrected."""
    return [("", protocol("")), *corrected(evaluation, *flags)]


def corrected(evaluation: Evaluation[AuthorsCodeJob], *flags: str) -> list[Variant]:
    """The authors' code with each of the flags that act corrected."""
    job = evaluation.settings
    case = Case(job.method_spec, job.num_classes, tuple(evaluation.ood_names or ()), job.images, job.test_images)
    return [(flag, protocol(flag)) for flag in acting(flags, case)]


def opened(
    evaluation: Evaluation[AuthorsCodeJob], sigma: float, flags: Flags, noisy: bool = True
) -> AbstractContextManager[nn.Module]:
    """The context of the method's network under some flags; the images that pass through it are counted."""
    return evaluation.network(partial(networks.network, protocol=flags, noisy=noisy), sigma)


def quantity_rows(
    evaluation: Evaluation[AuthorsCodeJob],
    name: str,
    corrected_flag: str,
    quantity: str,
    values: Any,
    ids: Iterable[int] | None = None,
) -> pd.DataFrame:
    """Rows of one quantity of one set, by default of all images that the evaluation has of it."""
    columns = {
        "sample": evaluation.sets[name].ids if ids is None else ids,
        "corrected_flag": corrected_flag,
        "quantity": quantity,
        "value": np.asarray(values, np.float64),
    }
    return pd.DataFrame({"method": evaluation.method, "set": name, **columns})
