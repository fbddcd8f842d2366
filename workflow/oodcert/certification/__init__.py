"""Certificates: draws of the smoothed network, bounds from the draws, and interval bounds."""

WITHOUT_RANGE = ("percentile", "vote")  # bounds of any score; the others need one in [0, 1]
VACUOUS = 1 - 1e-6  # an interval bound on a maximum softmax probability above this says nothing and is reported as 1
