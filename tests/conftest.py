"""What the tests share: a tiny study that trains in a second, and its pieces."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness import specfile
from harness.plan import Plan
from harness.planning import make_plan
from harness.specfile import Study
from harness.workspace import Workspace

TINY = """\
name: tiny
model: {name: cifar_resnet8}
weights:
  pretrain:
    data: {name: digits, classes: ["0", "1", "2"], image_size: 8, train_per_class: 8}
    train: {epochs: 1, batch_size: 8, lr: 0.05}
data: {name: digits, classes: ["5", "6", "7"], image_size: 8, shift: [invert], train_per_class: 8}
train: {epochs: 2, batch_size: 8, lr: 0.05, augment: {flip: true, crop_padding: 1}}
policies: [full, head]
tricks: {warmup: {epochs: 1}, mixup: }
designs: [one_in]
seeds: 2
throughput: {rounds: 2, steps: 1}
"""
"""Two policies × (baseline, warmup, mixup) × two seeds: 12 replicates of 6 steps."""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's own tracking store; every test trains with one thread, as workers do."""
    for name in ("URI", "USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")  # so that what a test makes of it is undone
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")
    torch.set_num_threads(1)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace of its own."""
    (tmp_path / "experiments").mkdir()
    return Workspace(tmp_path)


@pytest.fixture
def write_spec(workspace: Workspace) -> Callable[..., Path]:
    """A function that writes a spec, TINY with texts replaced, into the workspace and returns its path."""

    def write(*replacements: tuple[str, str], name: str = "tiny") -> Path:
        text = TINY
        for old, new in replacements:
            assert old in text, f"{old!r} is not in the tiny spec"
            text = text.replace(old, new)
        path = workspace.root / "experiments" / f"{name}.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def study(write_spec: Callable[..., Path]) -> Study:
    """The tiny study as read."""
    return specfile.read(write_spec())


@pytest.fixture
def plan(study: Study, workspace: Workspace) -> Plan:
    """The tiny study planned."""
    return make_plan(study, workspace)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking database that is initialised and empty: making one takes seconds, copying one does not."""
    from harness.track import Store

    workspace = Workspace(tmp_path_factory.mktemp("store"))
    Store(workspace, create=True)
    return workspace.database


@pytest.fixture
def stored(workspace: Workspace, empty_store: Path) -> Workspace:
    """A workspace whose tracking database is initialised."""
    shutil.copy(empty_store, workspace.database)
    return workspace
