"""Certificates: draws of the smoothed network, bounds from the draws, and interval bounds."""

WITHOUT_RANGE = ("percentile", "vote")  # bounds of any score; the others need one in [0, 1]
UNBOUNDED_SCORES = ("energy", "max_logit", "atom")  # of oodcert.Detector
