"""Exported weights: those the run ended with, bit for bit, or one message why not."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness import cli, data, specfile
from harness.bits import state_sha256
from harness.data.normalise import Normalise
from harness.errors import HarnessError
from harness.evaluate import predict
from harness.export import changed_names, export, find, kept_weights
from harness.models import weights
from harness.models.build import build_model
from harness.planning import make_plan
from harness.spec import Data, Model
from harness.track import GridLog, Store
from harness.workspace import Workspace
from tests.watching import CPU

NAME = "head | baseline | seed 0"
ONE = (("[full, head]", "[head]"), ("tricks: {warmup: {epochs: 1}, mixup: }\n", ""), ("seeds: 2", "seeds: 1"))
TARGET = Data(name="digits", classes=("5", "6", "7"), image_size=8, shift=("invert",), train_per_class=8)


@pytest.fixture(autouse=True)
def _here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.root)


def said_of(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["export", *arguments]) == cli.BAD_INPUT
    return capsys.readouterr().err


def test_exported_weights_predict_what_the_run_predicted(
    stored: Workspace, write_spec: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them alone, and what the training changed over the weights that it started from."""
    spec, keeping = str(write_spec(*ONE)), ["--set", "keep_weights=true"]
    assert cli.main(["run", spec, "--inline"]) == cli.DONE
    capsys.readouterr()
    said = said_of(NAME, capsys=capsys)
    assert "keep_weights=true" in said
    assert "checkpoints" in said

    # The same grid, whose replicate is trained again for its weights, once.
    for expected in ("1 trained.", "Nothing to train"):
        assert cli.main(["run", spec, "--inline", *keeping]) == cli.DONE
        assert expected in capsys.readouterr().out
    assert cli.main(["export", NAME, "--out", "whole.pt"]) == cli.DONE
    assert cli.main(["export", NAME, "--out", "changed.pt", "--changed-only"]) == cli.DONE
    assert "changed.pt: 2 of the 56 tensors of run " in capsys.readouterr().out
    (run,) = Store(stored).named(NAME)
    with np.load(io.BytesIO(Store(stored).read_artifact(run, "test_predictions.npz") or b"")) as kept:
        predicted = kept["predictions"]
    test = data.load(TARGET, "digits", 0, stored.cache, CPU).test

    whole = build_model(Model(name="cifar_resnet8"), 3, seed=5)
    whole.load_state_dict(torch.load("whole.pt", weights_only=True))
    assert np.array_equal(predict(whole, test, Normalise(TARGET, CPU)).numpy(), predicted)

    changed = torch.load("changed.pt", weights_only=True)
    assert set(changed) == {"fc.weight", "fc.bias"}
    plan = make_plan(specfile.read(Path(spec)), stored)
    source = torch.load(str(plan.prerequisites[0].training.save_to), weights_only=True)
    laid = build_model(Model(name="cifar_resnet8"), 3, seed=6)
    laid.load_state_dict(source | changed)
    assert np.array_equal(predict(laid, test, Normalise(TARGET, CPU)).numpy(), predicted)

    # A study that shares the training has its weights too.
    other = write_spec(*ONE, ("name: tiny", "name: other"), name="other")
    assert cli.main(["run", str(other), "--inline", *keeping]) == cli.DONE
    assert "1 shared." in capsys.readouterr().out
    (shared,) = [found for found in Store(stored).named(NAME) if found.data.tags["harness.kind"] == "shared"]
    assert cli.main(["export", shared.info.run_id[:12], "--changed-only"]) == cli.DONE
    made = torch.load(f"{shared.info.run_id[:8]}-changed.pt", weights_only=True)
    assert state_sha256(made) == state_sha256(changed)
    assert "may mean 2 runs" in said_of(NAME, capsys=capsys)
    assert "whole.pt exists" in said_of(shared.info.run_id, "--out", "whole.pt", capsys=capsys)

    # Weights that are wanted and gone are made again.
    for path in stored.checkpoints.glob(f"{run.data.tags['harness.digest']}-*.pt"):
        path.unlink()
    assert cli.main(["run", spec, "--inline", *keeping]) == cli.DONE
    assert "1 trained." in capsys.readouterr().out
    assert cli.main(["export", run.info.run_id[:12], "--out", "again.pt"]) == cli.DONE
    assert state_sha256(weights.read(Path("again.pt"))) == state_sha256(weights.read(Path("whole.pt")))


def test_kept_weights_are_no_part_of_identity(write_spec: Callable[..., Path], workspace: Workspace) -> None:
    one, other = (specfile.read(write_spec(), given) for given in ([], ["keep_weights=true"]))
    assert one.grid == other.grid
    plain, keeping = make_plan(one, workspace), make_plan(other, workspace)
    assert list(plain.trainings) == list(keeping.trainings)
    assert not any(training.save_to for training in plain.trainings.values())
    places = {str(training.save_to) for training in keeping.trainings.values()}
    assert len(places) == 12
    assert all(Path(place).parent == workspace.checkpoints for place in places)
    assert all(training.digest in str(training.save_to) for training in keeping.trainings.values())


def test_changed_is_whatever_the_weights_it_started_from_do_not_give(tmp_path: Path) -> None:
    path = tmp_path / "source.pt"
    source = {name: torch.arange(4.0) for name in ("same", "moved", "signed", "cast", "cut")}
    torch.save(source | {"signed": torch.zeros(1), "cast": torch.zeros(4)}, path)
    state = {
        "same": torch.arange(4.0),
        "moved": torch.arange(4.0) + 1,
        "signed": -torch.zeros(1),
        "cast": torch.zeros(4, dtype=torch.int32),
        "cut": torch.arange(3.0),
        "new": torch.ones(1),
    }
    assert weights.changed(state, weights.read(path)) == ("moved", "signed", "cast", "cut", "new")
    assert weights.changed(state, {}) == tuple(state)


# One message for whatever cannot be exported.

TAGS = {
    "harness.kind": "replicate",
    "harness.digest": "0123",
    "harness.numerics": "2",
    "harness.torch": "3.4",
    "harness.host": "far",
    "harness.weights_sha256": state_sha256({"w": torch.ones(2)}),
}


def fake(run_id: str = "abc1", status: str = "FINISHED", **tags: str) -> Any:
    return SimpleNamespace(
        info=SimpleNamespace(run_id=run_id, run_name=f"name of {run_id}", status=status),
        data=SimpleNamespace(tags=TAGS | {f"harness.{key}": value for key, value in tags.items()}),
    )


def store(*runs: Any, trained: Any = None, listed: bytes | None = None) -> Any:
    return SimpleNamespace(
        named=lambda text: [run for run in runs if run.info.run_id.startswith(text)],
        trained=lambda digest, versions: trained if (digest, versions) == ("0123", VERSIONS) else None,
        read_artifact=lambda run, name: listed if (run, name) == (trained or runs[0], "changed.txt") else None,
    )


VERSIONS = {"harness.numerics": "2", "harness.torch": "3.4"}


def grid_run() -> Any:
    run = fake()
    run.data.tags = {"harness.kind": "grid"}
    return run


def foreign_run() -> Any:
    run = fake()
    run.data.tags = {}
    return run


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([], ["'abc'", "harness ui"]),
        ([fake("abc1"), fake("abc2")], ["'abc' may mean 2 runs", "abc1", "abc2", "name of abc2"]),
        ([grid_run()], ["abc1", "is a grid"]),
        ([foreign_run()], ["abc1", "no training of the harness"]),
        ([fake(status="FAILED", reason="loss is nan")], ["name of abc1", "it is failed (loss is nan)"]),
        ([fake(status="RUNNING")], ["it is running"]),
        ([fake("abc1", "FAILED"), fake("abc2", "KILLED")], ["may mean 2 runs", "killed"]),
    ],
)
def test_what_names_no_finished_training_is_refused(runs: list[Any], words: list[str]) -> None:
    with pytest.raises(HarnessError) as error:
        find(store(*runs), "abc")
    assert all(word in str(error.value) for word in words)


def test_of_a_name_the_run_that_finished_is_meant() -> None:
    assert find(store(fake("abc1", "FAILED"), fake("abc2")), "abc").info.run_id == "abc2"


def test_weights_are_those_of_the_versions_that_trained_them(workspace: Workspace) -> None:
    weights.save({"w": torch.ones(2)}, workspace.checkpoints / "0123-n2-torch3.4.pt")
    assert kept_weights(fake(), workspace)["w"].tolist() == [1, 1]
    with pytest.raises(HarnessError, match=r"name of abc1.*trained on far, kept no weights: .*0123-n1-torch3\.4\.pt"):
        kept_weights(fake(numerics="1"), workspace)


def test_other_weights_than_the_run_s_are_refused(workspace: Workspace) -> None:
    weights.save({"w": torch.zeros(2)}, workspace.checkpoints / "0123-n2-torch3.4.pt")
    with pytest.raises(HarnessError, match="holds other weights than those that run abc1"):
        kept_weights(fake(), workspace)


def test_a_run_without_a_list_of_changes_is_exported_whole_only() -> None:
    run = fake()
    assert changed_names(run, store(run, listed=b"a\nb\n")) == ["a", "b"]
    with pytest.raises(HarnessError, match="export it whole"):
        changed_names(run, store(run))


def test_a_shared_run_changed_what_its_trainer_changed() -> None:
    trainer, shared = fake("def"), fake(kind="shared")
    assert changed_names(shared, store(shared, trained=trainer, listed=b"a\n")) == ["a"]
    with pytest.raises(HarnessError, match="export it whole"):
        changed_names(shared, store(shared, listed=b"a\n"))


def test_a_file_that_cannot_be_written_is_one_message(workspace: Workspace) -> None:
    weights.save({"w": torch.ones(2)}, workspace.checkpoints / "0123-n2-torch3.4.pt")
    (workspace.root / "file").touch()
    with pytest.raises(HarnessError, match="cannot write"):
        export(store(fake()), workspace, "abc", False, workspace.root / "file" / "w.pt")


def test_no_wildcard_or_quote_finds_a_run(stored: Workspace) -> None:
    log = GridLog(Store(stored), "tiny", "grid", {})
    log.begin("it's", {}, {}, None)
    assert [Store(stored).named(text) for text in ("", "%", "_", "'", "it's")] == [[]] * 5
    assert [run.info.run_id for run in Store(stored).named(log.run_id)] == [log.run_id]
