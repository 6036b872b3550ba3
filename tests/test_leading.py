"""Leading epochs that are trained once: which they are, and that no bit differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from harness.checkpoint import Checkpoint
from harness.freezing.policies import POLICIES
from harness.leading import Leads, family, leaders, shared_epochs
from harness.learner import Learner
from harness.recipe import Recipe
from harness.records import Epoch
from harness.spec import Augment, StepDecay
from harness.training import Training
from harness.tricks.cosine import CosineTrick
from harness.tricks.ema import EmaTrick
from harness.tricks.label_smoothing import LabelSmoothingTrick
from harness.tricks.warmup import WarmupTrick
from tests.watching import performed, two_steps

EPOCHS = 10
STEPS = 2


def of(policy: str, tricks: dict[str, Any] | None = None, **settings: Any) -> Training:
    return two_steps(tricks or {}, policy, **{"epochs": EPOCHS, "augment": Augment(flip=True), **settings})


CONSTANT: dict[str, Any] = {"decay": StepDecay(factor=1.0)}


@pytest.mark.parametrize(
    ("one", "other", "epochs"),
    [
        (of("full"), of("bn_frozen_at_end"), 8),  # phases differ from 0.8 on
        (of("lp_ft"), of("head_then_last_2"), 5),  # from 0.5 on, and so do restarts
        (of("head"), of("gradual"), 2),  # from 0.2 on
        (of("head"), of("lp_ft"), 1),  # a schedule of 5 epochs falls after 1.25 of them
        (of("head", **CONSTANT), of("lp_ft", **CONSTANT), 5),
        (of("head", {"cosine": CosineTrick()}), of("lp_ft", {"cosine": CosineTrick()}), 0),
        (of("head"), of("head", lr=0.3), 0),
        (of("head", **CONSTANT), of("head", epochs=4, **CONSTANT), 4),
        (of("full"), of("head"), 0),
        (of("head", {"warmup": WarmupTrick(epochs=1)}), of("head"), 0),
    ],
)
def test_epochs_in_common_are_those_before_anything_differs(one: Training, other: Training, epochs: int) -> None:
    assert family(one) == family(other)
    assert shared_epochs(one, other, STEPS) == shared_epochs(other, one, STEPS) == epochs


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (of("head"), of("lp_ft", seed=1)),
        (of("head"), of("lp_ft", {"label_smoothing": LabelSmoothingTrick()})),
        (of("head", {"ema": EmaTrick()}), of("lp_ft", {"ema": EmaTrick()})),  # an average over other parameters
        (of("head"), of("lp_ft", batch_size=4)),
        (of("head"), replace(of("lp_ft"), classes=7)),
        (of("head"), replace(of("lp_ft"), data_content="other files")),
    ],
)
def test_what_differs_at_every_step_is_of_another_family(one: Training, other: Training) -> None:
    assert family(one) != family(other)


def test_a_family_forgets_nothing_but_time() -> None:
    """A new field of a training or a recipe must be thought of: it is in the family unless it is named here."""
    one = of("head")
    assert family(one) == family(replace(one, diagnose=True, save_to="elsewhere"))
    for name, value in {"classes": 9, "kept_classes": 4, "head": ("x",), "seed": 3}.items():
        assert family(one) != family(replace(one, **{name: cast("Any", value)})), name
    timeless = {"warmups", "decay"}
    for name in set(vars(Recipe())) - timeless:
        marked = replace(one, recipe=replace(one.recipe, **{name: cast("Any", ("marked",))}))
        assert family(one) != family(marked), name


def test_each_goes_on_from_the_first_that_has_most_in_common() -> None:
    names = ("head", "gradual", "lp_ft", "head_then_last_2", "full", "bn_frozen_at_end")
    trainings = {name: of(name) for name in names}
    found = {
        next(n for n, t in trainings.items() if t.digest == digest): (
            next(n for n, t in trainings.items() if t.digest == leader),
            epochs,
        )
        for digest, (leader, epochs) in leaders([*trainings.values()], STEPS).items()
    }
    assert found == {
        "gradual": ("head", 2),
        "lp_ft": ("head", 1),
        "head_then_last_2": ("lp_ft", 5),
        "bn_frozen_at_end": ("full", 8),
    }


@pytest.mark.parametrize("tricks", [{}, {"ema": EmaTrick()}, {"cosine": CosineTrick()}], ids=lambda t: "".join(t))
def test_every_number_is_that_of_a_training_by_itself(tricks: dict[str, Any], tmp_path: Path) -> None:
    """Over all policies, with frozen stages computed once among them: a leader may have them and its follower not."""
    trainings = []
    for name, policy in POLICIES.items():
        try:
            trainings += [] if policy.codes else [of(name, tricks)]
        except Exception:
            continue  # of another network
    plain, nobody = performed(trainings, tmp_path, reuse=False)
    shared, led = performed(trainings, tmp_path, reuse=True)
    assert not nobody
    assert len(led) >= 2
    assert shared == plain


def test_the_leading_epochs_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    step = Learner.step

    def counted(self: Learner, *args: Any) -> Any:
        steps.append(self)
        return step(self, *args)

    monkeypatch.setattr(Learner, "step", counted)
    trainings = [of("full"), of("bn_frozen_at_end"), of("lp_ft"), of("head_then_last_2")]
    found, led = performed(trainings, tmp_path, reuse=True)
    per_epoch = found[trainings[0].digest][0][1]
    assert led == {trainings[1].digest: trainings[0].digest, trainings[3].digest: trainings[2].digest}
    assert len(steps) == per_epoch * (10 + 2 + 10 + 5)


def test_who_finds_nothing_of_its_leader_begins_by_itself() -> None:
    """A leader that went on from a checkpoint of its own beyond the common epochs has kept nothing of them."""
    full, frozen = of("full"), of("bn_frozen_at_end")

    def after(epoch: int) -> Checkpoint:
        record = Epoch(full.digest, 0, epoch, epoch * STEPS, 0.0, {"top1": 0.0})
        return Checkpoint({}, 0, {}, [], (record,), 0.0)

    for epochs, found in ([9, 10], False), ([7, 8, 9], True):
        leads = Leads([full, frozen])
        assert leads.of(full) is None
        for epoch in epochs:
            leads.keep(full, after(epoch))
        lead = leads.of(frozen)
        assert (lead is not None) == found
        assert lead is None or (lead.digest, lead.checkpoint.epoch) == (full.digest, 8)
        assert lead is None or {record.digest for record in lead.checkpoint.epochs} == {frozen.digest}
        assert leads.of(frozen) is None, "it is handed out once, and not kept any longer"


def test_leaders_are_those_that_ran_before_whatever_stands_first_in_the_job(tmp_path: Path) -> None:
    """Heads are trained side by side, so the second is earlier than its job has it, and leads what stood before it."""
    smooth = {"label_smoothing": LabelSmoothingTrick()}
    sets: tuple[dict[str, Any], ...] = ({}, smooth)
    lp_ft, head, other_lp_ft, other_head = (of(name, s, **CONSTANT) for s in sets for name in ("lp_ft", "head"))
    trainings = [lp_ft, head, other_lp_ft, other_head]
    found, led = performed(trainings, tmp_path, reuse=True)
    assert led == {head.digest: lp_ft.digest, other_lp_ft.digest: other_head.digest}
    assert found == performed(trainings, tmp_path, reuse=False)[0]
