"""What can be compared: result folders, tables, specs, and specs at a commit."""

import json
from pathlib import Path

import pytest

from harness.compare import compare
from harness.errors import HarnessError
from harness.sides import read_side
from harness.specfile import Study
from harness.summary import summarise
from harness.track import GridLog, Store
from harness.workspace import Workspace
from tests.samples import runs_table

COMMIT = "mlflow.source.git.commit"
OLD, NEW = "aaa111", "aab222"


@pytest.mark.parametrize("text", ["", "runs.csv"])
def test_a_folder_is_its_table(tmp_path: Path, text: str) -> None:
    table = runs_table({"None | baseline": [0.3, "failed"], "None | mixup": [0.5, 0.6]})
    table.to_csv(tmp_path / "runs.csv", index=False)
    runs = read_side(str(tmp_path / text)).grid.runs
    assert runs["policy"].unique().tolist() == ["None"], "no label is taken for a missing value"
    assert runs["test_top1"].tolist()[0] == pytest.approx(0.3)
    assert runs["status"].tolist() == table["status"].tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [("policy,seed\na,1\n", "no cell, status"), ("", "cannot read"), (None, "cannot read")],
)
def test_what_is_no_table_of_runs_is_one_message(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "runs.csv").write_text(content)
    with pytest.raises(HarnessError, match=words):
        read_side(str(tmp_path))


def track(study: Study, stored: Workspace, plan: dict, commit: str, top: float, trained_by: str = "") -> str:
    """Track the first replicate of the tiny study as a run of the harness at `commit` does; returns its id."""
    log = GridLog(Store(stored), "tiny", study.grid, {COMMIT: commit})
    cell = plan["cells"][0]
    tags = {"harness.digest": f"digest at {commit}", "harness.kind": "replicate"}
    tags |= {"trained_by": trained_by} if trained_by else {}
    run_id = log.begin("run", {"cell": cell["cell"], "seed": "0", "policy": cell["policy"]}, tags, None)
    log.metrics(run_id, {"test_top1": top, "images_per_s": 100 * top}, timestamp=1)
    log.end(run_id, "FINISHED", {})
    log.artifacts(log.run_id, {"plan.json": json.dumps(plan).encode()})
    return run_id


@pytest.fixture
def planned(plan) -> dict:
    return dict(json.loads(json.dumps(summarise(plan))))


def test_two_commits_of_one_spec(study: Study, stored: Workspace, planned: dict) -> None:
    first = track(study, stored, planned, OLD, 0.5)
    track(study, stored, planned, f"{NEW}-dirty", 0.75)
    track(study, stored, planned, "ccc333", 0.5, trained_by=first)
    old, new = (read_side(f"{study.path}@{commit}") for commit in ("aaa", NEW))
    found = compare(old, new).differences
    top = found[(found["cell"] == planned["cells"][0]["cell"]) & (found["metric"] == "test_top1")]
    assert top[["a", "b", "estimate", "n"]].to_numpy().tolist() == [[0.5, 0.75, 0.25, 1]]
    assert new.grid.runs["status"].value_counts().to_dict() == {"finished": 1, "missing": 11}
    assert new.grid.software["git commit"] == [f"{NEW}-dirty"]


@pytest.mark.parametrize(
    ("commit", "words"),
    [
        ("ccc", rf"no replicate was trained at ccc; there are.*{OLD} \(2\)"),
        ("aa", rf"2 commits begin so: {OLD}, {NEW}"),
    ],
)
def test_a_commit_without_trainings_of_its_own_is_said(
    study: Study, stored: Workspace, planned: dict, commit: str, words: str
) -> None:
    """What a later commit shares, it did not train."""
    first = track(study, stored, planned, OLD, 0.5)
    track(study, stored, planned, NEW, 0.75)
    track(study, stored, planned, "ccc333", 0.5, trained_by=first)
    with pytest.raises(HarnessError, match=words):
        read_side(f"{study.path}@{commit}")


def test_a_spec_that_was_never_run_is_said(study: Study, stored: Workspace) -> None:
    assert stored.database.exists()
    with pytest.raises(HarnessError, match="no run of this grid"):
        read_side(str(study.path))


@pytest.mark.parametrize("text", ["nowhere.yaml", "nowhere.yaml@abc", "@abc"])
def test_a_side_that_is_not_there_is_said(text: str) -> None:
    with pytest.raises(HarnessError, match="cannot read"):
        read_side(text)
