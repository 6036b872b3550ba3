"""The frozen prefix computed once: the same bits as the plain path, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from harness.freezing.policies import POLICIES
from harness.models import build, weights
from harness.models.cifar import CifarResNet
from harness.prefix import store
from harness.prefix.cut import Cut, cut_of
from harness.records import Epoch, Finished
from harness.spec import Augment, Model
from harness.supplies import Supplies
from harness.train import train
from harness.training import Training
from harness.tricks.cosine import CosineTrick
from harness.tricks.ema import EmaTrick
from harness.tricks.label_smoothing import LabelSmoothingTrick
from harness.tricks.mixed_precision import MixedPrecisionTrick
from harness.tricks.mixup import MixupTrick
from harness.tricks.trivial_augment import TrivialAugmentTrick
from harness.wording import NOTHING_FROZEN
from tests.watching import BOTTLENECKS, CPU, two_steps

FLIP = Augment(flip=True)


def numbers(training: Training, cache: Path, reuse: Path | None) -> tuple[Any, ...]:
    """Return every number of a training that does not measure time."""
    *epochs, end = train(training, Supplies(cache, CPU, reuse))
    assert isinstance(end, Finished)
    assert not end.notes
    curve = [(e.train_loss, e.val_top1) for e in epochs if isinstance(e, Epoch)]
    return curve, end.weights_sha256, end.test_top1, end.test_predictions.tolist(), end.changed


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Cut]:
    """The prefixes that are computed, as they are."""
    made: list[Cut] = []
    compute = store._compute

    def noted(need: store.Need) -> Any:
        made.append(need.cut)
        return compute(need)

    monkeypatch.setattr(store, "_compute", noted)
    return made


PLAIN: dict[str, Any] = {"epochs": 3}
FLIPPED: dict[str, Any] = {"epochs": 3, "augment": FLIP}


@pytest.mark.parametrize(
    ("policy", "tricks", "settings"),
    [
        ("head", {}, PLAIN),
        ("head", {}, FLIPPED),
        ("head", {"label_smoothing": LabelSmoothingTrick(), "cosine": CosineTrick()}, FLIPPED),
        ("head", {"ema": EmaTrick()}, FLIPPED),
        ("head", {"mixed_precision": MixedPrecisionTrick()}, FLIPPED),
        ("head", {}, {**FLIPPED, "accumulate": 2}),
        ("head", {}, {**PLAIN, "batch_size": 6}),
        ("last_stage", {}, FLIPPED),
        ("last_stage", {}, {**FLIPPED, "channels_last": True, "fused": True}),
        ("last_stage", {"ema": EmaTrick(), "mixed_precision": MixedPrecisionTrick()}, FLIPPED),
    ],
)
@pytest.mark.parametrize("model", [Model(name="cifar_resnet8"), BOTTLENECKS], ids=lambda model: model.name)
def test_every_number_is_that_of_the_plain_path(
    policy: str, tricks: dict[str, Any], settings: dict[str, Any], model: Model, tmp_path: Path, computed: list[Cut]
) -> None:
    training = two_steps(tricks, policy, model=model, **settings)
    plain = numbers(training, tmp_path, None)
    assert not computed
    assert numbers(training, tmp_path, tmp_path / "shared") == plain
    assert len(computed) == 1
    assert numbers(training, tmp_path, tmp_path / "shared") == plain
    assert len(computed) == 1, "the second finds it there"


def test_every_policy_gives_the_numbers_of_the_plain_path_or_is_refused(tmp_path: Path, computed: list[Cut]) -> None:
    """Those with several phases among them, and those that leave batch-norm statistics to the batches."""
    shared = []
    for name in POLICIES:
        try:
            training = two_steps(policy=name, epochs=3, augment=FLIP)
        except Exception:
            continue  # of another network
        if POLICIES[name].codes:
            continue
        before = len(computed)
        assert numbers(training, tmp_path, tmp_path / name) == numbers(training, tmp_path, None), name
        if len(computed) > before:
            shared.append(name)
    assert {"head", "last_stage"} <= set(shared)
    assert not {"full", "head_bn", "lp_ft"} & set(shared)


def test_tricks_rates_and_seeds_share_what_they_can(tmp_path: Path, computed: list[Cut]) -> None:
    """Random weights are those of a seed, so another seed has another prefix here."""
    one = two_steps(policy="head", epochs=1)
    others = [
        two_steps({"cosine": CosineTrick()}, "head", epochs=2),
        two_steps(policy="head", epochs=1, lr=0.01),
        two_steps({"label_smoothing": LabelSmoothingTrick()}, "head", epochs=1),
    ]
    for training in (one, *others):
        numbers(training, tmp_path, tmp_path / "shared")
    assert len(computed) == 1
    for training in (
        replace(one, seed=1),
        two_steps(policy="head", epochs=1, batch_size=4),
        two_steps(policy="head", epochs=1, augment=FLIP),
        two_steps({"mixed_precision": MixedPrecisionTrick()}, "head", epochs=1),
        two_steps(policy="head", epochs=1, channels_last=True),
    ):
        before = len(computed)
        numbers(training, tmp_path, tmp_path / "shared")
        assert len(computed) == before + 1


class Centred(nn.Module):
    """A layer whose output depends on what else is in the batch, in evaluation mode too."""

    def forward(self, images: Tensor) -> Tensor:
        return images - images.mean(0)


def test_a_network_whose_prefix_sees_the_batch_is_refused_and_trains_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def centred(depth: int, classes: int) -> nn.Module:
        module = CifarResNet(depth, classes)
        stem = module.get_submodule("bn1")
        stem.register_forward_hook(lambda _, __, made: Centred()(made))
        return module

    monkeypatch.setattr(build, "CifarResNet", centred)
    training = two_steps(policy="head", epochs=2)
    plain = numbers(training, tmp_path, None)
    for _ in range(2):  # found out, then remembered
        *_, end = train(training, Supplies(tmp_path, CPU, tmp_path / "shared"))
        assert isinstance(end, Finished)
        assert end.notes == (
            "its frozen part was computed at every step: in another batch the frozen part gives an image other bits",
        )
        assert end.weights_sha256 == plain[1]
    (refusal,) = (tmp_path / "shared").glob("*.refused")
    assert "other bits" in refusal.read_text()
    assert not list((tmp_path / "shared").glob("*.pt"))


class Skipping(CifarResNet):
    """A network whose head sees the stem too, past the module where the cut is."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + images.mean()


def test_a_network_that_leads_something_past_the_cut_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "CifarResNet", Skipping)
    training = two_steps(policy="head", epochs=1)
    *_, end = train(training, Supplies(tmp_path, CPU, tmp_path / "shared"))
    assert isinstance(end, Finished)
    assert "computed at every step" in end.notes[0]


def test_what_cannot_be_written_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    training = two_steps(policy="head", epochs=1)
    plain = numbers(training, tmp_path, None)
    monkeypatch.setattr(weights, "save", full)
    *_, end = train(training, Supplies(tmp_path, CPU, tmp_path / "shared"))
    assert isinstance(end, Finished)
    assert "No space left" in end.notes[0]
    assert end.weights_sha256 == plain[1]


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_SHARE_OF_MEMORY", 1e-9)
    *_, end = train(two_steps(policy="head", epochs=1), Supplies(tmp_path, CPU, tmp_path / "shared"))
    assert isinstance(end, Finished)
    assert "of this machine's memory" in end.notes[0]


Change = Callable[[], Training]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: two_steps(policy="full"), NOTHING_FROZEN),
        (lambda: two_steps(policy="head_bn"), NOTHING_FROZEN),
        (lambda: two_steps(policy="head", augment=Augment(crop_padding=1)), "crops"),
        (lambda: two_steps(policy="head", augment=Augment(resized_crop=True)), "crops"),
        (lambda: two_steps(policy="head", augment=Augment(color_jitter=0.4)), "colours"),
        (lambda: two_steps({"trivial_augment": TrivialAugmentTrick()}, "head"), "augmentation"),
        (lambda: two_steps({"mixup": MixupTrick()}, "head"), "mixed"),
        (lambda: two_steps(policy="head", accumulate=3), "parts of several sizes"),
        (lambda: replace(two_steps(policy="head"), diagnose=True), "inspected"),
        (lambda: two_steps(policy="head", compile="default"), "compiled as a whole"),
        (lambda: two_steps(policy="head", model=Model(name="cifar_resnet8", head="fcn")), "maps of several stages"),
    ],
)
def test_refusals_have_a_reason(make: Change, why: str) -> None:
    reason = cut_of(make())
    assert isinstance(reason, str)
    assert why in reason


def test_the_cut_is_as_late_as_it_can_be() -> None:
    head = cut_of(two_steps(policy="head"))
    last = cut_of(two_steps(policy="last_stage"))
    assert isinstance(head, Cut)
    assert isinstance(last, Cut)
    assert (head.stages, head.entry) == (("stem", "stage1", "stage2", "stage3"), "fc")
    assert (last.stages, last.entry) == (("stem", "stage1", "stage2"), "layer3")
