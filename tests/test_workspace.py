"""Workspaces: where things lie, and which folder is one."""

from pathlib import Path

import pytest

from harness.workspace import Workspace, find


def test_things_lie_in_the_workspace(tmp_path):
    workspace = Workspace(tmp_path)
    places = [
        workspace.database,
        workspace.artifacts,
        workspace.checkpoints,
        workspace.cache,
        workspace.results,
        workspace.lock,
    ]
    assert {place.parent for place in places} == {tmp_path}
    assert len(set(places)) == len(places)
    assert not any(place.exists() for place in places)  # naming a place makes nothing


def test_a_checkpoint_lies_apart_from_the_weights_of_the_same_training(tmp_path):
    workspace = Workspace(tmp_path)
    weights, partial = workspace.weights("d", "n1"), workspace.partial("d", "n1")
    assert partial.name == weights.name
    assert partial.parent.parent == weights.parent == workspace.checkpoints


@pytest.mark.parametrize("mark", ["mlflow.db", "experiments", ".git"])
def test_nearest_marked_folder_is_the_workspace(tmp_path, mark):
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "a" / mark).mkdir()
    assert find(inner) == Workspace(tmp_path / "a")
    assert find(tmp_path / "a") == Workspace(tmp_path / "a")


def test_mark_may_be_a_file(tmp_path):
    """In a linked working tree `.git` is a file, and the store always is one."""
    (tmp_path / "inner").mkdir()
    (tmp_path / ".git").touch()
    assert find(tmp_path / "inner") == Workspace(tmp_path)


def test_workspace_of_a_spec_is_around_its_experiments(tmp_path):
    (tmp_path / "experiments" / "deep").mkdir(parents=True)
    assert find(tmp_path / "experiments" / "deep") == Workspace(tmp_path)


def test_folder_without_marks_is_its_own_workspace(tmp_path, monkeypatch):
    """Whatever lies above the temporary folder of this machine must not decide the test."""
    monkeypatch.setattr("harness.workspace._MARKS", ("no-such-mark",))
    (tmp_path / "inner").mkdir()
    assert find(tmp_path / "inner") == Workspace(tmp_path / "inner")


def test_relative_start_gives_an_absolute_workspace(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find(Path("experiments")) == find(Path()) == Workspace(tmp_path.resolve())
