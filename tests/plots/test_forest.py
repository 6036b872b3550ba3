"""The forest plot: every estimate, the ends of its interval, and what is said of it."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from harness.plots import forest
from tests.frames import TRICKS, in_scenarios, large, study, with_losses
from tests.plots.seen import footers, overhang, shown, texts

KINDS = ["one_in", "leave_one_out", "main", "combined", "synergy"]
"""Of tricks, from the top."""


def dots(axes):
    """Estimate, whether it is filled, and the marker of each effect, from the top."""
    lines = [line for line in axes.lines if line.get_marker() != "None"]
    return [
        (float(line.get_xdata()[0]), to_hex(line.get_markerfacecolor()) != "#ffffff", line.get_marker())
        for line in sorted(lines, key=lambda line: line.get_ydata()[0])
    ]


def intervals(axes):
    """Ends and thickness of each interval, from the top."""
    lines = [line for line in axes.lines if line.get_marker() == "None" and line.get_solid_capstyle() == "butt"]
    return [
        (*map(float, line.get_xdata()), line.get_linewidth())
        for line in sorted(lines, key=lambda line: line.get_ydata()[0])
    ]


def wanted(found, policy):
    """The rows of a policy's panel, trick by trick, in the order of the kinds."""
    rows = found[(found["policy"] == policy) & found["kind"].isin(KINDS)].to_dict("records")
    names = [*TRICKS, "all 5 together"]
    return sorted(rows, key=lambda row: (names.index(row["trick"]), KINDS.index(row["kind"])))


@pytest.mark.parametrize("make", [study, in_scenarios, large, with_losses])
def test_every_study_draws_within_its_edges(make):
    assert overhang(forest(make()[1].assign(bound=0.01))) < 0.05


@pytest.mark.parametrize(("place", "policy"), [(0, "full"), (1, "head")])
def test_a_panel_has_the_numbers_of_its_policy(place, policy):
    _, found = study()
    axes = shown(forest(found)).axes[place]
    rows = wanted(found, policy)
    assert axes.get_title(loc="left") == policy
    assert len(rows) == 3 * 5 + 2
    markers = {"one_in": "o", "leave_one_out": "s", "main": "D", "combined": "P", "synergy": "X"}
    assert dots(axes) == [
        (pytest.approx(100 * row["estimate"]), row["role"] == "primary", markers[row["kind"]]) for row in rows
    ]
    ends = [("simultaneous_low", "simultaneous_high") if row["role"] == "primary" else ("low", "high") for row in rows]
    assert [line[:2] for line in intervals(axes)] == [
        (pytest.approx(100 * row[low]), pytest.approx(100 * row[high]))
        for row, (low, high) in zip(rows, ends, strict=True)
    ]
    thick = [line[2] for line in intervals(axes)]
    assert [width > 2 for width in thick] == [row["role"] == "primary" for row in rows]


def test_claims_stand_beside_their_effects():
    _, found = study()
    full, head, _ = shown(forest(found)).axes[:3]
    said = texts(full)
    for row, text in zip(wanted(found, "full"), said, strict=True):
        number = f"{100 * row['estimate']:+.1f}".replace("-0.0", "+0.0").replace("-", "−")
        assert text == (f"{number}  {row['claim']}" if row["claim"] else number)
    assert [text.get_fontweight() == "bold" for text in full.texts] == [
        row["role"] == "primary" for row in wanted(found, "full")
    ]
    assert not any(claim in text for text in texts(head) for claim in ("helps", "hurts", "no "))


def test_tricks_are_named_beside_the_middle_of_their_effects():
    _, found = study()
    axes = shown(forest(found)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [*TRICKS, "all 5 together"]
    heights = [text.get_position()[1] for text in axes.texts]
    assert axes.get_yticks()[0] == pytest.approx(np.mean(heights[:3]))
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first at the top


def test_policies_have_a_panel_of_their_own_in_each_scenario():
    _, found = in_scenarios()
    axes = [axes for axes in shown(forest(found)).axes if "against" in axes.get_title(loc="left")]
    assert [panel.get_title(loc="left") for panel in axes] == [
        f"without tricks, against full\nsize {size}" for size in ("100", "1000", "all")
    ]
    assert [[label.get_text() for label in panel.get_yticklabels()] for panel in axes] == [["head"]] * 3
    estimates = 100 * found[found["kind"] == "policy"]["estimate"]
    assert [dot[0] for panel in axes for dot in dots(panel)] == pytest.approx(list(estimates))


def test_bound_is_a_band():
    _, found = study()
    for axes in shown(forest(found.assign(bound=0.004))).axes[:3]:
        (band,) = axes.patches
        assert isinstance(band, Rectangle)
        assert [band.get_x(), band.get_width()] == pytest.approx([-0.4, 0.8])
    labels = [text.get_text() for text in shown(forest(found.assign(bound=0.004))).legends[0].get_texts()]
    assert "interval in ±0.4 points: no difference" in labels
    assert not shown(forest(found)).axes[0].patches


def test_kinds_and_intervals_are_named():
    _, found = study()
    figure = shown(forest(found))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "alone",
        "in the presence of all others",
        "mean over the factorial",
        "together",
        "beyond the sum of each alone",
        "policy without tricks",
    ]
    assert "95 % paired t over seeds" in footers(figure)
    assert "simultaneous" in footers(figure)
    assert "points" in figure.axes[1].get_xlabel()


def test_exploratory_studies_do_not_speak_of_primary_contrasts():
    assert "primary" not in footers(shown(forest(study(primary=())[1])))


def test_losses_are_told():
    _, found = with_losses()
    said = texts(shown(forest(found)).axes[0])
    assert said[3 * TRICKS.index("mixup")] == "no pair finished  100 % diverged"
    half = found.assign(diverged=0.25)
    assert texts(shown(forest(half)).axes[0])[0].endswith("25 % diverged")


def test_of_many_policies_those_with_primary_contrasts_are_kept():
    _, found = study(policies=[f"p{number}" for number in range(9)], tricks=("a", "b"), primary=("p8",))
    figure = shown(forest(found))
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == ["p8", "p0", "p1", "p2", "p3", "p4", "without tricks, against p0"]
    assert "first 6 of 9" in footers(figure)


def test_a_huge_interval_leaves_room_for_the_effects():
    _, found = study(primary=())
    row = found.index[(found["kind"] == "one_in") & (found["trick"] == "ema")][0]
    found.loc[row, ["low", "high"]] = [-5.0, 5.0]
    low, high = shown(forest(found)).axes[0].get_xlim()
    tricks = found[found["kind"].isin(KINDS)]
    usual, estimates = (tricks["high"] - tricks["low"]).median(), np.append(tricks["estimate"], 0)
    assert high - low <= 1.11 * 100 * (np.ptp(estimates) + 4 * usual)
    axes = shown(forest(found)).axes[0]
    assert (-500, 500) in [line[:2] for line in intervals(axes)]
    arrows = {
        str(line.get_marker()): float(np.ravel(line.get_xdata())[0])
        for line in axes.lines
        if line.get_marker() in ("<", ">")
    }
    assert arrows == {"<": low, ">": high}  # it goes on


def test_the_same_kind_of_two_designs_says_which():
    _, found = study()
    again = found[found["kind"] == "main"].assign(design="fractional")
    said = texts(shown(forest(pd.concat([found, again]))).axes[0])
    assert [text.split("  ")[-1] for text in said[2:4]] == ["(factorial)", "(fractional)"]


def test_nothing_known_has_no_figure():
    _, found = study()
    assert forest(found.iloc[:0]) is None
    assert forest(found.assign(metric="train_s")) is None
    assert forest(found.assign(estimate=float("nan"))) is None
