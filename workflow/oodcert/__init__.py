"""Certified and adversarially robust out-of-distribution detection. Higher score = more in-distribution."""

from importlib import import_module

PUBLIC = {
    "Detector": "oodcert.detector",
    "JointNetwork": "oodcert.detector",
    "DenoisedNetwork": "oodcert.detector",
    "NoisyNetwork": "oodcert.detector",
    "certify": "oodcert.certification.scores",
    "certify_labels": "oodcert.certification.labels",
    "interval_bounds": "oodcert.certification.interval",
    "guaranteed_metrics": "oodcert.metrics",
    "certified_rates": "oodcert.metrics",
    "ood_metrics": "oodcert.metrics",
    "load_images": "oodcert.data.folder",
    "load_checkpoint": "oodcert.networks.published",
    "InputError": "oodcert.errors",
}


def __getattr__(name):
    """Imports a public name when it is first used: the tables and figures need no torch and do not wait for it."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'oodcert' has no attribute {name!r}")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__():
    return sorted(PUBLIC)
