"""The evaluations: each turns the components of a method and the image sets into evidence, a row per image and setting.

A file an evaluation holds its EvaluationSpec and its function; `oodcert.evaluations.registry` lists them. The package
imports no torch before an evaluation is computed, so the functions import it themselves.
"""
