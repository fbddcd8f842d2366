"""The evaluations: each turns a method's trained parts and the image sets into per-sample evidence.

Every function takes an Evaluation (base.py) and returns a DataFrame, a row per sample (and setting), in a fixed order.
"""
