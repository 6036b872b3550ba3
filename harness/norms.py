"""What the diagnosis of batch norm shows: a table, sentences and a figure, from the frame of figures."""

from __future__ import annotations

from itertools import cycle

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.plots import COLOURS, GREY, PANELS, STYLE
from harness.results import axes_of, scenario_of
from harness.tasks.metrics import TOP1
from harness.wording import mean_sd, trick_set

_COLUMNS = {
    "test_top1_batch_1": "batch of 1",
    "test_top1_batch_8": "batch of 8",
    "test_top1_batch_64": "batch of 64",
    "test_top1_source_backbone": "head over source backbone",
}
NOTE = (
    "Test top-1 of the trained networks, %, mean ± sd over seeds: as everywhere in this report, with batch norm "
    "normalising by its running statistics; in their place by the statistics of batches of test images, in one drawn "
    "order; and of the trained head over the backbone that training started from. The divergence of a layer is that of "
    "Kullback and Leibler, in nats, of the Gaussian of what reaches it from the training images from that of its "
    "running statistics, the mean over its channels: 0 where the running statistics are those of the images."
)
"""What table and figure show, as the report says it."""
_DASHES = ("--", ":", "-.", (0, (1, 3)))


def table(diagnosed: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return test top-1 of each diagnosed cell, in per cent, by what batch norm normalised with.

    `diagnosed` is the frame `batch_norm` of a grid, `cells` that of `effects.cells`.
    """
    whole = diagnosed[diagnosed["layer"] == ""].groupby(["cell", "figure"])["value"].agg(["mean", "std"])
    return pd.DataFrame(
        {
            "policy": row["policy"],
            "tricks": trick_set(row["cell"]),
            **{axis: row[axis] for axis in axes_of(cells)},
            "running statistics": mean_sd(row[TOP1.mean], row[TOP1.sd]),
            **{title: mean_sd(*map(float, whole.loc[(row["cell"], figure)])) for figure, title in _COLUMNS.items()},
        }
        for row in cells.to_dict("records")
        if row["cell"] in set(diagnosed["cell"])
    )


def missing(diagnosed: pd.DataFrame) -> list[str]:
    """Return why figures are missing, one sentence a figure and reason."""
    reasons = diagnosed[diagnosed["reason"] != ""].drop_duplicates(["figure", "reason"])
    return [f"No figure by a {_COLUMNS[row['figure']]}: {row['reason']}." for row in reasons.to_dict("records")]


def figure(diagnosed: pd.DataFrame) -> Figure:
    """Draw the divergence of each layer before and after training without tricks: means over seeds.

    One panel a scenario, one line a policy. Policies that start from the same network share the line of their start.
    """
    rows = diagnosed[(diagnosed["layer"] != "") & (diagnosed["cell"].map(trick_set) == "baseline")]
    axes = axes_of(rows)
    rows = rows.assign(scenario=[scenario_of(row, axes) for row in rows.to_dict("records")])
    scenarios, layers = (list(dict.fromkeys(rows[name])) for name in ("scenario", "layer"))
    colours = dict(zip(dict.fromkeys(rows["policy"]), cycle(COLOURS), strict=False))
    wide = min(max(len(scenarios), 1), PANELS)
    deep = -(-max(len(scenarios), 1) // PANELS)
    with mpl.rc_context(STYLE):
        size = (max(7.6, wide * (1.2 + 0.17 * len(layers)) + 2.2), deep * 3.0 + 1.6)
        figure = Figure(figsize=size, layout="constrained")
        panels = list(figure.subplots(deep, wide, sharey=True, sharex=True, squeeze=False).flat)
        for panel, scenario in zip(panels, scenarios, strict=False):
            _draw(panel, rows[rows["scenario"] == scenario], layers, colours)
            panel.set_title(scenario, fontsize=10)
        for panel in panels[max(len(scenarios), 1) :]:
            panel.set_visible(False)
        figure.supxlabel(
            "batch norm, from the first layer to the last; mean over seeds, without tricks", color=GREY, size=9.5
        )
        figure.supylabel("divergence per channel, nats (log scale)", size=9.5)
        figure.suptitle("Divergence of the training images from running statistics", x=0.01, ha="left", size=11)
        handles = {label: h for panel in panels for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
        if handles:
            figure.legend(handles.values(), handles, loc="outside right upper", frameon=False, fontsize=8.5)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame, layers: list[str], colours: dict[str, str]) -> None:
    means = rows.pivot_table(index="layer", columns=["figure", "policy"], values="value").reindex(layers)
    policies = list(dict.fromkeys(rows["policy"]))
    # Each seed starts from its own images: means over other seeds would tell equal starts apart.
    shared = rows.groupby("seed")["policy"].nunique() == len(policies)
    alike = rows[rows["seed"].isin(shared.index[shared])] if shared.any() else rows
    begins = alike.pivot_table(index="layer", columns=["figure", "policy"], values="value").reindex(layers)
    starts: dict[tuple[float, ...], list[str]] = {}
    for policy in policies:
        starts.setdefault(tuple(begins["shift_start", policy]), []).append(policy)
    panel.set_yscale("log")
    for (values, sharing), dashes in zip(starts.items(), cycle(_DASHES), strict=False):
        whose = "" if len(starts) == 1 else f" of {', '.join(sharing)}"
        panel.plot(layers, values, color="black", ls=dashes, lw=1, zorder=3, label=f"start{whose}")
    for policy in policies:
        ends = means["shift_end", policy]
        panel.plot(layers, ends, color=colours[policy], lw=1.4, marker=".", label=f"end of {policy}")
    panel.tick_params(axis="x", rotation=90, labelsize=7.5)
