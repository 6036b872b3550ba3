"""What can be seen of a figure, and the grids that every figure has to draw."""

import io
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from harness.effects import cells, effects
from harness.foreign import grid_of
from harness.plots import STYLE
from tests.samples import runs_table

METADATA = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""What a report writes, so that the same figure gives the same bytes."""


def frames(outcomes, metrics=None):
    runs = runs_table(outcomes, metrics)
    return cells(runs), effects(grid_of(runs))


def curves_table(outcomes, epochs=3):
    """Validation curves that rise by 0.1 an epoch from the outcome of a replicate."""
    rows = [
        {
            "policy": cell.split(" | ")[0],
            "cell": cell,
            "seed": seed,
            "epoch": epoch,
            "step": 3 * epoch,
            "train_loss": 1.0,
            "val_top1": value + 0.1 * (epoch - 1),
        }
        for cell, values in outcomes.items()
        for seed, value in enumerate(values)
        if isinstance(value, float)
        for epoch in range(1, epochs + 1)
    ]
    return pd.DataFrame(rows, columns=["policy", "cell", "seed", "epoch", "step", "train_loss", "val_top1"])


def shown(figure: Figure | None) -> Figure:
    """The figure, which there is."""
    assert figure is not None
    return figure


def drawn(figure: Figure | None, form: str = "png") -> bytes:
    """Draw the figure as a report does; any warning, as of a layout that fails, is an error."""
    figure = shown(figure)
    content = io.BytesIO()
    with mpl.rc_context({**STYLE, "savefig.dpi": 40}):
        figure.savefig(content, format=form, metadata=METADATA[form])
    assert len(content.getvalue()) > 1000
    return content.getvalue()


def overhang(figure: Figure | None) -> float:
    """Inches by which what is drawn reaches beyond the figure's edges."""
    figure = shown(figure)
    with mpl.rc_context(STYLE):
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return float(max(-box.x0, -box.y0, box.x1 - width, box.y1 - height))


def of_tricks(found):
    """The effects that a heatmap shows."""
    return found[(found["metric"] == "test_top1") & found["kind"].isin(["one_in", "combined"])]


def bars(axes) -> Any:
    """The points of a plot, each with the bar of its error."""
    return [container.lines[0] for container in axes.containers]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def footers(figure: Figure) -> str:
    """The notes below the panels."""
    return "\n".join(legend.get_title().get_text() for legend in figure.legends)


LABELS = [f"trick_number_{number}" for number in range(12)]
GRIDS: dict[str, dict[str, list[Any]]] = {
    "plain": {
        "full | baseline": [0.50, 0.60, 0.70],
        "full | mixup": [0.52, 0.63, 0.69],
        "full | mixup + cosine": [0.45, 0.56, 0.62],
        "head | baseline": [0.30, 0.20, 0.10],
        "head | mixup": [0.31, 0.24, 0.12],
        "head | mixup + cosine": [0.31, 0.20, 0.05],
    },
    "one seed": {"full | baseline": [0.5], "full | mixup": [0.6], "head | baseline": [0.4], "head | mixup": [0.2]},
    "one policy": {"full | baseline": [0.5, 0.6], "full | mixup": [0.6, 0.8]},
    "lost replicates": {
        "full | baseline": [0.50, 0.60, 0.70, "failed"],
        "full | mixup": [0.52, "diverged", 0.69, 0.7],
        "full | cosine": ["failed"] * 4,
        "head | baseline": ["diverged"] * 4,
        "head | mixup": [0.1, 0.2, 0.3, 0.4],
        "head | cosine": ["missing"] * 4,
    },
    "a set of one policy": {
        "full | baseline": [0.5, 0.6],
        "full | mixup": [0.6, 0.8],
        "head | baseline": [0.4, 0.2],
    },
    "pairs alike": {"full | baseline": [0.5, 0.25], "full | mixup": [0.625, 0.375]},
    "no tricks": {"full | baseline": [0.5, 0.6], "head | baseline": [0.4, 0.3]},
    "nothing run": {"full | baseline": ["missing"] * 2, "full | mixup": ["missing"] * 2},
    "12 tricks": {
        f"{p} | {t}": [0.5, 0.61] for p in ("full", "head") for t in ("baseline", *LABELS, "all 12 together")
    },
    "six policies": {f"policy{number} | {t}": [0.5, 0.61] for number in range(6) for t in ("baseline", "mixup")},
}
