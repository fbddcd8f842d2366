"""Published claims beside what a run says of them."""

import pandas as pd

from oodcert.claims import border, judge, read_claims
from oodcert.measures import Measures
from oodcert.reported import published


def claims_table(evidence, config, claims=None):
    """A row per claim: id, statement, source, declared, published, expected; measured, lower, upper, verdict, why.

    claims: as of `oodcert.claims.read_claims`; None: those of paper/claims.yaml. published: as text; expected: the
    border that measured, in % (differences in points), is held against; lower, upper: its 95 % interval by a paired
    bootstrap over images, NaN where nothing was measured, infinite where an attack is not reliable.
    """
    measures, rows = Measures(evidence, config), []
    for claim in read_claims() if claims is None else claims:
        found = judge(claim, measures, config)
        rows.append(
            {
                **{key: claim[key] for key in ("id", "statement", "source", "declared")},
                "published": published(claim["published"]),
                "expected": border(claim["expected"]),
                "measured": found.measured,
                "lower": found.lower,
                "upper": found.upper,
                "verdict": found.verdict,
                "why": found.why,
            }
        )
    return pd.DataFrame(rows)
