"""Attacks on the confidence of OOD images and on the labels of ID images."""

REDUCED = 0.25  # share of its iterations and queries with which an attack must not do better
