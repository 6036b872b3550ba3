"""Shapley bars: sorted, with intervals, and their sum."""

import pandas as pd
import pytest

from harness.plots import shapley
from tests.frames import in_scenarios, study, with_losses
from tests.plots.seen import overhang, shown, texts


@pytest.mark.parametrize("make", [study, in_scenarios])
def test_every_study_draws_within_its_edges(make):
    assert overhang(shapley(make()[1])) < 0.05


@pytest.mark.parametrize(("place", "policy"), [(0, "full"), (1, "head")])
def test_bars_are_sorted_and_end_with_their_sum(place, policy):
    _, found = study()
    axes = shown(shapley(found)).axes[place]
    values = found[(found["kind"] == "shapley") & (found["policy"] == policy)]
    values = values.sort_values("estimate", ascending=False)
    (combined,) = found[(found["kind"] == "combined") & (found["policy"] == policy)]["estimate"]
    assert axes.get_title(loc="left") == policy
    assert [label.get_text() for label in axes.get_yticklabels()] == [*values["trick"], "sum"]
    bars = sorted(axes.patches, key=lambda bar: bar.get_y())
    assert [bar.get_width() for bar in bars] == pytest.approx([*(100 * values["estimate"]), 100 * combined])
    assert [bool(bar.get_hatch()) for bar in bars] == [*(values["estimate"] < 0), False]
    ends = [tuple(line.get_xdata()) for line in axes.lines if line.get_solid_capstyle() == "butt"]
    assert ends == [
        (pytest.approx(100 * low), pytest.approx(100 * high))
        for low, high in zip(values["low"], values["high"], strict=True)
    ]


def test_policies_share_a_scale():
    figure = shown(shapley(study()[1]))
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert "points" in figure.axes[0].get_xlabel()


def test_values_from_permutations_say_the_error_of_the_orders():
    _, found = study()
    said = texts(shown(shapley(found.assign(order_se=0.004))).axes[0])
    assert [text.endswith("s.e. of orders 0.4") for text in said] == [True] * 5 + [False]
    assert "s.e." not in "".join(texts(shown(shapley(found)).axes[0]))


def test_two_designs_are_told_apart():
    _, found = study()
    both = pd.concat([found, found.assign(design="permutations")])
    titles = [axes.get_title(loc="left") for axes in shown(shapley(both)).axes]
    assert titles == ["full (factorial)", "head (factorial)", "full (permutations)", "head (permutations)"]


def test_a_value_that_is_lost_says_so_and_leaves_no_sum():
    _, found = study()
    lost = found.index[(found["kind"] == "shapley") & (found["trick"] == "ema")][0]
    found.loc[lost, ["estimate", "low", "high"]] = float("nan")
    axes = shown(shapley(found)).axes[0]
    assert texts(axes)[-2:] == ["no pair finished", "–"]


def test_nothing_known_has_no_figure():
    _, found = with_losses()
    assert shapley(found) is None
    assert shapley(found.iloc[:0]) is None
