"""What a policy makes of source networks, against what those are worth on their own task."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from harness.plots.style import COLOURS, GREY, PANELS, SHAPES, STYLE, first, footer, grid
from harness.tasks.metrics import TOP1, Metric

_RANKED = 5
"""Source networks, each in one scenario, from which on it is said how far ranks agree."""


def transfer(found: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the rows of `transfer.frame`: a panel a policy, a point a source network, its mark the scenario.

    None where there are no rows.
    """
    if found.empty:
        return None
    policies, note = first(list(dict.fromkeys(found["policy"])), "policies")
    scenarios = list(dict.fromkeys(found["scenario"]))
    marks = {name: (SHAPES[i % len(SHAPES)], COLOURS[i % len(COLOURS)]) for i, name in enumerate(scenarios)}
    with mpl.rc_context(STYLE):
        figure, panels = grid(len(policies), min(PANELS, 2), 4.2, 3.4, sharex=True)
        for panel, policy in zip(panels, policies, strict=True):
            _draw(panel, found[found["policy"] == policy], marks)
            panel.set_title(policy, fontsize=10)
            panel.set_ylabel(f"test {score.label} after transfer, %")
            panel.set_xlabel(f"test {TOP1.label} of the source network on its own task, %")
        figure.suptitle("Do better source networks transfer better?", x=0.01, ha="left", fontsize=11)
        handles = [panels[0].plot([], [], mark, color=colour, label=name)[0] for name, (mark, colour) in marks.items()]
        footer(figure, [note, "each point is one source network, the mean over seeds"], handles)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame, marks: dict[str, tuple[str, str]]) -> None:
    for name, group in rows.groupby("scenario", sort=False):
        mark, colour = marks[str(name)]
        panel.plot(100 * group["source_top1"], 100 * group["score"], mark, color=colour, markersize=6, alpha=0.85)
    known = rows.dropna(subset=["source_top1", "score"])
    if len(known) >= _RANKED and known["source"].is_unique and known[["source_top1", "score"]].nunique().min() > 1:
        rank = spearmanr(known["source_top1"], known["score"]).statistic
        panel.text(
            0.02,
            0.98,
            f"rank correlation {rank:+.2f} over {len(known)} source networks".replace("-", "−"),
            transform=panel.transAxes,
            va="top",
            fontsize=8.5,
            color=GREY,
        )
    panel.margins(0.08, 0.14)
