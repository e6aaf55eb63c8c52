"""Draws accuracy against multiply-accumulates, accepted and rejected networks apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from experiments.border_audit.filters import border_screen
from experiments.border_audit.networks import Floats, Ints, Mask
from experiments.border_audit.verdicts import Table
from spaces.border import Rule

_ACCEPTED, _REJECTED, _BEST = "#2f6f9f", "#c2553f", "#444444"


def best_so_far(cost: Ints, accuracy: Floats) -> tuple[Ints, Floats]:
    """Return costs in ascending order, and the best accuracy that no higher cost reaches."""
    order = np.argsort(cost, kind="stable")
    return cost[order], np.maximum.accumulate(accuracy[order])


def draw(tables: Mapping[str, Table], path: Path) -> None:
    """Draw one panel for each table as SVG; equal tables give equal files.

    Args:
        tables: by name.
        path: of the file.
    """
    with mpl.rc_context({"svg.hashsalt": "border", "svg.fonttype": "none"}):
        figure = Figure(figsize=(max(5.4, 4.2 * len(tables)), 3.8), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(1, len(tables), squeeze=False)[0]
        for axes, (name, table) in zip(panels, tables.items(), strict=True):
            rejected = border_screen(table.networks, Rule.PREVIOUS_CONV, 0)
            _panel(axes, name, table, rejected)
        panels[0].set_ylabel("mean accuracy over the seeds")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
        figure.savefig(path, metadata={"Date": None})


def _panel(axes: Axes, name: str, table: Table, rejected: Mask) -> None:
    macs, accuracy = table.networks.macs, table.accuracy
    for chosen, colour, label in (
        (rejected, _REJECTED, "rejected"),
        (~rejected, _ACCEPTED, "accepted"),
    ):
        axes.scatter(
            macs[chosen], accuracy[chosen], s=7, color=colour, alpha=0.6, linewidths=0, label=label
        )
    cost, best = best_so_far(macs[~rejected], accuracy[~rejected])
    label = "best accepted up to this cost"
    axes.step(
        np.append(cost, macs.max()),
        np.append(best, best[-1]),
        _BEST,
        where="post",
        lw=1,
        label=label,
    )
    axes.set_xscale("log")
    axes.set_ylim(bottom=float(np.quantile(accuracy, 0.02)))
    axes.set_xlabel("multiply-accumulates of one image")
    axes.set_title(
        f"{name}: {np.mean(rejected):.0%} of {len(macs):,} rejected", loc="left", fontsize="medium"
    )
