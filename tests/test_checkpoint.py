"""Checkpoints: a training that goes on from one equals an unbroken one bit for bit; what does not serve is ignored."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.checkpoint import Checkpoint, Checkpoints, Keeper
from harness.data import survey
from harness.devices import device_name
from harness.execute.inline import InlineExecutor
from harness.execute.job import Job
from harness.freezing.policies import POLICIES
from harness.models import weights
from harness.models.build import build_model
from harness.records import Diagnosed, Epoch, Failed, Finished, Record, Started
from harness.spec import Augment, Data, OptimizerSpec
from harness.supplies import Supplies
from harness.train import train
from harness.training import Origin, Teacher, Training
from harness.tricks import TRICKS, Trick
from harness.tricks.warmup import WarmupTrick
from harness.workspace import Workspace
from tests.samples import image_folder, predicted
from tests.watching import BOTTLENECKS, CPU, two_steps

EPOCHS = 4
ALL: dict[str, Trick] = {name: kind() for name, kind in TRICKS.items()} | {"warmup": WarmupTrick(epochs=1)}
AUGMENT = Augment(flip=True, crop_padding=1, color_jitter=0.4)


def numbers(records: list[Record]) -> list[object]:
    """Return all that the records say but times."""
    epochs = [(r.epoch, r.step, r.train_loss, r.val) for r in records if isinstance(r, Epoch)]
    (last,) = (record for record in records if isinstance(record, Finished))
    figures = [record.figures for record in records if isinstance(record, Diagnosed)]
    tested = (last.weights_sha256, last.test, last.changed, last.notes, predicted(last)[0].tolist())
    return [epochs, figures, tested]


def perform(training: Training, place: Workspace, every_s: float | None = 0.0) -> Iterator[Record]:
    checkpoints = Checkpoints(place, every_s)
    return InlineExecutor("cpu").run([Job((training,), place.cache, checkpoints=checkpoints)])


def until_epoch(records: Iterator[Record], epoch: int) -> list[Record]:
    """Take records up to that of an epoch, and no more: as where the process dies."""
    taken = []
    for record in records:
        taken.append(record)
        if isinstance(record, Epoch) and record.epoch == epoch:
            break
    records.close()  # type: ignore[attr-defined]
    return taken


def teacher(folder: Path) -> Teacher:
    weights.save(build_model(BOTTLENECKS, 2, seed=9).state_dict(), folder / "teacher.pt")
    return Teacher(BOTTLENECKS, Origin("teacher", str(folder / "teacher.pt")))


PHASED = [name for name, policy in POLICIES.items() if len(policy.phases) > 1]
TRICKED = {
    "averaged": ["ema"],
    "mixed": ["mixup", "cutmix"],
    "augmented": ["trivial_augment", "random_erasing"],
    "taught": ["distillation"],
    "in bfloat16": ["mixed_precision", "cosine", "warmup"],
    "all": list(ALL),
}


def named(name: str, folder: Path) -> Training:
    """Return one of the trainings that are broken off: by policy, by tricks, by optimizer."""
    if name in POLICIES:
        return two_steps(policy=name, epochs=EPOCHS, augment=AUGMENT)
    if name in TRICKED:
        tricks = {label: ALL[label] for label in TRICKED[name]}
        training = two_steps(tricks, model=BOTTLENECKS, epochs=EPOCHS, augment=AUGMENT)
        return replace(training, teacher=teacher(folder)) if "distillation" in tricks else training
    return two_steps(epochs=EPOCHS, optimizer=OptimizerSpec(name="AdamW"), augment=Augment(resized_crop=True))


@pytest.mark.parametrize("name", [*PHASED, *TRICKED, "AdamW"])
def test_a_training_broken_off_after_every_epoch_equals_an_unbroken_one(name: str, workspace: Workspace) -> None:
    training = named(name, workspace.root)
    whole = list(perform(training, workspace, every_s=None))
    assert not list(workspace.checkpoints.rglob("*"))
    for epoch in range(1, EPOCHS + 1):
        torch.manual_seed(epoch)  # the state of the process does not matter
        broken = until_epoch(perform(training, workspace), epoch)
        assert [r.after_epoch for r in broken if isinstance(r, Started)] == [epoch - 1]
    resumed = list(perform(training, workspace))
    assert numbers(resumed) == numbers(whole)
    assert [r for r in resumed if isinstance(r, Epoch)] == [r for r in broken if isinstance(r, Epoch)]


def test_policies_of_several_phases_are_among_those() -> None:
    assert set(PHASED) >= {"lp_ft", "gradual", "bn_frozen_at_end", "head_then_last_2"}


def test_what_stands_still_for_its_floats_alone_is_no_violation_after_a_break(workspace: Workspace) -> None:
    """Whether it could have moved is told by the gradients of the last step before."""
    training = two_steps(policy="lp_ft", epochs=EPOCHS, lr=1e-20)
    whole = list(perform(training, workspace, every_s=None))
    for epoch in range(1, EPOCHS + 1):
        until_epoch(perform(training, workspace), epoch)
    assert numbers(list(perform(training, workspace))) == numbers(whole)


def test_layers_that_draw_go_on_with_their_draws(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def dropping(*arguments: object) -> nn.Module:
        module = build_model(*arguments)  # type: ignore[arg-type]
        module.fc = nn.Sequential(nn.Dropout(0.5), module.get_submodule("fc"))
        return module

    monkeypatch.setattr("harness.learner.build_model", dropping)
    training = two_steps(epochs=EPOCHS)
    (phase,) = training.phases
    renamed = tuple(
        replace(group, names=tuple(name.replace("fc.", "fc.1.") for name in group.names)) for group in phase.groups
    )
    training = replace(training, phases=(replace(phase, groups=renamed),))
    whole = list(perform(training, workspace, every_s=None))
    until_epoch(perform(training, workspace), 2)
    assert numbers(list(perform(training, workspace))) == numbers(whole)


def test_streamed_images_go_on_in_their_order(workspace: Workspace) -> None:
    root = image_folder(workspace.root / "images", {"ant": 20, "bee": 20})
    data = Data(name="image_folder", root=str(root), image_size=8, classes=("ant", "bee"), stream=True, workers=1)
    training = replace(
        two_steps(epochs=EPOCHS, augment=Augment(resized_crop=True, flip=True)),
        data=data.model_copy(update={"root": None}),
        data_content=survey(data).content,
        data_root=str(root),
    )
    whole = list(perform(training, workspace, every_s=None))
    until_epoch(perform(training, workspace), 2)
    assert numbers(list(perform(training, workspace))) == numbers(whole)


def test_a_diagnosis_is_that_of_the_unbroken_training(workspace: Workspace) -> None:
    training = replace(two_steps(epochs=2), diagnose=True)
    whole = list(perform(training, workspace, every_s=None))
    until_epoch(perform(training, workspace), 2)
    assert numbers(list(perform(training, workspace))) == numbers(whole)


def test_time_spent_goes_on(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("harness.train.time.perf_counter", lambda: clock[0])
    training = two_steps(epochs=3)
    records = perform(training, workspace)
    for record in records:
        clock[0] += 100
        if isinstance(record, Epoch) and record.epoch == 2:
            break
    records.close()  # type: ignore[attr-defined]
    clock[0] = 5000.0
    *_, last = perform(training, workspace)
    assert isinstance(last, Finished)
    # The clock stood at 100 as the first began, and at 200 after its second epoch.
    assert last.wall_s == 100


@pytest.fixture
def checkpoint(workspace: Workspace) -> Checkpoint:
    """A checkpoint after the first epoch of a training, as it is handed over."""
    kept: list[Checkpoint] = []
    records = train(two_steps(epochs=2), Supplies(workspace.cache, CPU), kept.append)
    next(records)
    return kept[0]


def test_a_checkpoint_is_written_where_the_last_is_old_enough(
    workspace: Workspace, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("harness.checkpoint.time.perf_counter", lambda: clock[0])
    written: list[float] = []

    def write(*_: object) -> str:
        written.append(clock[0])
        return ""

    monkeypatch.setattr(Checkpoints, "write", write)
    keeper = Keeper(Checkpoints(workspace, 60), two_steps(), "cpu")
    for clock[0] in (30, 59, 60, 90, 119, 120, 500, 501):
        keeper.keep(checkpoint)
    assert written == [60, 120, 500]


def damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def of_another_training(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "training": "another"}, path)


def of_another_device(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({**content, "device": "another"}, path)


def of_another_layout(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["streams"]
    torch.save(content, path)


class Harmful:
    """What runs code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def harmful(path: Path) -> None:
    torch.save(Harmful(), path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damaged, "cannot be read"),
        (of_another_layout, "cannot be read (TypeError)"),
        (harmful, "cannot be read (UnpicklingError)"),
        (of_another_training, "is of training another"),
        (of_another_device, "on another"),
    ],
)
def test_a_checkpoint_that_does_not_serve_is_ignored_noted_and_replaced(spoil, words, workspace: Workspace) -> None:
    training = two_steps(epochs=2)
    path = Checkpoints(workspace, 0).path(training.digest)
    whole = list(perform(training, workspace))
    spoil(path)
    again = list(perform(training, workspace))
    assert [r.after_epoch for r in again if isinstance(r, Started)] == [0]
    last = again[-1]
    assert isinstance(last, Finished)
    (note,) = last.notes
    assert "a checkpoint was ignored that" in note
    assert words in note
    assert numbers([*again[:-1], replace(last, notes=())]) == numbers(whole)
    found, why = Checkpoints(workspace, 0).read(training, device_name(CPU))
    assert (found is not None, why) == (True, "")


def test_a_checkpoint_that_cannot_be_written_ends_no_training(workspace: Workspace) -> None:
    workspace.checkpoints.write_text("a file stands where the folder should be")
    *_, last = perform(two_steps(epochs=2), workspace)
    assert isinstance(last, Finished)
    assert len(last.notes) == 1
    assert "its checkpoint after epoch 2 could not be written" in last.notes[0]


def test_a_checkpoint_is_whole_or_that_before_it(workspace: Workspace, checkpoint, monkeypatch) -> None:
    training, checkpoints = two_steps(epochs=2), Checkpoints(workspace, 0)
    assert checkpoints.write(training, "cpu", checkpoint) == ""
    before = checkpoints.path(training.digest).read_bytes()

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.models.weights.os.fsync", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.write(training, "cpu", checkpoint)
    assert checkpoints.path(training.digest).read_bytes() == before
    assert [path.name for path in checkpoints.path("x").parent.iterdir()] == [checkpoints.path(training.digest).name]


def test_what_is_discarded_leaves_no_draft_and_no_other(workspace: Workspace) -> None:
    checkpoints = Checkpoints(workspace, 0)
    one, other = checkpoints.path("one"), checkpoints.path("other")
    one.parent.mkdir(parents=True)
    for file in (one, one.with_suffix(".123.part"), other, other.with_suffix(".123.part")):
        file.touch()
    checkpoints.discard(["one", "never made"])
    assert set(one.parent.iterdir()) == {other, other.with_suffix(".123.part")}


def test_a_checkpoint_holds_plain_data_alone(workspace: Workspace, checkpoint: Checkpoint) -> None:
    training, checkpoints = two_steps(epochs=2), Checkpoints(workspace, 0)
    checkpoints.write(training, "cpu", checkpoint)
    found, _ = checkpoints.read(training, "cpu")
    assert found is not None
    assert found.epochs == checkpoint.epochs
    states = [np.random.default_rng(0).bit_generator for _ in found.streams]
    for bits, state in zip(states, found.streams, strict=True):
        bits.state = state
    assert [bits.state for bits in states] == checkpoint.streams


def test_a_failure_comes_where_it_would_have_come(workspace: Workspace) -> None:
    training = two_steps(epochs=6, lr=1e6)
    whole = list(perform(training, workspace, every_s=None))
    lost = whole[-1]
    assert isinstance(lost, Failed)
    until_epoch(perform(training, workspace), 1)
    again = list(perform(training, workspace))[-1]
    assert isinstance(again, Failed)
    assert (again.kind, again.reason) == (lost.kind, lost.reason)
