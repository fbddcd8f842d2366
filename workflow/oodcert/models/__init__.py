"""Detectors and what they are built from: scores, wrappers, architectures, weights.

The package itself imports no torch.
"""
