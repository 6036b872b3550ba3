"""The waterfall: each step starts where the one before ended, and ends are the cells' means."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from harness.plots import waterfall
from tests.frames import TRICKS, in_scenarios, study, with_losses
from tests.plots.seen import footers, overhang, shown, texts


def draw(frames):
    cells, effects = frames
    return waterfall(effects, cells)


def spans(axes):
    """Start, end and hatch of each bar, from the top."""
    bars = sorted(axes.patches, key=lambda bar: bar.get_y())
    return [(bar.get_x(), bar.get_x() + bar.get_width(), bool(bar.get_hatch())) for bar in bars]


def mean_of(cells, policy, tricks):
    match = cells[(cells["policy"] == policy) & (cells[list(TRICKS)].sum(axis=1) == len(tricks))]
    match = match[match[list(tricks)].all(axis=1)] if tricks else match
    (mean,) = match["test_top1_mean"]
    return 100 * mean


@pytest.mark.parametrize("make", [study, in_scenarios, with_losses, lambda: study(orders=3)])
def test_every_study_draws_within_its_edges(make):
    assert overhang(draw(make())) < 0.05


@pytest.mark.parametrize(("place", "policy"), [(0, "full"), (1, "head")])
def test_steps_lead_from_the_baseline_to_all_of_them(place, policy):
    cells, effects = study()
    axes = shown(waterfall(effects, cells)).axes[place]
    levels = [mean_of(cells, policy, TRICKS[:k]) for k in range(6)]
    assert [bar[:2] for bar in spans(axes)] == [
        (pytest.approx(start), pytest.approx(end)) for start, end in pairwise(levels)
    ]
    assert [bar[2] for bar in spans(axes)] == [end < start for start, end in pairwise(levels)]
    ends = [container.lines[0].get_xdata()[0] for container in axes.containers if hasattr(container, "lines")]
    assert ends == [pytest.approx(levels[0]), pytest.approx(levels[-1])]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "baseline",
        *(f"+ {trick}" for trick in TRICKS),
        "all of them",
    ]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_intervals_stand_around_the_end_of_a_step():
    cells, effects = study()
    axes = shown(waterfall(effects, cells)).axes[0]
    lines = [line for line in axes.lines if line.get_solid_capstyle() == "butt" and line.get_color() == "black"]
    ends = [tuple(np.asarray(line.get_xdata())) for line in lines]
    steps = effects[(effects["kind"] == "step") & (effects["policy"] == "full")]
    starts = [mean_of(cells, "full", TRICKS[:k]) for k in range(5)]
    assert ends == [
        (pytest.approx(start + 100 * low), pytest.approx(start + 100 * high))
        for start, low, high in zip(starts, steps["low"], steps["high"], strict=True)
    ]
    assert "95 % paired t over seeds" in footers(shown(waterfall(effects, cells)))


def test_numbers_stand_beside():
    cells, effects = study()
    axes = shown(waterfall(effects, cells)).axes[0]
    by_row = {text.get_position()[1]: text.get_text() for text in axes.texts}
    base = cells.iloc[0]
    assert by_row[0] == f"{100 * base['test_top1_mean']:.1f} ± {100 * base['test_top1_sd']:.1f}"
    step = effects[effects["kind"] == "step"].iloc[1]
    assert by_row[2] == f"{100 * step['estimate']:+.1f} [{100 * step['low']:+.1f} to {100 * step['high']:+.1f}]"


def test_up_to_three_orders_have_a_panel_each_on_one_scale():
    figure = shown(draw(study(orders=3)))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{policy}, order {number}" for policy in ("full", "head") for number in (1, 2, 3)]
    assert figure.axes[1].get_yticklabels()[1].get_text() == "+ cosine"
    assert len({axes.get_xlim() for axes in figure.axes[:3]}) == 1
    for axes in figure.axes:
        assert spans(axes)[0][0] == pytest.approx(
            spans(figure.axes[0 if "full" in axes.get_title(loc="left") else 3])[0][0]
        )


def test_a_step_that_two_orders_have_is_drawn_in_both():
    """The frame lists it once, with the first of them."""
    cells, effects = study(policies=["full"])
    steps = effects[effects["kind"] == "step"]
    (design,) = set(steps["design"])
    *begin, last_but_one, last = design.removeprefix("cumulative: ").split(" > ")
    other = "cumulative: " + " > ".join([*begin, last, last_but_one])
    again = steps[steps["trick"].isin([last, last_but_one])].assign(design=other)
    first, second = shown(waterfall(pd.concat([effects, again]), cells)).axes
    assert texts(second)[: len(begin) + 1] == texts(first)[: len(begin) + 1]
    assert [label.get_text() for label in second.get_yticklabels()][-3:-1] == [f"+ {last}", f"+ {last_but_one}"]


def test_more_orders_have_a_panel_each_while_there_is_room():
    titles = [axes.get_title(loc="left") for axes in shown(draw(study(orders=5))).axes]
    assert titles == [f"{policy}, order {number}" for policy in ("full", "head") for number in range(1, 6)]


def test_more_orders_become_means_by_place_where_there_is_none():
    cells, effects = study(policies=["full", "head", "last_stage"], orders=5)
    again = effects[(effects["kind"] == "step")].iloc[:5].assign(design="cumulative: warmup > cosine > ema > mixup")
    again = again[again["trick"].isin(["warmup"])].assign(estimate=0.1)
    figure = shown(waterfall(pd.concat([effects, again]), cells))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(TRICKS)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3", "4", "5"]
    steps = effects[(effects["kind"] == "step") & (effects["policy"] == "full")]
    values = np.asarray(axes.images[0].get_array())
    for step in steps.to_dict("records"):
        place = step["design"].removeprefix("cumulative: ").split(" > ").index(step["trick"])
        row = TRICKS.index(step["trick"])
        mean = (step["estimate"] + 0.1) / 2 if (row, place) == (0, 0) else step["estimate"]
        assert values[row, place] == pytest.approx(100 * mean)
    counts = {text.get_position(): text.get_text().split("\n")[1] for text in axes.texts}
    assert counts.pop((0, 0)) == "(2)"
    assert set(counts.values()) == {"(1)"}
    assert "place in the order" in figure.get_suptitle()
    assert "distinct steps" in footers(figure)


def test_a_lost_step_says_so():
    figure = shown(draw(with_losses()))
    assert "no pair finished" in texts(figure.axes[1])
    assert "no pair finished" not in texts(figure.axes[0])


def test_scenarios_take_their_own_means():
    cells, effects = in_scenarios()
    figure = shown(waterfall(effects, cells))
    baselines = cells[cells[list(TRICKS)].sum(axis=1) == 0]
    found = {axes.get_title(loc="left"): spans(axes)[0][0] for axes in figure.axes}
    assert found == {
        f"{row['policy']}, size {row['size']}": pytest.approx(100 * row["test_top1_mean"])
        for row in baselines.to_dict("records")
    }


def test_nothing_stacked_has_no_figure():
    cells, effects = study()
    assert waterfall(effects[effects["kind"] != "step"], cells) is None
    assert waterfall(effects.assign(estimate=float("nan")), cells) is None
