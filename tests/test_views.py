"""Prepared views of the UI: the tags that hold them, their length, and the links to them."""

import base64
import json
import zlib

import pytest

from harness.views import CURRENT, TAG, TAG_LIMIT, charts, encode, keys, leaderboard, link, tags

RUN = "0123456789abcdef0123456789abcdef"
TRICKS = [f"label_smoothing_{number}" for number in range(20)]


def decode(value):
    """Read a tag as the UI does."""
    view = json.loads(value)
    form, _, packed = view["state"].partition(";")
    assert form == "deflate"
    return view, json.loads(zlib.decompress(base64.b64decode(packed)))


@pytest.mark.parametrize(
    "state", [{}, {"a": [1, None, "γ × 2"], "b": {"c": True}}, charts(RUN), leaderboard(RUN, TRICKS)]
)
def test_tag_holds_the_state_it_was_given(state):
    view, found = decode(encode("Charts", state, 1700000000123))
    assert found == state
    assert view["name"] == "Charts"
    assert view["createdAt"] == view["updatedAt"] == 1700000000123


def test_tags_are_the_views_of_the_grid():
    saved = tags(RUN, ["mixup"], 5)
    assert list(saved) == [TAG + key for _, key, _ in keys(RUN)]
    names = [decode(value)[0]["name"] for value in saved.values()]
    assert len(set(names)) == 2
    assert all(RUN[:8] in name for name in names)  # grids of one study stand in one menu
    states = [decode(value)[1] for value in saved.values()]
    assert states == [leaderboard(RUN, ["mixup"]), charts(RUN)]


def test_tags_of_20_tricks_fit():
    saved = tags(RUN, TRICKS, 1700000000123)
    assert len(saved) == 2
    assert max(map(len, saved.values())) <= TAG_LIMIT


def test_view_too_long_for_a_tag_is_left_out():
    """Random names do not compress: the table goes, the charts stay."""
    tricks = [base64.b32encode(f"{number * 7919 % 10007}".encode() * 3).decode() for number in range(2000)]
    assert list(tags(RUN, tricks, 5)) == [TAG + keys(RUN)[1][1]]


def test_keys_tell_grids_apart():
    first, second = keys(RUN), keys("f" * 32)
    assert {key for _, key, _ in first}.isdisjoint(key for _, key, _ in second)
    assert [as_charts for _, _, as_charts in first] == [False, True]


def test_views_show_the_replicates_of_their_grid():
    for state in (leaderboard(RUN, []), charts(RUN)):
        assert f"tags.`mlflow.parentRunId` = '{RUN}'" in state["searchFilter"]
        assert f"tags.`{CURRENT}` = 'true'" in state["searchFilter"]  # and none that others took the place of
        assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test_top1`", False)


def test_leaderboard_has_a_column_for_every_trick():
    columns = leaderboard(RUN, ["mixup", "cosine"])["selectedColumns"]
    assert {"params.`policy`", "params.`mixup`", "params.`cosine`", "params.`seed`", "metrics.`test_top1`"} <= set(
        columns
    )
    assert columns[0] == "params.`policy`"
    assert len(set(columns)) == len(columns)


def test_charts_are_means_over_the_seeds_of_a_cell():
    state = charts(RUN)
    assert state["groupBy"]["groupByKeys"] == [{"mode": "param", "groupByData": "cell"}]
    assert state["groupBy"]["aggregateFunction"] == "average"
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= sections
    assert len({chart["uuid"] for chart in state["compareRunCharts"]}) == len(state["compareRunCharts"])


def test_link_opens_a_view():
    address = link("http://127.0.0.1:5000", "7", "harness-leaderboard-01234567", as_charts=False)
    assert address == "http://127.0.0.1:5000/#/experiments/7/runs?viewStateShareKey=harness-leaderboard-01234567"
    assert link("http://h", "7", "key", as_charts=True) == (
        "http://h/#/experiments/7/runs?viewStateShareKey=key&compareRunsMode=CHART"
    )
