"""What a spec, a checkpoint or a cached file from elsewhere cannot do: run code, or write where it has no business."""

import ast
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import cli, histories, specfile
from harness.checkpoint import Checkpoints
from harness.devices import device_name
from harness.errors import HarnessError
from harness.models import weights
from harness.planning import make_plan
from harness.workspace import Workspace
from tests.test_architecture import FILES

WriteSpec = Callable[..., Path]


def files_of(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """The folder that the workspace of a test lies in: what a path that climbs out would reach."""
    return tmp_path / "around"


@pytest.fixture
def workspace(around: Path) -> Workspace:
    (around / "work" / "experiments").mkdir(parents=True)
    return Workspace(around / "work")


# Paths.


@pytest.mark.parametrize("name", ["../up", "/tmp/down", "..", ".", "a/b", "a/../../b", '""', '"a\\nb"', '"~"', "-x"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: tiny", "name: {}"),
        ("policies: [full, head]", "policies: {{{}: {{phases: [{{trainable: [head]}}]}}}}"),
        ("tricks: {warmup: {epochs: 1}, mixup: }", "tricks: {{{}: {{trick: mixup}}}}"),
        ("seeds: 2", "seeds: 2\naxes: {{{}: {{a: {{train.lr: 0.1}}, b: {{train.lr: 0.2}}}}}}"),
    ],
)
def test_no_name_climbs_out(around: Path, write_spec: WriteSpec, old: str, new: str, name: str, capsys: Any) -> None:
    spec = write_spec((old, new.format(name)))
    before = files_of(around)
    for command in ("plan", "report", "run"):
        assert cli.main([command, str(spec)]) == cli.BAD_INPUT
        assert "tiny.yaml:" in capsys.readouterr().err
    assert files_of(around) == before


@pytest.mark.usefixtures("stored")
def test_a_grid_with_odd_levels_stays_in_its_folders(around: Path, write_spec: WriteSpec) -> None:
    spec = write_spec(
        ("policies: [full, head]", "policies: [head]"),
        ("tricks: {warmup: {epochs: 1}, mixup: }", "tricks: []"),
        ("designs: [one_in]", "axes: {level: {../../up: {train.lr: 0.1}, /tmp/harness-down: {train.lr: 0.2}}}"),
        ("seeds: 2", "seeds: 1"),
    )
    before = files_of(around)
    assert cli.main(["run", str(spec), "--inline", "--set", "keep_weights=true"]) == cli.DONE
    written = {path.parts[:2] for path in files_of(around) - before}
    places = {"results", "mlartifacts", "checkpoints", ".cache"}
    assert written == {("work", name) for name in places}
    assert not Path("/tmp/harness-down").exists()


@pytest.mark.parametrize("link", ["results/tiny", "results/tiny to nothing"])
def test_a_link_in_the_place_of_a_report_is_not_followed(
    around: Path, stored: Workspace, write_spec: WriteSpec, link: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = around / "elsewhere"
    if link == "results/tiny":
        target.mkdir()
    stored.results.mkdir()
    (stored.results / "tiny").symlink_to(target)
    assert cli.main(["run", str(write_spec()), "--inline"]) == cli.BAD_INPUT
    assert "is a link out of" in capsys.readouterr().err
    assert not target.exists() or not list(target.iterdir())


def test_the_results_as_a_whole_may_lie_on_another_disk(around: Path, workspace: Workspace) -> None:
    (around / "big").mkdir()
    workspace.results.symlink_to(around / "big")
    assert workspace.report("tiny") == workspace.results / "tiny"


@pytest.mark.parametrize("root", ["../../up", "/tmp/harness-down"])
@pytest.mark.parametrize("section", ["data", "weights"])
def test_nothing_is_fetched_outside_the_workspace(
    workspace: Workspace, write_spec: WriteSpec, root: str, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    def fetch(*_: object) -> None:
        raise AssertionError("it was about to be fetched")

    monkeypatch.setattr(datasets.CIFAR10, "download", fetch)
    old = 'classes: ["5", "6", "7"]' if section == "data" else 'classes: ["0", "1", "2"]'
    old = f"{{name: digits, {old}, image_size: 8,"
    new = f"{{name: cifar10, root: {root}, download: true, classes: [cat, dog], image_size: 8,"
    spec = write_spec((old, new), *([(" shift: [invert],", "")] if section == "data" else []))
    with pytest.raises(HarnessError, match=r"tiny\.yaml:\d+: .*`download` fetches into folders of the workspace"):
        make_plan(specfile.read(spec), workspace)


# Code.


class Trap:
    """Whose pickle leaves a file behind when it is read."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """What code would leave behind."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!python/object/apply:os.mkdir", "!<os.mkdir>"])
def test_a_spec_runs_no_code(write_spec: WriteSpec, tag: str, mark: Path) -> None:
    attack = f"{tag} ['{mark}']"
    path = write_spec(("seeds: 2", f"seeds: {attack}"))
    with pytest.raises(HarnessError):
        specfile.read(path)
    with pytest.raises(HarnessError):
        specfile.read(write_spec(), [f"seeds={attack}"])


def test_weights_run_no_code(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": {"fc.weight": Trap(mark)}}, path)
    with pytest.raises(HarnessError, match="cannot read a state dict"):
        weights.read(path)


def test_a_checkpoint_runs_no_code(plan: Any, workspace: Workspace, mark: Path) -> None:
    training = next(iter(plan.trainings.values()))
    kept = Checkpoints(workspace, 0)
    path = kept.path(training.digest)
    path.parent.mkdir(parents=True)
    torch.save({"training": training.digest, "device": "CPU", "learner": Trap(mark)}, path)
    found, ignored = kept.read(training, device_name(torch.device("cpu")))
    assert found is None
    assert "cannot be read" in ignored


def test_predictions_run_no_code(mark: Path) -> None:
    content = io.BytesIO()
    trap = np.array([Trap(mark)], dtype=object)
    np.savez(content, allow_pickle=True, predictions=trap, labels=trap)
    with pytest.raises(ValueError, match="allow_pickle"):
        histories.correct(content.getvalue())


def test_no_file_of_the_harness_can_run_what_it_reads() -> None:
    """The one pickle is that of the pipe to its own workers, which multiprocessing makes."""
    unsafe = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "yaml"}
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found |= {f"{path.name} imports {name}" for name in names if name.split(".")[0] in unsafe}
            if isinstance(node, ast.Call):
                found |= {f"{path.name}:{node.lineno} {fault}" for fault in _faults(node)}
    assert not found
    assert any("torch.load(" in path.read_text(encoding="utf-8") for path in FILES)


def _faults(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only"
    if name == "YAML" and given.get("typ") not in ("'rt'", "'safe'"):
        yield "a YAML loader that makes objects"
    if given.get("allow_pickle", "False") != "False" or name.endswith("read_pickle"):
        yield "a pickle is read"
    if name in ("eval", "exec", "os.system") or given.get("shell", "False") != "False":
        yield "text is run"
