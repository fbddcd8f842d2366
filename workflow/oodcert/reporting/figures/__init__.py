"""Figures as pure functions of (evidence, config), drawn without a display."""

from collections.abc import Callable

from matplotlib.figure import Figure

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.figures.ablation import ablation
from oodcert.reporting.figures.certified_roc import certified_roc
from oodcert.reporting.figures.denoised import denoised, read_examples
from oodcert.reporting.figures.headline import headline
from oodcert.reporting.figures.id_certified import id_certified
from oodcert.reporting.figures.l2_bracket import l2_bracket
from oodcert.reporting.figures.one_pass import one_pass
from oodcert.reporting.figures.scores import scores
from oodcert.reporting.figures.style import colours, save, style
from oodcert.reporting.figures.training import training

FIGURES: dict[str, Callable[[Evidence, Config], Figure]] = {
    "scores": scores,
    "l2_bracket": l2_bracket,
    "one_pass": one_pass,
    "certified_roc": certified_roc,
    "id_certified": id_certified,
    "denoised": denoised,
    "training": training,
    "headline": headline,
    "ablation": ablation,
}

__all__ = [
    "FIGURES",
    "ablation",
    "certified_roc",
    "colours",
    "denoised",
    "headline",
    "id_certified",
    "l2_bracket",
    "one_pass",
    "read_examples",
    "save",
    "scores",
    "style",
    "training",
]
