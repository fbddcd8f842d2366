"""Certified and adversarially robust out-of-distribution detection. Higher score = more in-distribution."""

from importlib import import_module
from typing import Any

PUBLIC = {
    "Detector": "oodcert.models.detector",
    "JointNetwork": "oodcert.models.wrappers",
    "DenoisedNetwork": "oodcert.models.wrappers",
    "NoisyNetwork": "oodcert.models.wrappers",
    "certify": "oodcert.certification.certify",
    "certify_labels": "oodcert.certification.certify_labels",
    "certified_roc": "oodcert.certification.certified_roc",
    "interval_bounds": "oodcert.certification.interval_propagation",
    "guaranteed_metrics": "oodcert.statistics.metrics",
    "certified_rates": "oodcert.statistics.metrics",
    "ood_metrics": "oodcert.statistics.metrics",
    "load_images": "oodcert.data.folder",
    "load_checkpoint": "oodcert.models.released_checkpoints",
    "InputError": "oodcert.errors",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: the tables and figures need no torch and do not wait for it."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'oodcert' has no attribute {name!r}")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(PUBLIC)
