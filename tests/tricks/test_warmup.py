from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness import specfile
from harness.errors import HarnessError
from harness.plan import Plan
from harness.planning import make_plan
from harness.recipe import Recipe
from harness.spec import StepDecay
from harness.tricks.warmup import LinearWarmup, WarmupTrick
from tests.watching import PLAIN_SGD, two_steps, watch

PLAIN: dict[str, Any] = {"optimizer": PLAIN_SGD, "decay": StepDecay(milestones=())}


def test_factor_is_i_over_m_at_batch_i_of_the_first_m():
    """He et al. 2018, §3.1."""
    warmup = LinearWarmup(epochs=5)
    assert warmup.steps(steps_per_epoch=20) == 100
    assert [warmup(i - 1, 20) for i in (1, 2, 50, 99, 100, 101, 1000)] == [0.01, 0.02, 0.5, 0.99, 1.0, 1.0, 1.0]


def test_a_part_of_an_epoch_is_rounded_to_whole_batches():
    assert LinearWarmup(epochs=0.3).steps(steps_per_epoch=8) == 2
    assert [LinearWarmup(0.3)(step, 8) for step in range(3)] == [0.5, 1.0, 1.0]


def test_trick_adds_to_the_warmups_and_to_nothing_else():
    assert WarmupTrick()(Recipe()) == Recipe(warmups=(LinearWarmup(5.0),))


def test_the_first_step_of_a_training_is_one_mth_of_the_baselines(tmp_path):
    (base, *_), (first, *later) = (
        watch(two_steps(tricks, epochs=2, **PLAIN), tmp_path) for tricks in ({}, {"warmup": WarmupTrick(epochs=1)})
    )
    assert [first.lr, *(step.lr for step in later)] == pytest.approx([0.05 / 2, 0.05, 0.05, 0.05])
    for name in ("conv1.weight", "layer2.0.conv1.weight", "fc.bias"):
        whole, part = base.after[name] - base.before[name], first.after[name] - first.before[name]
        assert whole.abs().max() > 1e-4
        torch.testing.assert_close(part, whole / 2, rtol=1e-3, atol=1e-7)


@pytest.fixture
def plan_with(write_spec, workspace) -> Callable[..., Plan]:
    """A function that plans the tiny study, of two epochs of three steps, with texts replaced."""

    def make(*replacements: tuple[str, str]) -> Plan:
        return make_plan(specfile.read(write_spec(*replacements)), workspace)

    return make


def judged(plan: Plan, verdict: str) -> dict[str, str]:
    """Return the cells so judged, with the reason."""
    return {judgement.cell.name: judgement.reason for judgement in plan.judgements if judgement.verdict == verdict}


@pytest.mark.parametrize(("epochs", "steps"), [("2", 6), ("1.9", 6), ("3", 9)])
def test_it_is_invalid_where_it_leaves_nothing_of_the_training(epochs, steps, plan_with):
    plan = plan_with(("warmup: {epochs: 1}", f"warmup: {{epochs: {epochs}}}"))
    reason = f"a warmup of {steps} steps leaves nothing of a schedule of 6"
    assert judged(plan, "invalid") == {"full | warmup": reason, "head | warmup": reason}
    assert {replicate.cell.tricks for replicate in plan.replicates} == {(), ("mixup",)}


def steps_per_epoch(plan):
    return plan.replicates[0].data.train_size // plan.study.spec.train.batch_size


def test_one_step_after_it_is_enough(plan_with):
    plan = plan_with(("warmup: {epochs: 1}", "warmup: {epochs: 1.6}"))
    assert LinearWarmup(1.6).steps(steps_per_epoch(plan)) == 5
    assert judged(plan, "invalid") == {}


def test_it_is_invalid_under_a_policy_with_a_schedule_that_is_too_short_and_no_other(plan_with):
    phases = "[{trainable: [head]}, {start: 0.5, trainable: [all], restart_schedule: true}]"
    plan = plan_with(("policies: [full, head]", f"policies: {{full: , anew: {{phases: {phases}}}}}"))
    assert judged(plan, "invalid") == {"anew | warmup": "a warmup of 3 steps leaves nothing of a schedule of 3"}
    assert {replicate.cell.name for replicate in plan.replicates if replicate.cell.policy == "full"} == {
        "full | baseline",
        "full | warmup",
        "full | mixup",
    }


@pytest.mark.parametrize("epochs", ["0.1", "0.4"], ids=["no step", "one step"])
def test_a_warmup_of_one_step_or_none_is_the_training_without_it(epochs, plan_with):
    plan = plan_with(("warmup: {epochs: 1}", f"warmup: {{epochs: {epochs}}}"))
    shared = {
        policy: f"the same training as '{policy} | baseline', whose runs it shares" for policy in ("full", "head")
    }
    assert judged(plan, "noop") == {f"{policy} | warmup": reason for policy, reason in shared.items()}
    assert all(replicate.training.recipe.warmups == () for replicate in plan.replicates)


def test_a_warmup_of_two_steps_is_one(plan_with):
    plan = plan_with(("warmup: {epochs: 1}", "warmup: {epochs: 0.6}"))
    assert LinearWarmup(0.6).steps(steps_per_epoch(plan)) == 2
    assert judged(plan, "noop") == {}


def test_parameters_as_a_user_writes_them(read_trick):
    assert read_trick("warmup: ") == WarmupTrick(epochs=5.0)
    assert read_trick("warmup: {epochs: 2}") == WarmupTrick(epochs=2.0)
    assert read_trick("short: {trick: warmup, epochs: 0.5}") == WarmupTrick(epochs=0.5)


@pytest.mark.parametrize("value", ["0", "-1", ".nan", ".inf", "'1'", "true"])
def test_epochs_must_be_a_number_above_0(read_trick, value):
    with pytest.raises(HarnessError, match=r"tiny.yaml:10: tricks\.warmup\.epochs"):
        read_trick(f"warmup: {{epochs: {value}}}")


def test_unknown_parameters_are_refused(read_trick):
    with pytest.raises(HarnessError, match="unknown parameter of warmup 'epoch'; legal: epochs"):
        read_trick("warmup: {epoch: 1}")
