"""Pooling: effects over source checkpoints and over data sets, against the statistics by hand."""

import numpy as np
import pytest
from scipy.stats import trim_mean

from harness.effects import effects
from harness.pooling import over_data
from harness.stats import improvement, iqm, stratified_bootstrap, two_way_t
from tests.grids import grid_from, plan_of

SOURCES = [{"source_seed": str(seed)} for seed in range(3)]


def table_of(levels, lost=(), policies=("full", "head"), designs=("one_in",), labels="a", seeds=4):
    """A grid of random outcomes, and these by policy, levels and trick set, an array over seeds."""
    rng = np.random.default_rng(5)
    plan = plan_of(list(designs), labels, policies, levels, seeds=seeds)
    drawn = {
        (cell["policy"], tuple(cell["levels"].values()), frozenset(cell["tricks"])): rng.normal(0.5, 0.1, seeds)
        for cell in plan["cells"]
    }

    def response(policy, at, tricks, seed):
        key = policy, tuple(at.values()), tricks
        return "failed" if (*key, seed) in lost else float(drawn[key][seed])

    return grid_from(plan, response), drawn


def pooled_rows(grid):
    found = effects(grid)
    return found[found["scenario"].str.contains("every")].to_dict("records")


def test_pooled_over_sources_is_crossed_with_seeds():
    grid, drawn = table_of(SOURCES)
    rows = {(r["kind"], r["policy"], r["trick"], r["against"]): r for r in pooled_rows(grid)}
    one = {
        p: np.array([drawn[p, (s,), frozenset("a")] - drawn[p, (s,), frozenset()] for s in "012"])
        for p in ("full", "head")
    }
    expected = {
        ("one_in", "full", "a", "baseline"): one["full"],
        ("one_in", "head", "a", "baseline"): one["head"],
        ("interaction", "head", "a", "full"): one["head"] - one["full"],
        ("policy", "head", "", "full"): np.array(
            [drawn["head", (s,), frozenset()] - drawn["full", (s,), frozenset()] for s in "012"]
        ),
    }
    assert rows.keys() == expected.keys()
    for key, by_source in expected.items():
        wanted = two_way_t(by_source.T)
        assert rows[key]["estimate"] == pytest.approx(by_source.mean())
        assert (rows[key]["n"], rows[key]["scenario"], rows[key]["metric"]) == (4, "every source_seed", "test_top1")
        assert (rows[key]["low"], rows[key]["high"], rows[key]["p"]) == pytest.approx(
            (wanted.low, wanted.high, wanted.p)
        )
        assert "seeds × source checkpoints" in rows[key]["interval"]
        assert (rows[key]["role"], rows[key]["claim"]) == ("exploratory", "")


def test_only_seeds_of_every_source_are_pooled():
    grid, drawn = table_of(SOURCES, lost={("full", ("1",), frozenset("a"), 2)}, policies=("full",))
    (row,) = pooled_rows(grid)
    d = np.array([drawn["full", (s,), frozenset("a")] - drawn["full", (s,), frozenset()] for s in "012"])
    assert row["n"] == 3
    assert row["estimate"] == pytest.approx(np.delete(d, 2, axis=1).mean())


def test_other_axes_stay_apart():
    levels = [{"lr": lr, "source_seed": seed} for lr in ("0.1", "0.2") for seed in "012"]
    grid, drawn = table_of(levels, policies=("full",))
    rows = {(r["kind"], r["scenario"], r["against"]): r["estimate"] for r in pooled_rows(grid)}
    low, high = (
        np.mean([drawn["full", (lr, s), frozenset("a")] - drawn["full", (lr, s), frozenset()] for s in "012"])
        for lr in ("0.1", "0.2")
    )
    expected = {
        ("one_in", "lr 0.1, every source_seed", "baseline"): low,
        ("one_in", "lr 0.2, every source_seed", "baseline"): high,
        ("interaction", "lr 0.2, every source_seed", "lr 0.1, every source_seed"): high - low,
    }
    assert rows == pytest.approx(expected)


def test_what_one_source_lacks_altogether_is_not_pooled():
    lost = {("full", ("1",), frozenset("a"), seed) for seed in range(4)}
    assert pooled_rows(table_of(SOURCES, lost, ("full",))[0]) == []


@pytest.mark.parametrize("levels", [SOURCES[:1], [{"lr": "0.1"}, {"lr": "0.2"}], [{}]])
def test_without_several_sources_nothing_is_pooled(levels):
    assert pooled_rows(table_of(levels)[0]) == []


# Data sets.

DATA = [{"data": name} for name in ("digits", "folder")]


def test_interquartile_mean_over_data_sets():
    grid, drawn = table_of(DATA, policies=("full",), seeds=6)
    found = over_data(grid.runs, np.random.default_rng(0)).to_dict("records")
    generator = np.random.default_rng(0)
    bare = [drawn["full", (d["data"],), frozenset()] for d in DATA]
    a = [drawn["full", (d["data"],), frozenset("a")] for d in DATA]
    first, second = stratified_bootstrap(bare, iqm, generator), stratified_bootstrap(a, iqm, generator)
    gain = stratified_bootstrap(a, iqm, generator, against=bare)
    assert [(r["policy"], r["tricks"], r["data_sets"], r["n"]) for r in found] == [
        ("full", "baseline", 2, 12),
        ("full", "a", 2, 12),
    ]
    assert found[0]["iqm"] == pytest.approx(trim_mean(np.concatenate(bare), 0.25))
    for row, wanted in zip(found, (first, second), strict=True):
        assert (row["iqm"], row["low"], row["high"]) == pytest.approx((wanted.estimate, wanted.low, wanted.high))
    assert np.isnan(found[0]["gain"])
    assert (found[1]["gain"], found[1]["gain_low"], found[1]["gain_high"]) == pytest.approx(
        (gain.estimate, gain.low, gain.high)
    )
    assert found[1]["p_improvement"] == pytest.approx(
        np.mean([improvement(x - y) for x, y in zip(a, bare, strict=True)])
    )


def test_gain_is_over_the_seeds_that_both_finished():
    lost = {("full", ("digits",), frozenset("a"), 0), ("full", ("folder",), frozenset(), 5)}
    grid, drawn = table_of(DATA, lost, ("full",), seeds=6)
    row = over_data(grid.runs, np.random.default_rng(0)).to_dict("records")[1]
    a, bare = ([drawn["full", (d["data"],), s] for d in DATA] for s in (frozenset("a"), frozenset()))
    pairs = [(a[0][1:], bare[0][1:]), (a[1][:5], bare[1][:5])]
    sides = [trim_mean(np.concatenate(side), 0.25) for side in zip(*pairs, strict=True)]
    assert row["n"] == 11
    assert row["gain"] == pytest.approx(sides[0] - sides[1])


def test_what_one_data_set_lacks_is_left_out():
    lost = {("full", ("digits",), frozenset("a"), seed) for seed in range(1, 4)}
    found = over_data(table_of(DATA, lost, ("full",))[0].runs, np.random.default_rng(0))
    assert found["tricks"].tolist() == ["baseline"]


def test_axes_other_than_data_stay_apart():
    levels = [{"data": data, "lr": lr} for data in ("digits", "folder") for lr in ("0.1", "0.2")]
    found = over_data(table_of(levels)[0].runs, np.random.default_rng(0))
    assert found[["lr", "policy", "tricks"]].to_numpy().tolist() == [
        [lr, policy, trick] for lr in ("0.1", "0.2") for policy in ("full", "head") for trick in ("baseline", "a")
    ]
    assert found["gain"].isna().tolist() == [True, False] * 4


def test_without_an_axis_of_data_sets_there_is_nothing():
    assert over_data(table_of(SOURCES)[0].runs, np.random.default_rng(0)).empty


def test_same_generator_gives_the_same_numbers():
    runs = table_of(DATA)[0].runs
    one, other = (over_data(runs, np.random.default_rng(3)) for _ in range(2))
    assert one.to_csv() == other.to_csv()
