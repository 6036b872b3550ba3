"""What the diagnosis of batch norm shows: a table, sentences and a figure, from the frame of figures."""

from __future__ import annotations

from itertools import cycle

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from harness.plots import COLOURS, GREY, STYLE, rows_of
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
            "running statistics": mean_sd(row["test_top1_mean"], row["test_top1_sd"]),
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
    """Draw the divergence of each layer before and after training without tricks, one line a policy: means over seeds.

    Policies that start from the same network share the line of their start.
    """
    rows = diagnosed[(diagnosed["layer"] != "") & (diagnosed["cell"].map(trick_set) == "baseline")]
    rows = rows.assign(policy=[name.replace("\n", ", ") for name in rows_of(rows)])
    layers = list(dict.fromkeys(rows["layer"]))
    means = rows.pivot_table(index="layer", columns=["figure", "policy"], values="value").reindex(layers)
    policies = list(dict.fromkeys(rows["policy"]))
    starts: dict[tuple[float, ...], list[str]] = {}
    for policy in policies:
        starts.setdefault(tuple(means["shift_start", policy]), []).append(policy)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(7.6, 2.6 + 0.2 * len(layers)), 4.6), layout="constrained")
        axes = figure.add_subplot()
        axes.set_yscale("log")
        for (values, sharing), dashes in zip(starts.items(), cycle(_DASHES), strict=False):
            whose = "" if len(starts) == 1 else f" of {', '.join(sharing)}"
            axes.plot(layers, values, color="black", ls=dashes, lw=1, zorder=3, label=f"start{whose}")
        for policy, colour in zip(policies, cycle(COLOURS), strict=False):
            axes.plot(layers, means["shift_end", policy], color=colour, lw=1.4, marker=".", label=f"end of {policy}")
        axes.tick_params(axis="x", rotation=90, labelsize=7.5)
        axes.set_xlabel("batch norm, from the first layer to the last; mean over seeds, without tricks", color=GREY)
        axes.set_ylabel("divergence per channel, nats (log scale)")
        axes.set_title("Divergence of the training images from running statistics")
        if policies:
            figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)
    return figure
