"""Tracked runs to frames: which run speaks for a replicate, what became of it, and what is read back of a grid."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest

from harness.artifacts import finals
from harness.family import Family
from harness.results import read_grid, runs_frame
from tests.samples import VERSIONS, fake_run, plan_json

CELLS = ["full | baseline", "full | mixup", "head | baseline", "head | mixup"]


def frame(*children, cells=CELLS, seeds=2):
    """The frame of runs; `children` come as a store gives them, the latest first."""
    return runs_frame(plan_json(cells, seeds), list(children))


def of(table, cell="full | baseline", seed=0):
    (row,) = table[(table["cell"] == cell) & (table["seed"] == seed)].to_dict("records")
    return row


def test_every_planned_replicate_has_a_row_whatever_was_run():
    table = frame(fake_run("head | mixup", 1, test_top1=0.5))
    assert list(zip(table["cell"], table["seed"], strict=True)) == [(cell, seed) for cell in CELLS for seed in (0, 1)]
    assert table["policy"].tolist() == ["full"] * 4 + ["head"] * 4
    assert table["mixup"].tolist() == [False, False, True, True] * 2
    assert (table["status"] == "missing").sum() == 7


def test_columns_are_policy_tricks_seed_and_the_rest():
    table = frame()
    assert list(table.columns)[:6] == ["policy", "mixup", "seed", "cell", "status", "reason"]
    assert list(table.columns)[6:] == [*finals("classification"), "run_id", "trained_by"]


def test_finished_run_gives_its_metrics():
    run = fake_run("full | baseline", 0, run_id="abc", test_top1=0.5, images_per_s=100.0, other=3.0)
    row = of(frame(run))
    assert (row["status"], row["reason"], row["run_id"], row["trained_by"]) == ("finished", "", "abc", "")
    assert (row["test_top1"], row["images_per_s"]) == (0.5, 100.0)
    assert "other" not in row


def test_missing_row_says_so_and_has_no_numbers():
    row = of(frame(fake_run("full | baseline", 1, test_top1=0.5)))
    assert (row["status"], row["run_id"]) == ("missing", "")
    assert row["reason"]
    assert all(row[metric] is None or math.isnan(row[metric]) for metric in finals("classification"))


def test_metric_that_a_run_lacks_is_no_number():
    table = frame(
        fake_run("full | baseline", 0, test_top1=0.5), fake_run("full | mixup", 0, test_top1=0.5, val_top1=0.4)
    )
    assert math.isnan(of(table)["val_top1"])


@pytest.mark.parametrize(
    ("status", "tags", "wanted"),
    [
        ("FINISHED", {}, "finished"),
        ("FAILED", {"harness.failure": "error"}, "failed"),
        ("FAILED", {"harness.failure": "freeze_violation"}, "failed"),
        ("FAILED", {"harness.failure": "diverged"}, "diverged"),
        ("FAILED", {}, "failed"),
        ("KILLED", {"harness.failure": "killed"}, "killed"),
        ("RUNNING", {}, "running"),
        ("SCHEDULED", {}, "scheduled"),
    ],
)
def test_status_and_reason(status, tags, wanted):
    row = of(frame(fake_run("full | baseline", 0, status, tags={**tags, "harness.reason": "because"})))
    assert (row["status"], row["reason"]) == (wanted, "because")


def test_shared_run_says_which_run_trained():
    assert of(frame(fake_run("full | baseline", 0, tags={"trained_by": "abc"})))["trained_by"] == "abc"


@pytest.mark.parametrize(
    ("statuses", "wanted"),
    [
        (["FINISHED", "FAILED"], 0),
        (["FAILED", "FINISHED"], 1),
        (["RUNNING", "FINISHED"], 1),
        (["FINISHED", "FINISHED"], 0),
        (["FAILED", "FAILED"], 0),
        (["RUNNING", "FAILED"], 0),
        (["FAILED", "KILLED", "FINISHED", "FINISHED", "FAILED"], 2),
        (["KILLED", "FAILED", "RUNNING"], 0),
    ],
)
def test_latest_run_speaks_but_never_over_a_finished_one(statuses, wanted):
    """Statuses are given the latest first; the number is that of the run that counts."""
    runs = [fake_run("full | baseline", 0, status, run_id=str(number)) for number, status in enumerate(statuses)]
    assert of(frame(*runs))["run_id"] == str(wanted)


def test_run_of_another_training_of_the_cell_does_not_count():
    """The grid kept it when its data or weights changed; it is no result of what is planned now."""
    other = fake_run("full | baseline", 0, run_id="other", tags={"harness.digest": "of old data"}, test_top1=0.9)
    assert of(frame(other))["status"] == "missing"
    planned = fake_run("full | baseline", 0, "FAILED", run_id="planned")
    assert of(frame(other, planned))["run_id"] == "planned"
    assert of(frame(planned, other))["run_id"] == "planned"


@pytest.mark.parametrize("tag", VERSIONS)
def test_run_by_other_versions_does_not_count(tag):
    assert of(frame(fake_run("full | baseline", 0, tags={tag: "0.9"}, test_top1=0.9)))["status"] == "missing"


def test_run_of_a_seed_that_is_not_planned_does_not_count():
    assert (frame(fake_run("full | baseline", 7, test_top1=0.9))["status"] == "missing").all()


def test_runs_of_cells_that_are_not_planned_are_left_out():
    """A plan that lost a policy, and the run of the pretraining, which has no cell."""
    stray = fake_run("head_bn | baseline", 0, test_top1=0.9)
    pretraining = SimpleNamespace(
        info=SimpleNamespace(status="FINISHED", run_id="p"),
        data=SimpleNamespace(params={"seed": "0", "model": "x"}, tags={}, metrics={"test_top1": 0.9}),
    )
    table = frame(stray, pretraining)
    assert len(table) == 8
    assert (table["status"] == "missing").all()


def test_plan_without_tricks():
    table = frame(fake_run("full | baseline", 0), cells=["full | baseline"])
    assert list(table.columns)[:3] == ["policy", "seed", "cell"]


# A grid read back from a store.


class FakeStore:
    """Answers from memory what a tracking store would."""

    def __init__(self, parent, children=(), artifacts=None, elsewhere=()):
        self._parent, self._children, self._artifacts = parent, list(children), artifacts or {}
        known = {run.info.run_id: run for run in elsewhere}
        self.client = SimpleNamespace(get_run=known.__getitem__)

    def find_grid(self, study, grid):
        return self._parent if (study, grid) == ("tiny", "g") else None

    def children(self, parent):
        assert parent is self._parent
        return self._children

    def read_artifact(self, run, name):
        return self._artifacts.get((run.info.run_id, name))


def read(store: Any, grid="g"):
    return read_grid(store, "tiny", grid)


PARENT = SimpleNamespace(info=SimpleNamespace(run_id="parent", experiment_id="7"))
PLAN = {("parent", "plan.json"): json.dumps(plan_json(["full | baseline", "full | mixup"], 1)).encode()}


def test_grid_that_was_never_run_is_none():
    assert read(FakeStore(PARENT), "other") is None


def test_grid_that_was_cut_short_before_its_plan_is_none():
    assert read(FakeStore(PARENT)) is None


def test_grid_without_any_run_is_all_missing():
    grid = read(FakeStore(PARENT, artifacts=PLAN))
    assert (grid.runs["status"] == "missing").all()
    assert grid.curves.empty
    assert {"policy", "cell", "seed", "epoch", "val_top1"} <= set(grid.curves.columns)
    assert grid.throughput.empty
    assert {"cell", "round"} <= set(grid.throughput.columns)
    assert (grid.experiment_id, grid.run_id, grid.software) == ("7", "parent", {})


def test_curves_are_those_of_the_training_wherever_it_was_run():
    """One replicate trained here, one shares a training of another study: its artifact lies with that run."""
    own = fake_run("full | baseline", 0, run_id="own", test_top1=0.5)
    shared = fake_run("full | mixup", 0, run_id="shared", tags={"trained_by": "far"}, test_top1=0.6)
    far = fake_run("any", 0, run_id="far")
    curve = "epoch,step,train_loss,val_top1\n1,3,0.9,{0}\n2,6,0.8,0.5\n"
    artifacts = PLAN | {
        ("own", "curves.csv"): curve.format(0.1).encode(),
        ("far", "curves.csv"): curve.format(0.30000000000000004).encode(),
    }
    curves = read(FakeStore(PARENT, [shared, own], artifacts, [far])).curves
    assert curves["cell"].tolist() == ["full | baseline"] * 2 + ["full | mixup"] * 2
    assert curves["epoch"].tolist() == [1, 2, 1, 2]
    assert curves["val_top1"].tolist() == [0.1, 0.5, 0.30000000000000004, 0.5]  # bit for bit
    assert curves["policy"].unique().tolist() == ["full"]
    assert curves["seed"].unique().tolist() == [0]


def test_curves_of_failed_runs_are_left_out():
    failed = fake_run("full | baseline", 0, "FAILED", run_id="failed")
    artifacts = PLAN | {("failed", "curves.csv"): b"epoch,step,train_loss,val_top1\n1,3,0.9,0.1\n"}
    assert read(FakeStore(PARENT, [failed], artifacts)).curves.empty


def test_diagnosis_is_read_where_the_plan_asks_for_it():
    """Of a figure that could not be taken the reason is kept; a shared run's lies with the run that trained."""
    plan = json.loads(PLAN["parent", "plan.json"]) | {"diagnostics": {"batch_norm": True}}
    own = fake_run("full | baseline", 0, run_id="own", test_top1=0.5)
    shared = fake_run("full | mixup", 0, run_id="shared", tags={"trained_by": "own"}, test_top1=0.5)
    table = b"figure,layer,value,reason\ntest_top1_batch_1,,,one value\nshift_end,bn1,0.30000000000000004,\n"
    kept = PLAN | {("own", "batch_norm.csv"): table}
    unasked = read(FakeStore(PARENT, [shared, own], kept)).batch_norm
    found = read(
        FakeStore(PARENT, [shared, own], kept | {("parent", "plan.json"): json.dumps(plan).encode()})
    ).batch_norm
    assert unasked.empty
    assert list(found.columns) == list(unasked.columns)
    assert found["cell"].tolist() == ["full | baseline"] * 2 + ["full | mixup"] * 2
    refused, shift = found.to_dict("records")[:2]
    assert (refused["figure"], refused["layer"], refused["reason"]) == ("test_top1_batch_1", "", "one value")
    assert math.isnan(refused["value"])
    assert (shift["policy"], shift["seed"], shift["layer"], shift["reason"]) == ("full", 0, "bn1", "")
    assert shift["value"] == 0.30000000000000004  # bit for bit


def test_throughput_is_the_table_of_the_probe():
    """A cell that could not be probed has a row without numbers."""
    columns = b"cell,program,host,device,round,images_per_s,peak_memory_bytes\n"
    table = columns + b"full | baseline,p,here,cpu,0,12.300000000000001,1000\nfull | mixup,q,here,cpu,,,\n"
    grid = read(FakeStore(PARENT, artifacts=PLAN | {("parent", "throughput.csv"): table}))
    assert grid is not None
    (row,) = grid.throughput.to_dict("records")
    assert (row["cell"], row["program"], row["round"], row["peak_memory_bytes"]) == ("full | baseline", "p", 0, 1000)
    assert row["images_per_s"] == 12.300000000000001  # bit for bit


def test_software_is_every_value_that_a_tag_took_in_the_runs_that_count():
    runs = [
        fake_run("full | baseline", 0, tags={"harness.python": "3.12", "harness.device": "cpu"}),
        fake_run("full | mixup", 0, tags={"harness.python": "3.11", "harness.device": "cpu"}),
        fake_run("full | mixup", 0, run_id="old", tags={"harness.device": "cuda", "harness.digest": "of old data"}),
    ]
    grid = read(FakeStore(PARENT, runs, PLAN))
    assert grid is not None
    assert grid.software["device"] == ["cpu"]
    assert grid.software["python"] == ["3.11", "3.12"]
    assert grid.software["torch"] == [VERSIONS["harness.torch"]]


# The primary contrasts, as they were named before the data.

NAMED: dict[str, Any] = {
    "members": [{"kind": "one_in", "policy": "full", "trick": "mixup"}],
    "bound": 0.01,
    "sd": 0.02,
    "scales": [1.0],
    "power": 0.8,
}


def family(now, first):
    """The family of a grid that plans `now` and has kept `first`; None keeps nothing."""
    plan = json.loads(PLAN["parent", "plan.json"]) | {"primary": now}
    kept = {("parent", "plan.json"): json.dumps(plan).encode()}
    kept |= {} if first is None else {("parent", "primary.json"): json.dumps(first["was"]).encode()}
    grid = read(FakeStore(PARENT, artifacts=kept))
    assert grid is not None
    return grid.family


def test_primary_contrasts_are_read_back():
    found = family(NAMED, {"was": NAMED})
    assert found == Family(tuple(NAMED["members"]), 0.01, 0.02, (1.0,), 0.8, late=False)


@pytest.mark.parametrize(
    ("first", "late"),
    [
        ({"was": NAMED}, False),
        ({"was": NAMED | {"sd": None, "power": 0.9}}, False),
        ({"was": NAMED | {"bound": None}}, True),
        ({"was": NAMED | {"members": []}}, True),
        ({"was": None}, True),
        (None, True),
    ],
    ids=["as named", "another guess at the sd", "another bound", "other contrasts", "none", "kept by no version"],
)
def test_contrasts_named_when_the_grid_had_begun_are_late(first, late):
    found = family(NAMED, first)
    assert found is not None
    assert found.late == late


@pytest.mark.parametrize("first", [{"was": NAMED}, {"was": None}, None])
def test_a_plan_that_names_none_has_no_family(first):
    assert family(None, first) is None


def test_a_plan_kept_before_there_were_any_has_no_family():
    grid = read(FakeStore(PARENT, artifacts=PLAN))
    assert grid is not None
    assert grid.family is None
