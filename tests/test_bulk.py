"""Heads trained side by side: every number is that of each by itself, or they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness import bulk
from harness.data import Images, Splits
from harness.execute.job import Job
from harness.execute.worker import perform
from harness.learner import Learner
from harness.records import Epoch, Failed, Finished, Started
from harness.spec import Augment, Model, OptimizerSpec
from harness.supplies import Supplies
from harness.training import Training
from harness.tricks.cosine import CosineTrick
from harness.tricks.ema import EmaTrick
from harness.tricks.label_smoothing import LabelSmoothingTrick
from harness.tricks.mixed_precision import MixedPrecisionTrick
from harness.tricks.mixup import MixupTrick
from harness.tricks.no_bias_decay import NoBiasDecayTrick
from harness.tricks.warmup import WarmupTrick
from tests.watching import BOTTLENECKS, performed, two_steps

FLIP = Augment(flip=True)


def heads(**settings: Any) -> list[Training]:
    """Return trainings of a head that differ in all that may differ between heads in bulk."""
    settings = {"epochs": 4, "augment": FLIP, **settings}
    sets: list[dict[str, Any]] = [
        {},
        {"cosine": CosineTrick()},
        {"label_smoothing": LabelSmoothingTrick(), "no_bias_decay": NoBiasDecayTrick()},
        {"warmup": WarmupTrick(epochs=1)},
        {"ema": EmaTrick()},
    ]
    return [
        *(two_steps(tricks, "head", **settings) for tricks in sets),
        two_steps(policy="head", **{**settings, "lr": 0.3}),
        two_steps(policy="head", **{**settings, "optimizer": OptimizerSpec(name="AdamW")}),
        two_steps(policy="head", seed=1, **settings),
        two_steps(policy="head", **{**settings, "epochs": 2}),
    ]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[Learner]:
    """The learners of steps that are taken by themselves."""
    taken: list[Learner] = []
    step = Learner.step

    def noted(self: Learner, *args: Any) -> Tensor:
        taken.append(self)
        return step(self, *args)

    monkeypatch.setattr(Learner, "step", noted)
    return taken


@pytest.mark.parametrize("settings", [{}, {"model": BOTTLENECKS}, {"batch_size": 5}], ids=["small", "bottlenecks", "5"])
def test_every_number_is_that_of_each_by_itself(settings: dict[str, Any], tmp_path: Path, alone: list[Learner]) -> None:
    trainings = heads(**settings)
    plain, _ = performed(trainings, tmp_path, reuse=False)
    assert alone
    alone.clear()
    together, _ = performed(trainings, tmp_path, reuse=True)
    assert not alone or len(set(alone)) == 1, "only the last of a group has nobody beside it"
    assert together == plain


def test_where_the_bits_are_others_each_takes_its_own_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: list[Learner]
) -> None:
    trainings = heads()
    plain, _ = performed(trainings, tmp_path, reuse=False)
    losses = bulk._losses

    def off_by_a_bit(*args: Any) -> Tensor:
        return torch.nextafter(losses(*args), torch.tensor(torch.inf))

    monkeypatch.setattr(bulk, "_losses", off_by_a_bit)
    alone.clear()
    assert performed(trainings, tmp_path, reuse=True)[0] == plain
    assert len(set(alone)) == len(trainings)


def test_a_gate_that_raises_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: list[Learner]) -> None:
    def raising(*_: Any) -> Tensor:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(bulk, "_losses", raising)
    found, _ = performed(heads()[:2], tmp_path, reuse=True)
    assert len(found) == len(set(alone)) == 2


def test_one_that_diverges_takes_none_with_it(tmp_path: Path) -> None:
    sound, other = heads()[:2]
    wild = replace(sound, train=sound.train.model_copy(update={"lr": 1e38}))
    plain, _ = performed([sound, other], tmp_path, reuse=False)
    records = [*perform(Job((sound, wild, other), tmp_path, reuse=tmp_path / "shared"), "cpu")]
    (failed,) = (record for record in records if isinstance(record, Failed))
    assert (failed.digest, failed.kind) == (wild.digest, "diverged")
    for training in (sound, other):
        (end,) = (r for r in records if isinstance(r, Finished) and r.digest == training.digest)
        assert end.weights_sha256 == plain[training.digest][-1][0]


def test_they_are_told_of_as_they_go_and_others_by_themselves(tmp_path: Path) -> None:
    one, other = heads()[:2]
    full = two_steps(policy="full", epochs=1)
    job = Job((one, full, other), tmp_path, reuse=tmp_path / "shared")
    told = [(type(record), record.digest) for record in perform(job, "cpu")]
    pair = (one.digest, other.digest)
    assert told == [
        *((Started, digest) for digest in pair),
        *((Epoch, digest) for _ in range(3) for digest in pair),
        *((kind, digest) for digest in pair for kind in (Epoch, Finished)),
        *((kind, full.digest) for kind in (Started, Epoch, Finished)),
    ]


def test_heads_with_dropout_before_them_draw_what_each_draws_by_itself(tmp_path: Path) -> None:
    """The gate refuses what is kept of such a network, so each trains to its end before the next one draws."""
    one = two_steps(policy="head", model=Model(name="mobilenet_v2"), epochs=2)
    trainings = [one, replace(one, train=one.train.model_copy(update={"lr": 0.01}))]
    assert performed(trainings, tmp_path, reuse=True)[0] == performed(trainings, tmp_path, reuse=False)[0]


class OnePass:
    """Images of which a new pass may begin only once the one before it is over, as of those that are streamed."""

    def __init__(self, images: Images) -> None:
        self._images, self._open = images, False
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self._images)

    def batches(self, rows: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels."""
        assert not self._open
        self._open = True
        yield from self._images.batches(rows, batch_size)
        self._open = False


def test_heads_on_streamed_images_train_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, streamed = Supplies.splits, dict[int, Splits]()

    def splits(self: Supplies, training: Training) -> Splits:
        made = shared(self, training)
        return streamed.setdefault(id(made), replace(made, train=OnePass(made.train)))

    monkeypatch.setattr(Supplies, "splits", splits)
    found, _ = performed(heads()[:3], tmp_path, reuse=True)
    assert len(found) == 3


@pytest.mark.parametrize(
    "training",
    [
        two_steps(policy="last_stage", augment=FLIP),
        two_steps({"mixup": MixupTrick()}, "head"),
        two_steps({"mixed_precision": MixedPrecisionTrick()}, "head"),
        two_steps(policy="head", accumulate=2),
        two_steps(policy="lp_ft", epochs=4),
    ],
    ids=["last_stage", "mixup", "mixed_precision", "accumulate", "lp_ft"],
)
def test_whatever_is_more_than_a_linear_head_takes_its_own_steps(
    training: Training, tmp_path: Path, alone: list[Learner]
) -> None:
    other = replace(training, train=training.train.model_copy(update={"lr": 0.01}))
    performed([training, other], tmp_path, reuse=True)
    assert len(set(alone)) == 2
