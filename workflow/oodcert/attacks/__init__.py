"""Attacks on the confidence of OOD images and on the labels of ID images. The package itself imports no torch."""

REDUCED = 0.25  # share of its iterations and queries with which an attack must not do better
ATTACK_ALPHA = 1e-7  # error probability of an l2 attack's lower bounds: many are compared with certificates
AUTOATTACK = {"standard": ("apgd-ce", "apgd-t", "fab-t", "square"), "rand": ("apgd-ce", "apgd-dlr")}  # by version
