"""What must hold on a device before its speed means anything: names, each with a function that says how it went.

A check that fails raises; one that is refused by a gate says so.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.bits import state_sha256
from harness.data import Images, ImageSet
from harness.data.batches import Batches
from harness.freezing import check
from harness.freezing.policies import POLICIES
from harness.freezing.resolve import resolve
from harness.learner import Learner, initial_model
from harness.models.build import layout_of
from harness.prefix.batch import Batch
from harness.recipe import Precision
from harness.records import Finished
from harness.spec import Augment, Compile, Data, Model, Train
from harness.supplies import Supplies
from harness.train import train
from harness.training import Training
from harness.tricks import TRICKS, Trick, compose

Check = tuple[str, Callable[[], str]]
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Fixed:
    """One precision on every device."""

    name: str

    def dtype(self, device_type: str) -> torch.dtype:  # noqa: ARG002
        """Return it."""
        found = PRECISIONS[self.name]
        assert found is not None
        return found


def case(
    model: str,
    size: int,
    precision: str = "fp32",
    policy: str = "full",
    tricks: dict[str, Trick] | None = None,
    classes: int = 10,
    **settings: Any,
) -> Training:
    """Return a training of a network on images of `size` pixels, from random weights."""
    chosen = Train(**{"epochs": 2, "batch_size": 32, "lr": 0.05, "augment": Augment(flip=True), **settings})
    recipe = compose(tricks or {})
    fixed: Precision | None = Fixed(precision) if precision != "fp32" else None
    return Training(
        model=Model(name=model),
        classes=classes,
        head=("fc",),
        origin=None,
        data=Data(name="digits", image_size=size, train_per_class=13, val_per_class=5, test_per_class=5),
        data_content="digits",
        train=chosen,
        recipe=replace(recipe, param_rules=(), lr_scales=(), surgeries=(), teacher=None, precision=fixed),
        phases=resolve(POLICIES[policy], layout_of(Model(name=model), classes), 1e-4, recipe.param_rules),
        seed=0,
    )


def images_for(training: Training, count: int, device: torch.device) -> ImageSet:
    """Draw images and labels on the device."""
    drawn = torch.Generator(device).manual_seed(0)
    shape = (count, 3, training.data.image_size, training.data.image_size)
    images = torch.randint(256, shape, dtype=torch.uint8, device=device, generator=drawn)
    labels = torch.randint(training.classes, (count,), device=device, generator=drawn)
    return ImageSet(images, labels)


def steps(learner: Learner, batches: Batches, count: int, lr: float = 0.01) -> Tensor:
    """Take steps in the job's own loop, pass after pass; return the sum of the losses, on the device."""
    total = torch.zeros((), device=next(learner.module.parameters()).device)
    for images, targets in islice((batch for _ in cycle([0]) for batch in batches.epoch()), count):
        total += learner.step(Batch(images, targets), lr)
    return total


def begin(training: Training, device: torch.device, images: Images | None = None) -> tuple[Learner, Batches]:
    """Return a learner at its first step, and its batches."""
    found = images or images_for(training, 4 * training.train.batch_size, device)
    return Learner(initial_model(training, device), training), Batches(training, found, device)


def checks(
    device: torch.device, folder: Path, small: tuple[str, int], reused: tuple[str, int], modes: list[Compile]
) -> Iterator[Check]:
    """Yield the checks of a small network on images of so many pixels, and of another one's frozen stages."""
    model, size = small
    for precision in PRECISIONS:
        yield f"host syncs in an epoch, {precision}", lambda p=precision: no_sync(device, model, size, p)  # type: ignore[misc]
        for policy in POLICIES:
            if POLICIES[policy].codes is None:
                yield (
                    f"two steps of {policy}, {precision}",
                    lambda p=precision, n=policy: two_steps(  # type: ignore[misc]
                        device, model, size, p, n
                    ),
                )
    settings: list[dict[str, Any]] = [{}, {"channels_last": True}, {"fused": True}]
    compiled = [{"channels_last": True, "fused": True, "compile": mode} for mode in modes]
    for precision in PRECISIONS:
        for policy in ("head", "last_stage"):
            for setting in settings[:2]:
                training = case(*reused, precision, policy, **setting)
                yield f"reuse under {policy}, {precision} {setting}", lambda t=training: reuse(t, device, folder)  # type: ignore[misc]
        for setting in settings + (compiled if precision == "bf16" else []):
            training = case(model, size, precision, **setting)
            yield f"same bits twice, {precision} {setting}", lambda t=training: twice(t, device)  # type: ignore[misc]
            yield f"resumed, {precision} {setting}", lambda t=training: resumed(t, device)  # type: ignore[misc]
    for mode in modes:
        training = case(model, size, "bf16", compile=mode)
        yield f"memory of trainings in turn, {mode}", lambda t=training: in_turn(t, device)  # type: ignore[misc]


def two_steps(device: torch.device, model: str, size: int, precision: str, policy: str) -> str:
    """Train two steps of each phase; what is frozen must keep its bits, what learns must move."""
    try:
        training = case(model, size, precision, policy, fused=True)
    except Exception as error:
        return f"of another network: {error}"
    learner, batches = begin(training, device)
    for phase in training.phases:
        learner.enter(phase)
        before = check.snapshot(learner.module)
        loss = steps(learner, batches, 2).item()
        assert isfinite(loss), loss
        check.verify(learner.module, before, phase, learner.optimizer)
    return "finite, frozen bits unchanged"


def no_sync(device: torch.device, model: str, size: int, precision: str) -> str:
    """Take an epoch with every augmentation under torch's own detector of waiting for a GPU."""
    if device.type != "cuda":
        return "no GPU to wait for"
    tricks: dict[str, Trick] = {name: TRICKS[name]() for name in ("mixup", "cutmix", "label_smoothing", "ema")}
    augments = [Augment(flip=True, crop_padding=4, color_jitter=0.4), Augment(resized_crop=True)]
    for augment in augments:
        learner, batches = begin(case(model, size, precision, tricks=tricks, augment=augment, fused=True), device)
        steps(learner, batches, 2)
        torch.cuda.set_sync_debug_mode("error")
        try:
            steps(learner, batches, batches.per_epoch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return "none"


def bits_after(training: Training, device: torch.device, count: int) -> str:
    """Return what stands for the weights after so many steps."""
    learner, batches = begin(training, device)
    steps(learner, batches, count)
    return state_sha256(_on_cpu(learner))


def twice(training: Training, device: torch.device) -> str:
    """Train twice in this process."""
    one, other = (bits_after(training, device, 4) for _ in range(2))
    assert one == other, "other bits the second time"
    return "equal bits"


def resumed(training: Training, device: torch.device) -> str:
    """Go on from a checkpoint after two of four steps."""
    learner, batches = begin(training, device)
    steps(learner, batches, 4)
    file = io.BytesIO()
    torch.save([learner.state(), batches.state()], file)
    steps(learner, batches, 4)
    file.seek(0)
    state, streams = torch.load(file, map_location="cpu", weights_only=True)
    again, rest = begin(training, device)
    again.restore(state)
    rest.restore(streams)
    steps(again, rest, 4)
    assert state_sha256(_on_cpu(again)) == state_sha256(_on_cpu(learner)), "other bits than without a break"
    return "equal bits"


def reuse(training: Training, device: torch.device, folder: Path) -> str:
    """Train on what a frozen prefix made of all images, and plainly."""
    ends = [list(train(training, Supplies(folder, device, place)))[-1] for place in (None, folder / "shared")]
    plain, shared = (end for end in ends if isinstance(end, Finished))
    assert plain.weights_sha256 == shared.weights_sha256, "other bits than the plain path"
    return "; ".join(shared.notes) or "equal bits"


def in_turn(training: Training, device: torch.device) -> str:
    """Train four networks one after another: what the first leaves behind is what all leave behind."""
    if device.type != "cuda":
        return "no GPU to fill"
    left = []
    for seed in range(4):
        bits_after(replace(training, seed=seed), device, 4)
        left.append(torch.cuda.memory_allocated(device) / 2**20)
    assert left[-1] < 1.2 * left[1] + 16, f"MiB left behind by each: {left}"
    return f"MiB left behind by each: {', '.join(f'{each:.0f}' for each in left)}"


def _on_cpu(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in learner.evaluated.state_dict().items()}
