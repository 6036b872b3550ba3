"""Where somebody else's results lie: files that are no table, and experiments of MLflow."""

import math
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param, RunTag

from harness.effects import effects
from harness.errors import HarnessError
from harness.foreign import Columns, foreign_grid
from harness.sources import read_csv, read_experiment
from harness.track import Store
from harness.workspace import Workspace


def read(tmp_path: Path, content: bytes):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    return read_csv(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_commas_semicolons_and_tabs_separate(tmp_path, separator):
    lines = [["policy", "acc"], ["a", "0.5"], ["b", ""]]
    source = read(tmp_path, "\r\n".join(separator.join(line) for line in lines).encode())
    assert source.rows.to_dict("list") == {"policy": ["a", "b"], "acc": ["0.5", ""]}


def test_marks_of_spreadsheets_spaces_and_blank_lines_are_no_values(tmp_path):
    source = read(tmp_path, '\ufeffpolicy, acc \n\n "a, b", 0.5 \n,\nc,0.6\n'.replace(' "a', '"a').encode())
    assert source.rows.to_dict("list") == {"policy": ["a, b", "c"], "acc": ["0.5", "0.6"]}
    assert source.places == ("line 3", "line 5")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["has no rows"]),
        (b"policy,acc\n", ["headers", "no rows"]),
        (b"policy,,acc\na,b,c\n", ["column 2", "no header"]),
        (b"policy,acc,acc\na,b,c\n", ["two columns", "acc"]),
        (b"policy,acc\na,0.1\nb\n", ["line 3", "1 values under 2 headers"]),
        (b"policy,acc\na,0.1,7\n", ["line 2", "3 values under 2 headers"]),
        (b"policy,acc\n\xff\xfe,1\n", ["UTF-8"]),
        (b'policy,acc\n"a,1\n', ["cannot read", "line 2"]),
    ],
)
def test_what_is_no_table_is_one_message(tmp_path, content, words):
    with pytest.raises(HarnessError) as error:
        read(tmp_path, content)
    assert [word for word in [*words, "table.csv"] if word not in str(error.value)] == []


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_read_is_one_message(tmp_path, name):
    with pytest.raises(HarnessError, match="cannot read"):
        read_csv(tmp_path / name)


@pytest.fixture
def store(stored: Workspace) -> Store:
    return Store(stored)


def track(store: Store, experiment: str, status: str, params: dict, metrics: dict, tags: dict | None = None) -> str:
    """Make a run as any other program would."""
    run = store.client.create_run(experiment)
    run_id = str(run.info.run_id)
    store.client.log_batch(
        run_id,
        metrics=[Metric(key, value, 1, 0) for key, value in metrics.items()],
        params=[Param(key, str(value)) for key, value in params.items()],
        tags=[RunTag(key, value) for key, value in (tags or {}).items()],
    )
    if status != "RUNNING":
        store.client.set_terminated(run_id, status)
    return run_id


@pytest.fixture
def mine(store: Store) -> str:
    """An experiment of another program: two optimizers, with and without mixup, two folds, and what went wrong."""
    experiment = str(store.client.create_experiment("mine", artifact_location="file:///nowhere"))
    for fold in (0, 1):
        for optimizer, top in (("sgd", 0.5), ("adam", 0.625)):
            for mixup in (False, True):
                params = {"optimizer": optimizer, "mixup": mixup, "fold": fold}
                metrics = {"acc": top + 0.125 * mixup + 0.0625 * fold, "loss": 2.0}
                track(store, experiment, "FINISHED", params, metrics, {"host": "h", "optimizer": "tagged"})
    for status in ("FAILED", "RUNNING", "KILLED", "FINISHED"):
        track(store, experiment, status, {"optimizer": "adam", "mixup": True, "fold": status}, {"loss": 1.0})
    track(store, experiment, "FINISHED", {}, {"acc": 0.75})
    return "mine"


COLUMNS = Columns("params.optimizer", "metrics.acc", tricks=("mixup",), pair_by=("fold",))


def test_runs_of_another_program_have_effects(store, mine):
    grid = foreign_grid(read_experiment(store, mine), COLUMNS)
    assert grid.runs["policy"].unique().tolist() == ["sgd", "adam"], "the earliest run names the reference"
    found = effects(grid)
    top = found[found["metric"] == "test_top1"]
    kinds = dict(zip(zip(top["kind"], top["policy"], strict=True), top["estimate"], strict=True))
    assert kinds["one_in", "sgd"] == kinds["one_in", "adam"] == 0.125
    assert kinds["policy", "adam"] == 0.125
    assert set(top["n"]) == {2}
    assert grid.plan["terms"] == {"metric": "acc", "paired_by": "fold"}
    assert grid.plan["settings"]["runs left out, since they have no policy"] == 1


def test_what_became_of_a_run_is_kept(store, mine):
    runs = foreign_grid(read_experiment(store, mine), COLUMNS).runs.set_index("seed")
    status = runs["status"].to_dict()
    assert status["fold FAILED"] == "failed"
    assert status["fold KILLED"] == "killed"
    assert status["fold RUNNING"] == status["fold FINISHED"] == "missing"
    assert "no value" in runs["reason"].to_dict()["fold FINISHED"]
    assert math.isnan(runs["test_top1"].to_dict()["fold FINISHED"])


def test_a_filter_of_mlflows_chooses_runs(store, mine):
    grid = foreign_grid(read_experiment(store, mine, "params.fold = '1'"), COLUMNS)
    assert grid.runs["seed"].unique().tolist() == ["fold 1"]


def test_every_page_is_read(store, mine, monkeypatch):
    whole = read_experiment(store, mine)
    monkeypatch.setattr("harness.track.store._PAGE", 2)
    assert len(read_experiment(store, mine).rows) == len(whole.rows) == 13


@pytest.mark.parametrize(
    ("name", "where", "columns", "words"),
    [
        ("yours", "", COLUMNS, ["unknown experiment 'yours'", "mine"]),
        ("mine", "params.", COLUMNS, ["'mine'", "'params.'"]),
        ("mine", "params.fold = '7'", COLUMNS, ["no run", "params.fold"]),
        ("mine", "", Columns("optimizer", "acc"), ["'optimizer' may be params.optimizer or tags.optimizer"]),
        ("mine", "", Columns("params.optimizer", "auc"), ["unknown column 'auc'", "metrics.acc"]),
        ("mine", "", Columns("params.optimizer", "loss"), ["run ", "2.0", "no fraction"]),
        ("mine", "", Columns("tags.optimizer", "acc"), ["'tagged' in every row"]),
    ],
)
@pytest.mark.usefixtures("mine")
def test_what_an_experiment_lacks_is_said(store, name, where, columns, words):
    with pytest.raises(HarnessError) as error:
        foreign_grid(read_experiment(store, name, where), columns)
    assert [word for word in words if word not in str(error.value)] == []
