"""Tables as pure functions of evidence: values, captions, and the files they are written to."""

from collections.abc import Callable

import pandas as pd

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.tables.ablation import ablation_table
from oodcert.reporting.tables.captions import caption
from oodcert.reporting.tables.claims import claims_table
from oodcert.reporting.tables.protocol import protocol_headline_table, protocol_ood_table
from oodcert.reporting.tables.reported import reported_table
from oodcert.reporting.tables.sanity import sanity_table
from oodcert.reporting.tables.values import (
    attacked_l2_table,
    autoattack_table,
    guaranteed_l2_table,
    headline_table,
    id_table,
    l2_metric,
    l2_table,
    ood_table,
)
from oodcert.reporting.tables.writing import readable, write_table

TABLES: dict[str, Callable[[Evidence, Config], pd.DataFrame]] = {
    "id": id_table,
    "autoattack": autoattack_table,
    "ood": protocol_ood_table,
    "l2": l2_table,
    "sanity": sanity_table,
    "headline": protocol_headline_table,
    "ablation": ablation_table,
    "claims": claims_table,
    "reported": reported_table,
}

__all__ = [
    "TABLES",
    "ablation_table",
    "attacked_l2_table",
    "autoattack_table",
    "caption",
    "claims_table",
    "guaranteed_l2_table",
    "headline_table",
    "id_table",
    "l2_metric",
    "l2_table",
    "label",
    "ood_table",
    "readable",
    "reported_table",
    "sanity_table",
    "write_table",
]
