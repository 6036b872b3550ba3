"""Interactions: every pair once, below the diagonal; policies and scenarios against their reference."""

import numpy as np
import pandas as pd
import pytest

from harness.plots import interactions, policy_interactions, scenario_interactions
from tests.frames import TRICKS, in_scenarios, large, study, with_losses
from tests.plots.seen import footers, overhang, shown, texts


@pytest.mark.parametrize("draw", [interactions, policy_interactions])
@pytest.mark.parametrize("make", [study, in_scenarios, large])
def test_every_study_draws_within_its_edges(draw, make):
    assert overhang(draw(make()[1])) < 0.05


@pytest.mark.parametrize(("place", "policy"), [(0, "full"), (1, "head")])
def test_a_pair_stands_once_below_the_diagonal(place, policy):
    _, found = study()
    axes = shown(interactions(found)).axes[place]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(TRICKS[1:])
    assert [label.get_text().replace("\n", "_") for label in axes.get_xticklabels()] == list(TRICKS[:-1])
    values = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert np.isnan(values[np.triu_indices(4, 1)]).all()
    rows = found[(found["kind"] == "interaction") & (found["policy"] == policy) & (found["against"] == "")]
    assert len(rows) == 10
    for row in rows.to_dict("records"):
        early, late = row["trick"].split(" × ")
        assert values[TRICKS.index(late) - 1, TRICKS.index(early)] == pytest.approx(100 * row["estimate"])
    assert len(axes.texts) == 10


def test_a_pair_written_the_other_way_round_stands_in_the_same_place():
    _, found = study()
    turned = found.assign(trick=found["trick"].replace("cosine × mixup", "mixup × cosine"))
    first, second = (shown(interactions(frame)).axes[0] for frame in (found, turned))
    assert sorted(texts(first)) == sorted(texts(second))
    for axes in (first, second):
        assert len(axes.texts) == 10
        assert all(row >= column for column, row in (text.get_position() for text in axes.texts))


def test_a_known_interaction_is_bold_and_negative():
    _, found = study()
    axes = shown(interactions(found)).axes[0]
    (text,) = [text for text in axes.texts if text.get_position() == (0, 0)]
    low, high = text.get_text().replace("−", "-").split("\n")[1].strip("[]").split(", ")
    assert float(low) < -1 < float(high) < 0  # −1 by the response that the study is made of
    assert text.get_fontweight() == "bold"
    assert "95 % paired t over seeds" in footers(shown(interactions(found)))


def test_large_matrices_have_estimates_alone():
    figure = shown(interactions(large()[1]))
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(panels) == 12
    assert not any("[" in text for axes in panels for text in texts(axes))
    assert {len(axes.texts) for axes in panels} == {28}


def test_policies_are_held_against_the_reference():
    _, found = study(policies=("full", "head", "bn_only"))
    figure = shown(policy_interactions(found))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["head", "bn_only"]
    assert [label.get_text().replace("\n", "_") for label in axes.get_xticklabels()] == list(TRICKS)
    rows = found[(found["kind"] == "interaction") & (found["against"] == "full")]
    wanted = rows.pivot_table(index="policy", columns="trick", values="estimate").loc[["head", "bn_only"], list(TRICKS)]
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(100 * wanted.to_numpy())
    assert "under full" in footers(figure)


def test_scenarios_are_held_against_the_reference():
    _, found = in_scenarios()
    rows = found[(found["kind"] == "one_in") & (found["scenario"] == "size all")]
    rows = rows.assign(kind="interaction", against="size 100", design="one_in")
    figure = shown(scenario_interactions(pd.concat([found, rows])))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["full\nsize all", "head\nsize all"]
    assert len(figure.axes[0].texts) == 10
    assert "size 100" in footers(figure)
    assert (
        shown(policy_interactions(pd.concat([found, rows]))).axes[0].get_yticklabels()[0].get_text() == "head\nsize 100"
    )


def test_lost_places_say_so():
    axes = shown(policy_interactions(with_losses()[1])).axes[0]
    assert [text.get_position()[0] for text in axes.texts if text.get_text() == "–"] == [3]


def test_nothing_crossed_has_no_figure():
    _, found = study(policies=("full",))
    assert policy_interactions(found) is None
    assert scenario_interactions(found) is None
    assert interactions(found[found["kind"] != "interaction"]) is None
    assert interactions(with_losses()[1]) is None
