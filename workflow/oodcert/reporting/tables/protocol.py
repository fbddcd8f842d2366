"""The tables ood and headline by the config's protocol: sound, or as the authors' code computes them."""

from __future__ import annotations

import pandas as pd

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.tables.authors_code import authors_code_ood_table
from oodcert.reporting.tables.values import headline_of, ood_table, with_all_sets


def by_authors_code(config: Config) -> bool:
    """Whether the tables ood and headline are computed as the authors' code does."""
    return config.protocol == "authors_code"


def protocol_ood_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """The ood table by the config's protocol.

    That of the authors' code is on the images of evaluation.authors_code. No attack counts as reliable there, since no
    sanity check was made of it.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The table, with the columns of ood_table.
    """
    if not by_authors_code(config):
        return ood_table(evidence, config)
    return with_all_sets(authors_code_ood_table(evidence, config), config).assign(reliable=False)


def protocol_headline_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """The headline table by the config's protocol."""
    return headline_of(protocol_ood_table(evidence, config), config)
