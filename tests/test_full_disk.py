"""A full disk, made by small file systems in memory: what it stops says so, and once there is room the rest is done."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from harness import cli, data
from harness.data import decoding
from harness.errors import HarnessError
from harness.models import weights
from harness.spec import Data
from harness.track import log, waiting
from tests.test_servers import expected, written
from tests.test_waiting import at_epochs, check_whole, said, soon

__all__ = ["expected"]
Disk = Callable[[Path, int], None]


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A function that puts a disk of so many bytes in the place of a folder."""
    with ExitStack() as held:
        yield lambda folder, size: held.enter_context(mounted(folder, size))


def fill(folder: Path) -> Path:
    """Take all room that is left, and return the file that takes it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def test_weights_are_written_whole_or_not_at_all(tmp_path: Path, disk: Disk) -> None:
    disk(tmp_path / "kept", 1 << 20)
    path = tmp_path / "kept" / "weights.pt"
    small, large = {"a": torch.ones(10)}, {"a": torch.ones(1_000_000)}
    weights.save(small, path)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        weights.save(large, path)
    assert [*path.parent.iterdir()] == [path]
    assert torch.equal(weights.read(path)["a"], small["a"])


def test_a_cache_without_room_is_one_message(tmp_path: Path, disk: Disk) -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    settings = Data(name="image_folder", root=str(tmp_path / "images"), image_size=64)
    content = decoding.catalogue_of(settings).content()
    cache = tmp_path / "cache"
    disk(cache, 1 << 18)  # half of what the images take
    with pytest.raises(HarnessError, match=f"cannot keep decoded images in {cache}/data: No space left on device"):
        data.decode(settings, content, cache)
    assert not list((cache / "data").iterdir())
    assert len(data.decode(settings, content, tmp_path / "elsewhere").labels) == 40


def test_a_report_without_room_is_written_by_the_next_run(
    tmp_path: Path, empty_store: Path, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = written(tmp_path / "work")
    place = spec.parents[1]
    shutil.copy(empty_store, place / "mlflow.db")
    with mounted(place / "results", 1 << 15):
        assert cli.main(["run", str(spec), "--inline"]) == cli.BAD_INPUT
        message = capsys.readouterr().err.splitlines()[-1]
        assert message == f"harness: cannot write results to {place}/results/tiny: No space left on device"
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    assert "Nothing to train" in capsys.readouterr().out
    check_whole(spec, expected)


@pytest.mark.parametrize("room", ["is made meanwhile", "is made for the next run"])
def test_a_workspace_without_room(
    room: str,
    tmp_path: Path,
    empty_store: Path,
    expected: str,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    caplog,
    capsys,
) -> None:
    """Database, artifacts and checkpoints lie on a disk that is full from one epoch on."""
    place, meanwhile = tmp_path / "work", room == "is made meanwhile"
    disk(place, 64 << 20)
    spec = written(place)
    shutil.copy(empty_store, place / "mlflow.db")
    monkeypatch.setattr(log, "_FLUSH_S", 0.0)

    def full() -> None:
        ballast = fill(place)
        assert shutil.disk_usage(place).free == 0
        if meanwhile:
            soon(ballast.unlink)
        else:
            monkeypatch.setattr(waiting, "PATIENCE_S", 0.5)

    with pytest.MonkeyPatch.context() as patch:
        at_epochs(patch, _5=full)
        status = cli.main(["run", str(spec), "--inline", "--set", "execution.checkpoint_s=0"])
    if meanwhile:
        assert (status, said(caplog)) == (cli.DONE, ["locked or away", "answers again"])
        check_whole(spec, expected)
        return
    assert status == cli.BAD_INPUT
    assert "(database or disk is full)" in capsys.readouterr().err.splitlines()[-1]
    (place / "ballast").unlink()
    assert cli.main(["run", str(spec), "--inline", "--set", "execution.checkpoint_s=0"]) == cli.DONE
    check_whole(spec, expected)
