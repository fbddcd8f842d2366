"""Certificates: draws of the smoothed network, bounds from the draws, and interval bounds."""

VACUOUS_ABOVE = 1 - 1e-6  # an interval bound on a maximum softmax probability above this says nothing: it counts as 1
