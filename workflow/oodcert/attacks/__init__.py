"""Attacks on the confidence of OOD images and on the labels of ID images."""
