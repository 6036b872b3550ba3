"""The frozen prefix computed once: the same bits as the plain path, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.checkpoint import Checkpoint
from harness.errors import HarnessError
from harness.freezing.policies import POLICIES
from harness.freezing.resolve import Group, ResolvedPhase
from harness.leading import _copy
from harness.models import build, weights
from harness.models.cifar import CifarResNet
from harness.prefix import kept as what_is_kept
from harness.prefix import store
from harness.prefix.cut import cuts_of, endless_views, refusal
from harness.records import Diagnosed, Epoch, Finished
from harness.spec import Augment, Model
from harness.supplies import Supplies
from harness.train import train
from harness.training import Origin, Teacher, Training
from harness.tricks.cosine import CosineTrick
from harness.tricks.distillation import DistillationTrick
from harness.tricks.ema import EmaTrick
from harness.tricks.label_smoothing import LabelSmoothingTrick
from harness.tricks.mixed_precision import MixedPrecisionTrick
from harness.tricks.mixup import MixupTrick
from harness.tricks.trivial_augment import TrivialAugmentTrick
from harness.wording import NOTHING_FROZEN
from tests.samples import predicted
from tests.watching import BOTTLENECKS, CPU, two_steps

FLIP = Augment(flip=True)


def numbers(training: Training, cache: Path, reuse: Path | None) -> tuple[Any, ...]:
    """Return every number of a training that does not measure time."""
    *epochs, end = train(training, Supplies(cache, CPU, reuse))
    assert isinstance(end, Finished)
    assert not end.notes
    curve = [(e.train_loss, e.val) for e in epochs if isinstance(e, Epoch)]
    return curve, end.weights_sha256, end.test, predicted(end)[0].tolist(), end.changed


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is computed to be kept, as it is: each set of tensors by its names."""
    made: list[str] = []
    kept = what_is_kept.kept  # type: ignore[attr-defined]

    def noted(wanted: store.Wanted, folder: Path) -> dict[str, Tensor]:
        def compute() -> dict[str, Tensor]:
            tensors = wanted.compute()
            made.append(" and ".join(tensors))
            return tensors

        return kept(replace(wanted, compute=compute), folder)

    monkeypatch.setattr(what_is_kept, "kept", noted)
    return made


PLAIN: dict[str, Any] = {"epochs": 3}
FLIPPED: dict[str, Any] = {"epochs": 3, "augment": FLIP}
CROPPED: dict[str, Any] = {"epochs": 3, "augment": Augment(crop_padding=1)}
BOTH = ["val and test", "views"]


@pytest.mark.parametrize(
    ("policy", "tricks", "settings", "kept"),
    [
        ("head", {}, PLAIN, BOTH),
        ("head", {}, FLIPPED, BOTH),
        ("head", {"label_smoothing": LabelSmoothingTrick(), "cosine": CosineTrick()}, FLIPPED, BOTH),
        ("head", {"ema": EmaTrick()}, FLIPPED, BOTH),
        ("head", {"mixed_precision": MixedPrecisionTrick()}, FLIPPED, BOTH),
        ("head", {}, {**FLIPPED, "accumulate": 2}, BOTH),
        ("head", {}, {**PLAIN, "batch_size": 6}, BOTH),
        ("last_stage", {}, FLIPPED, BOTH),
        ("last_stage", {}, {**FLIPPED, "channels_last": True, "fused": True}, BOTH),
        ("last_stage", {"ema": EmaTrick(), "mixed_precision": MixedPrecisionTrick()}, FLIPPED, BOTH),
        # Views without end: only evaluation is of images seen before.
        ("head", {}, CROPPED, ["val and test"]),
        ("last_stage", {"mixup": MixupTrick()}, FLIPPED, ["val and test"]),
        ("last_stage", {"ema": EmaTrick(), "trivial_augment": TrivialAugmentTrick()}, PLAIN, ["val and test"]),
        # Phases: each begins where nothing has moved so far, the last of these at the images.
        ("lp_ft", {}, FLIPPED, BOTH),
        ("lp_ft", {"ema": EmaTrick(), "mixed_precision": MixedPrecisionTrick()}, FLIPPED, BOTH),
        ("lp_ft", {"mixup": MixupTrick()}, PLAIN, ["val and test"]),
    ],
)
@pytest.mark.parametrize("model", [Model(name="cifar_resnet8"), BOTTLENECKS], ids=lambda model: model.name)
def test_every_number_is_that_of_the_plain_path(
    policy: str,
    tricks: dict[str, Any],
    settings: dict[str, Any],
    kept: list[str],
    model: Model,
    tmp_path: Path,
    computed: list[str],
) -> None:
    training = two_steps(tricks, policy, model=model, **settings)
    plain = numbers(training, tmp_path, None)
    assert not computed
    for _ in range(2):  # the second finds it there
        assert numbers(training, tmp_path, tmp_path / "shared") == plain
        assert sorted(computed) == kept


def test_every_policy_gives_the_numbers_of_the_plain_path(tmp_path: Path, computed: list[str]) -> None:
    """Those with several phases among them, and those that leave batch-norm statistics to the batches."""
    shared = []
    for name in POLICIES:
        try:
            training = two_steps(policy=name, epochs=3, augment=FLIP)
        except HarnessError:
            continue  # of another network
        if POLICIES[name].codes:
            continue
        before = len(computed)
        assert numbers(training, tmp_path, tmp_path / name) == numbers(training, tmp_path, None), name
        if len(computed) > before:
            shared.append(name)
    assert {"head", "last_stage", "lp_ft", "head_then_last_2"} <= set(shared)
    assert not {"full", "head_bn", "surgical_first", "bn_frozen_at_end"} & set(shared)


def test_phases_thaw_stage_by_stage(tmp_path: Path, computed: list[str]) -> None:
    """The cut moves towards the images, in the middle of an epoch too, and never back."""
    gradual = two_steps(policy="gradual", epochs=5, augment=FLIP)
    assert [cut and cut.entry for cut in cuts_of(gradual)] == ["fc", "layer3", "layer2", "layer1", None]
    assert numbers(gradual, tmp_path, tmp_path / "shared") == numbers(gradual, tmp_path, None)
    assert sorted(computed) == 4 * ["val and test"] + 4 * ["views"]
    later = replace(gradual, phases=(gradual.phases[0], replace(gradual.phases[1], start=0.3)))
    assert numbers(later, tmp_path, tmp_path / "shared") == numbers(later, tmp_path, None)
    back = replace(gradual, phases=(replace(gradual.phases[1], start=0.0), replace(gradual.phases[0], start=0.5)))
    assert [cut and cut.entry for cut in cuts_of(back)] == ["layer3", "layer3"], "what has moved is not what it was"
    assert numbers(back, tmp_path, tmp_path / "shared") == numbers(back, tmp_path, None)
    assert len(computed) == 8


def test_a_later_cut_begins_at_an_earlier_one(tmp_path: Path) -> None:
    operations = {}
    for folder, first in (("alone", "head"), ("after", "last_stage")):
        for policy in dict.fromkeys((first, "head")):
            with FlopCounterMode(display=False) as counter:
                found = numbers(two_steps(policy=policy, epochs=1), tmp_path, tmp_path / folder)
        operations[folder] = counter.get_total_flops()
        assert found == numbers(two_steps(policy="head", epochs=1), tmp_path, None)
    assert operations["after"] < 0.8 * operations["alone"]


def test_a_training_that_goes_on_in_a_later_phase_keeps_nothing_for_those_before(
    tmp_path: Path, computed: list[str]
) -> None:
    training, saved = two_steps(policy="lp_ft", epochs=4), list[Checkpoint]()

    def keep(checkpoint: Checkpoint) -> None:
        saved.append(_copy(checkpoint))

    *_, end = train(training, Supplies(tmp_path, CPU), keep)
    assert isinstance(end, Finished)
    for at, more in ((2, []), (0, BOTH)):  # in the last phase, and in the one before
        *_, again = train(training, Supplies(tmp_path, CPU, tmp_path / "shared"), saved=_copy(saved[at]))
        assert isinstance(again, Finished)
        assert again.weights_sha256 == end.weights_sha256
        assert sorted(computed) == more


def teacher_at(path: Path, seed: int) -> Teacher:
    model = Model(name="cifar_resnet20")
    weights.save(build.build_model(model, 2, seed).state_dict(), path)
    return Teacher(model, Origin(f"teacher {seed}", str(path)))


@pytest.mark.parametrize(
    ("policy", "settings", "tricks", "kept"),
    [
        ("full", FLIPPED, {}, ["views"]),
        ("last_stage", FLIPPED, {}, ["views", *BOTH]),
        ("head", {**FLIPPED, "accumulate": 2}, {"mixed_precision": MixedPrecisionTrick()}, ["views", *BOTH]),
        ("lp_ft", PLAIN, {"ema": EmaTrick()}, ["views", *BOTH]),
        ("head", FLIPPED, {"mixup": MixupTrick()}, ["val and test"]),
    ],
)
def test_a_teacher_is_asked_once_for_each_view(
    policy: str, settings: dict[str, Any], tricks: dict[str, Any], kept: list[str], tmp_path: Path, computed: list[str]
) -> None:
    training = two_steps({"distillation": DistillationTrick(), **tricks}, policy, **settings)
    training = replace(training, teacher=teacher_at(tmp_path / "teacher.pt", 9))
    plain = numbers(training, tmp_path, None)
    for _ in range(2):
        assert numbers(training, tmp_path, tmp_path / "shared") == plain
        assert sorted(computed) == sorted(kept)


def test_each_teacher_has_views_of_its_own(tmp_path: Path, computed: list[str]) -> None:
    training = two_steps({"distillation": DistillationTrick()}, "full", epochs=1)
    for seed in (9, 10):
        taught = replace(training, teacher=teacher_at(tmp_path / f"{seed}.pt", seed))
        assert numbers(taught, tmp_path, tmp_path / "shared") == numbers(taught, tmp_path, None)
    assert computed == ["views", "views"]


def test_a_network_is_inspected_as_it_is(tmp_path: Path, computed: list[str]) -> None:
    training = replace(two_steps(policy="last_stage"), diagnose=True)
    one, other = ([*train(training, Supplies(tmp_path, CPU, place))][-2] for place in (None, tmp_path / "shared"))
    assert isinstance(one, Diagnosed)
    assert isinstance(other, Diagnosed)
    assert one.figures == other.figures
    assert sorted(computed) == BOTH


def test_tricks_rates_and_seeds_share_what_they_can(tmp_path: Path, computed: list[str]) -> None:
    """Random weights are those of a seed, so another seed has another prefix here."""
    one = two_steps(policy="head", epochs=1)
    others = [
        two_steps({"cosine": CosineTrick()}, "head", epochs=2),
        two_steps(policy="head", epochs=1, lr=0.01),
        two_steps({"label_smoothing": LabelSmoothingTrick()}, "head", epochs=1),
        two_steps({"mixup": MixupTrick()}, "head", epochs=1),
        two_steps(policy="lp_ft", epochs=2),
    ]
    for training in (one, *others):
        numbers(training, tmp_path, tmp_path / "shared")
    assert sorted(computed) == BOTH
    for training, more in (
        (replace(one, seed=1), BOTH),
        (two_steps(policy="head", epochs=1, batch_size=4), ["views"]),
        (two_steps(policy="head", epochs=1, augment=FLIP), ["views"]),
        (two_steps({"mixed_precision": MixedPrecisionTrick()}, "head", epochs=1), ["views"]),
        (two_steps(policy="head", epochs=1, channels_last=True), BOTH),
    ):
        computed.clear()
        numbers(training, tmp_path, tmp_path / "shared")
        assert sorted(computed) == more


def test_a_teacher_is_known_by_its_weights(tmp_path: Path) -> None:
    """A digest of how it was trained does not fix its bits on every machine."""
    training = two_steps({"distillation": DistillationTrick()}, "full", epochs=1)
    for seed in (9, 10):
        teacher = teacher_at(tmp_path / "teacher.pt", seed)
        taught = replace(training, teacher=replace(teacher, origin=replace(teacher.origin, content="the same")))
        assert numbers(taught, tmp_path, tmp_path / "shared") == numbers(taught, tmp_path, None)


def test_a_teacher_that_is_all_head_sees_the_images(tmp_path: Path) -> None:
    teacher = teacher_at(tmp_path / "teacher.pt", 9)
    whole = teacher.model.model_copy(update={"stages": (("head", ("conv1", "bn1", "layer?", "fc")),)})
    training = two_steps({"distillation": DistillationTrick()}, "full", epochs=1)
    taught = replace(training, teacher=replace(teacher, model=whole))
    assert numbers(taught, tmp_path, tmp_path / "shared") == numbers(taught, tmp_path, None)


class Layers(nn.Module):
    """A network with dropout in front of its second layer, and an activation that works in place."""

    def __init__(self, classes: int, shifted: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.Dropout(), nn.SiLU(inplace=True), nn.Linear(8, 8), nn.Linear(8, classes)
        )
        self.shift = nn.Parameter(torch.zeros(4)) if shifted else None

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to logits [N, classes]."""
        made = self.features(images)
        return self.layers(made if self.shift is None else made + self.shift)  # type: ignore[no-any-return]


def layers(
    monkeypatch: pytest.MonkeyPatch, learning: Sequence[Sequence[str]], second: tuple[str, ...], shifted: bool = False
) -> Training:
    """Return a training of it, in which some of its stages `first`, `second` and `head` learn in each phase."""
    construct = build._construct

    def constructed(model: Model, classes: int) -> nn.Module:
        return Layers(classes, shifted) if model.name == "vgg11" else construct(model, classes)

    monkeypatch.setattr(build, "_construct", constructed)
    first = ("features", "layers.0", *(["shift"] if shifted else []))
    model = Model(name="vgg11", stages=(("first", first), ("second", second), ("head", ("layers.4",))))
    layout = build.layout_of(model, 2)
    phases = []
    for number, stages in enumerate(learning):
        names = tuple(name for name, _ in layout.parameters if layout.stage(name) in stages)
        phases.append(ResolvedPhase(number / len(learning), (Group(names, 0.0, 1.0),), (), False))
    return replace(two_steps(epochs=4, lr=0.5), model=model, head=("layers.4",), phases=tuple(phases))


def both_ways(training: Training, folder: Path) -> tuple[str, ...]:
    """Require the numbers of the plain path; return the notes."""
    *epochs, end = train(training, Supplies(folder, CPU))
    *again, shared = train(training, Supplies(folder, CPU, folder / "shared"))
    assert isinstance(end, Finished)
    assert isinstance(shared, Finished)
    curves = [[(e.train_loss, e.val) for e in records if isinstance(e, Epoch)] for records in (epochs, again)]
    assert curves[0] == curves[1]
    assert (end.weights_sha256, end.test) == (shared.weights_sha256, shared.test)
    return shared.notes


def test_what_drops_in_front_of_the_cut_is_another_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cut, with dropout on where the second layer learns and off where the head does: none serves the other."""
    second = ("layers.3",)
    assert both_ways(layers(monkeypatch, [("head",)], second), tmp_path) == ()
    (note,) = both_ways(layers(monkeypatch, [("second", "head"), ("head",)], second), tmp_path)
    assert "other bits" in note
    assert both_ways(layers(monkeypatch, [("second", "head")], second), tmp_path) == (note,)
    assert both_ways(layers(monkeypatch, [("head",)], second), tmp_path) == ()


def test_what_works_in_place_leaves_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = layers(monkeypatch, [("second", "head")], ("layers.1", "layers.2", "layers.3"))
    assert both_ways(training, tmp_path) == ()


def test_a_network_that_cannot_be_cut_is_found_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[str]
) -> None:
    """Its frozen stage has a parameter of its own, which hands nothing on."""
    training = layers(monkeypatch, [("head",)], ("layers.3",), shifted=True)
    for _ in range(2):
        notes = both_ways(training, tmp_path)
        assert len(notes) == 2, "for training and for evaluation"
        assert all("cannot begin at layers.4: AttributeError" in note for note in notes)
        assert len([*(tmp_path / "shared").glob("*.refused")]) == 2
    assert not computed


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
        assert end.test_predictions is not None
        assert end.test_predictions.tolist() == plain[3], "evaluated batches are always the same"
    (refused,) = (tmp_path / "shared").glob("*.refused")
    assert "other bits" in refused.read_text()
    (kept,) = (tmp_path / "shared").glob("*.pt")
    assert set(store.load(kept)) == {"val", "test"}


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
        (lambda: two_steps(policy="head", compile="default"), "compiled as a whole"),
        (lambda: two_steps(policy="head", model=Model(name="cifar_resnet8", head="fcn")), "maps of several stages"),
    ],
)
def test_refusals_have_a_reason(make: Change, why: str) -> None:
    assert why in refusal(make(), cuts_of(make()))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: two_steps(policy="head", augment=Augment(crop_padding=1)), "crops"),
        (lambda: two_steps(policy="head", augment=Augment(resized_crop=True)), "crops"),
        (lambda: two_steps(policy="head", augment=Augment(color_jitter=0.4)), "colours"),
        (lambda: two_steps({"trivial_augment": TrivialAugmentTrick()}, "head"), "augmentation"),
        (lambda: two_steps({"mixup": MixupTrick()}, "head"), "mixed"),
        (lambda: two_steps(policy="head", accumulate=3), "parts of several sizes"),
    ],
)
def test_views_without_end_have_a_reason(make: Change, why: str) -> None:
    assert why in endless_views(make())
    assert not refusal(make(), cuts_of(make())), "what is evaluated is still computed once"


def test_the_cut_is_as_late_as_it_can_be() -> None:
    (head,), (last,) = (cuts_of(two_steps(policy=policy)) for policy in ("head", "last_stage"))
    assert head
    assert last
    assert (head.stages, head.entry) == (("stem", "stage1", "stage2", "stage3"), "fc")
    assert (last.stages, last.entry) == (("stem", "stage1", "stage2"), "layer3")
