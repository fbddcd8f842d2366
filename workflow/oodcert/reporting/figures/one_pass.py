"""The brackets of two detectors, of many passes a query and of one: what is certified, and what an attack achieved."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from oodcert.config.models import Config
from oodcert.evidence.store import Evidence
from oodcert.reporting.display_names import label
from oodcert.reporting.figures.style import INK, LOOKS, Look, colours, panels, style
from oodcert.reporting.tables.one_pass import BOUND, attacked_one_pass_table, one_pass_table
from oodcert.reporting.tables.values import attacked_l2_table, guaranteed_l2_table

ONE_PASS: Look = {"linestyle": ":", "marker": "^"}
ATTACKED: Look = {"linestyle": "none", "marker": "x"}
ATTACKED_ONE_PASS: Look = {"linestyle": "none", "marker": "+", "markersize": 7}
COMPARED = ("percentile", "cdf")


def one_pass(evidence: Evidence, config: Config) -> Figure:
    """AUC against the l2 radius, certified and under attack, averaged over the OOD sets, a panel per method.

    It is drawn at the first sigma of one_pass that certify_l2 has too. The legend says how many passes a query and an
    image of the certificate take. The bracket of the one-pass detector is filled in the method's colour, that of the
    smoothed detector (percentile bound) in grey.

    Args:
        evidence: evaluation -> its rows.
        config: the run's, with settings for one_pass.

    Returns:
        The figure.
    """
    settings, certify = config.evaluation.one_pass, config.evaluation.certify_l2
    assert settings is not None, "without settings the figure is not drawn"
    sigma = settings.sigmas[0]
    only = config.changed(evaluation={key: {"sigmas": (sigma,)} for key in ("certify_l2", "one_pass")})
    is_attacked = bool(np.isclose(sigma, config.evaluation.attack_l2.sigmas).any())
    only = only.changed(evaluation={"attack_l2": {"sigmas": (sigma,) if is_attacked else ()}})
    smoothed = _means(guaranteed_l2_table(evidence, only).query("set != 'average'"), ["method", "bound", "radius"])
    single = _means(one_pass_table(evidence, only), ["method", "radius"])
    keys = ["method", "radius"]
    attacked = _means(attacked_l2_table(evidence, only).query("set != 'average'"), keys) if is_attacked else None
    attacked_single = _means(attacked_one_pass_table(evidence, only), keys) if is_attacked else None
    looks = dict(zip([bound for bound in COMPARED if bound in certify.bounds], LOOKS, strict=False))
    with style(config.figures):
        figure, grid = panels(len(config.methods), height=1.9, extra=0.95)
        for axes, (method, colour) in zip(grid, colours(config.methods, config.figures).items(), strict=True):
            for bound, look in looks.items():
                if (method, bound) in smoothed:  # a score without a range has no mean bound
                    axes.plot(smoothed[method, bound].index, smoothed[method, bound], color=INK, **look)
            axes.plot(single[method].index, single[method], color=colour, **ONE_PASS)
            if attacked is not None and attacked_single is not None:
                _bracket(axes, smoothed[method, "percentile"], attacked[method], INK, ATTACKED)
                _bracket(axes, single[method], attacked_single[method], colour, ATTACKED_ONE_PASS)
            axes.axhline(0.5, color="0.7", linewidth=0.8, zorder=0)
            axes.set_title(label(method))
            axes.set_ylim(-0.03, 1.03)
            axes.locator_params(axis="x", nbins=4)
        many, few = f"{certify.n} passes a query", f"1 pass a query, {settings.draws} to certify an image"
        handles = [
            *(Line2D([], [], color=INK, **look, label=f"{label(bound)} ({many})") for bound, look in looks.items()),
            Line2D([], [], color=INK, **ONE_PASS, label=f"{BOUND} ({few})"),
            Line2D([], [], color="0.7", linewidth=0.8, label="chance"),
        ]
        if is_attacked:
            handles += [
                Line2D([], [], color=INK, **ATTACKED, label="attacked (smoothed)"),
                Line2D([], [], color=INK, **ATTACKED_ONE_PASS, label="attacked (one pass)"),
            ]
        figure.legend(handles=handles, loc="outside upper center", ncols=2, handlelength=3)
        figure.supxlabel(f"ℓ₂ radius R of the perturbation (σ = {sigma:g})")
        figure.supylabel("AUC, mean over OOD sets")
    return figure


def _bracket(axes: Axes, certified: pd.Series, attacked: pd.Series, colour: object, look: Look) -> None:
    """Draws the attacked end of a bracket, and fills it from the certified one."""
    axes.plot(attacked.index, attacked, color=colour, **look)
    axes.fill_between(attacked.index, certified.loc[attacked.index], attacked, color=colour, alpha=0.15, linewidth=0)


def _means(table: pd.DataFrame, keys: list[str]) -> pd.Series:
    """The AUC by the keys, averaged over the OOD sets."""
    return table.groupby(keys)["auc"].mean()
