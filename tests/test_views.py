"""Prepared views of the UI: which runs they show, the tags that hold them, how many there are, the links to them."""

import base64
import json
import re
import zlib

import pytest

from harness.views import CURRENT, MOST, TAG, TAG_LIMIT, encode, known, leaderboard, links, outdated, tags
from tests.grids import plan_of

RUN, OTHER = "0123456789abcdef0123456789abcdef", "fedcba98" * 4
PLAN = plan_of(["one_in", "all"], policies=("full", "head"))


def decode(value):
    """Read a tag as the UI does."""
    view = json.loads(value)
    form, _, packed = view["state"].partition(";")
    assert form == "deflate"
    return view, json.loads(zlib.decompress(base64.b64decode(packed)))


def by_name(saved, run=RUN):
    return {view["name"].removesuffix(f" ({run[:8]})"): state for view, state in map(decode, saved.values())}


def kept(saved, gone):
    return [value for key, value in saved.items() if key not in gone]


def shown(state, plan):
    """Return the cells whose runs a view's filter lets through, read as the store reads it."""
    wanted = dict(re.findall(r"params\.`([^`]+)` = ['\"]([^'\"]*)['\"]", state["searchFilter"]))
    params = [
        {"policy": cell["policy"], **{trick: str(trick in cell["tricks"]) for trick in plan["tricks"]}}
        for cell in plan["cells"]
    ]
    return [
        cell["cell"]
        for cell, has in zip(plan["cells"], params, strict=True)
        if all(has[name] == value for name, value in wanted.items())
    ]


@pytest.mark.parametrize("state", [{}, {"a": [1, None, "γ × 2"], "b": {"c": True}}, leaderboard(RUN, PLAN)])
def test_tag_holds_the_state_it_was_given(state):
    view, found = decode(encode("Charts", state, 1700000000123))
    assert found == state
    assert view["name"] == "Charts"
    assert view["createdAt"] == view["updatedAt"] == 1700000000123


def test_a_grid_has_views_of_all_of_it_of_each_policy_and_of_each_trick():
    names = ["Leaderboard", "Charts by cell", "Policy full", "Policy head", "Trick a", "Trick b", "Trick c"]
    assert list(by_name(tags(RUN, PLAN, 5))) == names
    # The menu has the latest first.
    assert sorted(tags(RUN, PLAN, 5).values(), key=lambda value: -decode(value)[0]["createdAt"]) == [
        *tags(RUN, PLAN, 5).values()
    ]
    assert set(tags(RUN, PLAN, 5)).isdisjoint(tags(OTHER, PLAN, 5))


def test_views_show_the_replicates_of_their_grid_that_count():
    for state in by_name(tags(RUN, PLAN, 5)).values():
        assert f"tags.`mlflow.parentRunId` = '{RUN}'" in state["searchFilter"]
        assert f"tags.`{CURRENT}` = 'true'" in state["searchFilter"]


def test_views_of_policies_and_tricks_show_what_may_be_compared():
    found = {name: shown(state, PLAN) for name, state in by_name(tags(RUN, PLAN, 5)).items()}
    every = [cell["cell"] for cell in PLAN["cells"]]
    assert found["Leaderboard"] == found["Charts by cell"] == every
    assert found["Policy head"] == [name for name in every if name.startswith("head |")]
    assert found["Trick b"] == ["full | baseline", "full | b", "head | baseline", "head | b"]


def test_a_trick_that_is_never_alone_is_compared_on_top_of_all_others():
    plan = plan_of(["leave_one_out"], policies=("full", "head"))
    everything = {cell["cell"] for cell in plan["cells"] if len(cell["tricks"]) == 3}
    without = {cell["cell"] for cell in plan["cells"] if set(cell["tricks"]) == {"a", "c"}}
    state = by_name(tags(RUN, plan, 5))["Trick b"]
    assert len(everything) == len(without) == 2
    assert set(shown(state, plan)) == everything | without
    assert "with all others" in state["compareRunSections"][0]["name"]


def test_a_trick_that_no_two_cells_differ_by_has_no_view():
    plan = plan_of(["one_in", "pairs"], policies=("full", "head"))
    plan["cells"] = [cell for cell in plan["cells"] if set(cell["tricks"]) in ({"a", "b"}, {"a"}, {"c"})]
    assert not [name for name in by_name(tags(RUN, plan, 5)) if name.startswith("Trick")]


def test_a_policy_may_have_an_apostrophe():
    plan = plan_of(["one_in"], policies=("full", "mine, the boss's"))
    state = by_name(tags(RUN, plan, 5))["Policy mine, the boss's"]
    assert 'params.`policy` = "mine, the boss\'s"' in state["searchFilter"]


@pytest.mark.parametrize(
    ("policies", "tricks", "kinds"),
    [(4, 5, {"Policy", "Trick"}), (33, 17, {"Trick"}), (20, 17, {"Policy"}), (40, 40, set()), (1, 3, {"Trick"})],
)
def test_a_large_study_has_views_of_policies_or_tricks_only_where_all_fit(policies, tricks, kinds):
    """From 40 views on, the page lets nobody save one: some are left to the user."""
    labels = [f"a_trick_{number}" for number in range(tricks)]
    plan = plan_of(["one_in"], labels, [f"a_policy_{number}" for number in range(policies)])
    names = list(by_name(tags(RUN, plan, 5)))
    counted = {kind: sum(name.startswith(kind) for name in names) for kind in ("Policy", "Trick")}
    assert counted == {
        "Policy": policies if "Policy" in kinds else 0,
        "Trick": tricks if "Trick" in kinds else 0,
    }
    assert len(names) <= MOST


def test_tags_fit_whatever_the_study():
    labels = [f"label_smoothing_{number}" for number in range(17)]
    plan = plan_of(["one_in", "pairs"], labels, [f"last_stage_bn_{number}" for number in range(33)])
    saved = tags(RUN, plan, 1700000000123)
    assert len(saved) == 19
    assert max(map(len, saved.values())) <= TAG_LIMIT


def test_a_view_too_long_for_a_tag_is_left_out():
    """Random names do not compress: the table goes, the charts of few cells stay."""
    tricks = [base64.b32encode(f"{number * 7919 % 10007}".encode() * 3).decode() for number in range(2000)]
    plan = {**PLAN, "tricks": dict.fromkeys(tricks), "axes": {}}
    assert list(by_name(tags(RUN, plan, 5))) == ["Charts by cell", "Policy full", "Policy head"]


def test_the_table_has_accuracy_beside_the_name_then_policy_and_tricks():
    plan = plan_of(["one_in"], policies=("full", "head"), levels=[{"shift": "none"}, {"shift": "invert"}])
    state = leaderboard(RUN, plan)
    columns = state["selectedColumns"]
    assert columns[0] == "metrics.`test_top1`"
    assert columns[-6:] == [f"params.`{name}`" for name in ("policy", "shift", "a", "b", "c", "seed")]
    assert state["columnOrder"] == ["attributes.`Run Name`", *state["selectedColumns"]]
    parallel = state["compareRunCharts"][0]
    assert (parallel["type"], parallel["selectedParams"]) == ("PARALLEL", ["policy", "shift", "a", "b", "c"])
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test_top1`", False)


def test_charts_are_means_over_the_seeds_of_a_cell():
    for name, state in by_name(tags(RUN, PLAN, 5)).items():
        if name != "Leaderboard":
            assert state["groupBy"]["groupByKeys"] == [{"mode": "param", "groupByData": "cell"}]
            assert state["groupBy"]["aggregateFunction"] == "average"
            folded = {key.removeprefix("param.cell.") for key in state["groupsExpanded"]}
            assert folded == set(shown(state, PLAN))
        sections = {section["uuid"] for section in state["compareRunSections"]}
        assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections
        assert len({chart["uuid"] for chart in state["compareRunCharts"]}) == len(state["compareRunCharts"])
        assert state["runsHiddenMode"] == "SHOW_ALL"


@pytest.mark.parametrize(("seeds", "order"), [(12, ("metrics.`test_top1`", False)), (13, ("params.`cell`", True))])
def test_means_are_over_whole_cells_where_the_page_loads_100_runs_only(seeds, order):
    """8 cells: 96 replicates, then 104. The best 100 of these would leave out the worst seeds of many cells."""
    plan = plan_of(["one_in"], policies=("full", "head"), seeds=seeds)
    assert len(plan["cells"]) == 8
    state = by_name(tags(RUN, plan, 5))["Charts by cell"]
    assert (state["orderByKey"], state["orderByAsc"]) == order
    assert ("100 of 104 runs" in state["compareRunSections"][0]["name"]) == (seeds == 13)
    title = leaderboard(RUN, plan)["compareRunSections"][0]["name"]
    assert title == ("Every replicate" if seeds == 12 else "The best 100 replicates")


def test_saving_again_changes_nothing():
    assert tags(RUN, PLAN, 5) == tags(RUN, PLAN, 5)


def test_what_a_grid_has_no_more_goes_and_what_people_saved_stays():
    ours = tags(RUN, PLAN, 5)
    gone = f"{TAG}harness-policy-{RUN[:8]}-9"
    mine = {TAG + "2c9f": encode("Mine", {}, 1), f"{TAG}harness-mine": "?", "note": "x"}
    saved = {**ours, gone: encode("Policy x", {}, 1), **mine, **tags(OTHER, PLAN, 1)}
    assert outdated(saved, RUN, ours) == [gone]


def test_views_of_the_grids_that_began_first_make_room():
    grids = [f"{number:08x}" * 4 for number in range(6)]
    plans = [tags(run, PLAN, 1000 * number) for number, run in enumerate(grids, 1)]  # 7 views each
    ours, *_ = plans[::-1]
    saved = {key: value for each in plans for key, value in each.items()}
    gone = outdated(saved, grids[-1], ours)
    assert len(saved) - len(gone) == MOST
    assert all(grids[0][:8] in key or grids[1][:8] in key or grids[2][:8] in key for key in gone)
    left = [decode(value)[0]["name"].partition(" (")[0] for each in plans[:2] for value in kept(each, gone)]
    assert left == ["Leaderboard", "Charts by cell"] * 2
    assert outdated({key: saved[key] for key in saved if key not in gone}, grids[-1], ours) == []


def test_links_are_those_of_the_grids_own_tags_in_the_menus_order():
    saved = {**tags(OTHER, PLAN, 9), **dict(sorted(tags(RUN, PLAN, 5).items())), TAG + "mine": encode("Mine", {}, 7)}
    found = links(saved, "7", RUN)
    assert list(found) == [
        *("Leaderboard", "Parallel coordinates", "Charts by cell", "Policy full", "Policy head"),
        *("Trick a", "Trick b", "Trick c"),
    ]
    at = "#/experiments/7/runs?viewStateShareKey=harness-{}&workflowType=machine_learning{}"
    assert found["Leaderboard"] == at.format("leaderboard-01234567", "")
    assert found["Parallel coordinates"] == at.format("leaderboard-01234567", "&compareRunsMode=CHART")
    assert found["Policy head"] == at.format("policy-01234567-2", "&compareRunsMode=CHART")
    assert links({}, "7", RUN) == {}


def test_a_tag_that_is_no_view_hides_no_other():
    saved = {**tags(RUN, PLAN, 5), f"{TAG}harness-charts-{RUN[:8]}": "deflate;an older form"}
    assert "Leaderboard" in links(saved, "7", RUN)
    assert outdated(saved, RUN, tags(RUN, PLAN, 5)) == []


@pytest.mark.parametrize(
    ("version", "is_known"),
    [
        ("3.14.9", False),
        ("3.15.0", True),
        ("3.17.2", True),
        ("3.18.0", False),
        ("4.0.0", False),
        ("", False),
        ("<html>", False),
    ],
)
def test_the_format_is_known_of_some_versions(version, is_known):
    assert known(version) == is_known
