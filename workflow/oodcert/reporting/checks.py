"""All comparisons of a run's evidence with itself, as checks.csv has them."""

from __future__ import annotations

import pandas as pd

from oodcert.config.models import Config
from oodcert.evidence.order_checks import check_order
from oodcert.evidence.store import Evidence
from oodcert.reporting.tables.one_pass import one_pass_check


def checks_table(evidence: Evidence, config: Config) -> pd.DataFrame:
    """A row per comparison, as of oodcert.evidence.order_checks.check_order, that of the one-pass detector last.

    Args:
        evidence: evaluation -> its rows.
        config: the run's.

    Returns:
        The table.
    """
    return pd.concat([check_order(evidence), pd.DataFrame(one_pass_check(evidence, config))], ignore_index=True)
