"""The tables ood and headline by the config's protocol, sound or published."""

from oodcert.reporting.tables.authors_code import authors_code_ood_table
from oodcert.reporting.tables.values import headline_of, ood_table, with_all_sets


def is_published(config):
    return config["protocol"] == "published"


def reported_ood_table(evidence, config):
    """The ood table; published, that of the authors' code on the images of evaluation.published, of which no method's
    attack counts as reliable, since nothing has checked it."""
    if not is_published(config):
        return ood_table(evidence, config)
    return with_all_sets(authors_code_ood_table(evidence, config), config).assign(reliable=False)


def reported_headline_table(evidence, config):
    """The headline table of that."""
    return headline_of(reported_ood_table(evidence, config), config)
