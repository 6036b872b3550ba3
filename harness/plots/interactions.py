"""Interactions: how the worth of a trick varies with another trick, with the policy, with the scenario."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from harness.plots.matrix import ROOMY, by_place, claims_legend, effect_text, largest, matrix, scale, wrap
from harness.plots.style import STYLE, first, footer, grid, interval_name, on, unique
from harness.tasks.metrics import TOP1, Metric
from harness.wording import NOTHING

_TIMES = " × "


def interactions(effects: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the interaction of every two tricks on the score, a matrix a policy and scenario, its lower triangle.

    A place is the effect of one trick where the other is on minus its effect where that is off: above zero they are
    worth more together than apart. None where no two tricks were crossed.
    """
    found = on(score, effects, "interaction")
    found = found[(found["against"] == "") & found["trick"].str.contains(_TIMES)]
    if found["estimate"].isna().all():
        return None
    pairs = found["trick"].str.split(_TIMES, n=1)
    found = found.assign(early=pairs.str[0], late=pairs.str[1])
    # A pair is written once, in the order of its tricks, so the first of them are in order and the last is no first.
    tricks = list(dict.fromkeys([*found["early"], *found["late"]]))
    rank = {trick: number for number, trick in enumerate(tricks)}
    turned = found["early"].map(rank) > found["late"].map(rank)
    found.loc[turned, ["early", "late"]] = found.loc[turned, ["late", "early"]].to_numpy()
    shown, note = first(list(dict.fromkeys(zip(found["row"], found["design"], strict=True))), "policies and scenarios")
    roomy = len(shown) * (len(tricks) - 1) ** 2 <= ROOMY
    down, across = tricks[1:], tricks[:-1]
    each = (1.02, 0.55) if roomy else (0.56, 0.3)
    designs = found["design"].nunique()
    with mpl.rc_context(STYLE):
        figure, panels = grid(len(shown), 2, 1.3 + each[0] * len(across), 1.1 + each[1] * len(down))
        for panel, (row, design) in zip(panels, shown, strict=True):
            effects_here = by_place(found[(found["row"] == row) & (found["design"] == design)], "late", "early")
            texts = {place: effect_text(effect, roomy) for place, effect in effects_here.items()}
            image = matrix(panel, down, across, effects_here, texts, largest(found), absent="white")
            panel.set_xticks(range(len(across)), [wrap(name) if roomy else name for name in across])
            panel.set_yticks(range(len(down)), down)
            panel.tick_params(labelsize=8.5)
            panel.tick_params(axis="x", rotation=0 if roomy else 90, labelbottom=panel in panels[-2:])
            panel.set_title(row.replace("\n", ", ") + (f" ({design})" if designs > 1 else ""), fontsize=10)
        scale(figure, image, panels, score)
        figure.suptitle(f"Interaction of every two tricks on test {score.label}", x=0.01, ha="left", fontsize=11)
        meaning = "effect of one where the other is on, minus its effect where that is off, in points"
        footer(figure, [meaning, *_notes(found, roomy), note])
    return figure


def policy_interactions(effects: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw how much more a trick is worth under each policy than under the reference policy, on the score.

    Policies down, tricks across. None where no trick was tried under two policies.
    """
    found = on(score, effects, "interaction")
    found = found[found["against"].isin(set(effects["policy"]))]
    return None if found["estimate"].isna().all() else _differences(found, "policy", score)


def scenario_interactions(effects: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw how much more a trick is worth in each scenario than in the reference scenario, on the score.

    Policies and scenarios down, tricks across. None where no trick was tried in two scenarios.
    """
    found = on(score, effects, "interaction")
    found = found[found["against"].isin(set(effects["scenario"]) - {""})]
    return None if found["estimate"].isna().all() else _differences(found, "scenario", score)


def _differences(found: pd.DataFrame, by: str, score: Metric) -> Figure:
    if found.duplicated(["row", "trick"]).any():
        found = found.assign(row=found["row"] + "\n(" + found["design"].replace("one_in", "alone") + ")")
    rows, columns = unique(found["row"]), unique(found["trick"])
    roomy = len(rows) * len(columns) <= ROOMY
    effects = by_place(found, "row", "trick")
    texts = {place: effect_text(effect, roomy) for place, effect in effects.items()}
    deepest = 0.2 + 0.17 * max(1 + row.count("\n") for row in rows)
    size = (
        (2.1 + 1.1 * len(columns), max(0.55, deepest) * len(rows))
        if roomy
        else (3 + 0.55 * len(columns), 0.3 * len(rows) + 1)
    )
    against = " and ".join(unique(found["against"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(7.6, size[0]), size[1] + 1.9), layout="constrained")
        panel = figure.add_subplot()
        image = matrix(panel, rows, columns, effects, texts, largest(found))
        panel.set_xticks(range(len(columns)), [wrap(name) if roomy else name for name in columns])
        panel.set_yticks(range(len(rows)), rows if roomy else [row.replace("\n", ", ") for row in rows])
        panel.tick_params(axis="x", rotation=0 if roomy else 90)
        scale(figure, image, [panel], score)
        figure.suptitle(f"Does a trick's worth depend on the {by}?", x=0.01, ha="left", fontsize=11)
        meaning = f"effect of the trick minus its effect under {against}, in points"
        footer(figure, [meaning, *_notes(found, roomy)])
    return figure


def _notes(found: pd.DataFrame, roomy: bool) -> list[str]:
    name = interval_name(found)
    interval = f"bold: the interval leaves out zero ({name})" if name else ""
    missing = f"{NOTHING}: no pair finished" if found["estimate"].isna().any() else ""
    return [interval, missing, claims_legend(found)] if roomy or name else [missing, claims_legend(found)]
