"""Certificates: draws of the smoothed network, bounds from the draws, and interval bounds."""
