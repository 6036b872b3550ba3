import io
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.freezing.resolve import Group
from harness.learner import Learner, initial_model
from harness.prefix.batch import Batch
from harness.recipe import Recipe
from harness.spec import OptimizerSpec
from harness.training import Training
from harness.tricks.ema import WarmAverage
from harness.tricks.mixed_precision import HalfPrecision
from tests.watching import CPU, PLAIN_SGD, State, changed, copy_of, two_steps

IMAGES, TARGETS = torch.rand(4, 3, 8, 8), torch.eye(2)[[0, 1, 0, 1]]


def test_a_step_is_sgd_at_the_rate_of_each_group():
    training = two_steps(optimizer=PLAIN_SGD, weight_decay=0.0)
    (phase,) = two_steps(policy="head").phases
    slow = replace(phase, groups=(Group(("fc.weight",), 0.0, 1.0), Group(("fc.bias",), 0.0, 0.1)))
    learner = Learner(initial_model(training, CPU), training, slow)
    before = copy_of(learner.module.state_dict())
    features: list[torch.Tensor] = []
    learner.module.get_submodule("fc").register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))

    loss = learner.step(Batch(IMAGES, TARGETS), lr=0.5)

    (codes,) = features
    probabilities = F.softmax(codes @ before["fc.weight"].T + before["fc.bias"], dim=1)
    torch.testing.assert_close(loss, -(TARGETS * probabilities.log()).sum(1).mean())
    error = (probabilities - TARGETS) / 4
    after = learner.module.state_dict()
    torch.testing.assert_close(after["fc.weight"], before["fc.weight"] - 0.5 * error.T @ codes)
    torch.testing.assert_close(after["fc.bias"], before["fc.bias"] - 0.05 * error.sum(0))
    assert not loss.requires_grad
    # What is frozen has no gradient that could move it; what learns keeps its last one, for the check of the phase.
    gradients = {name: parameter.grad for name, parameter in learner.module.named_parameters()}
    assert {name for name, gradient in gradients.items() if gradient is not None} == {"fc.weight", "fc.bias"}
    torch.testing.assert_close(gradients["fc.bias"], error.sum(0))


def test_each_step_has_a_gradient_of_its_own():
    training = two_steps(optimizer=PLAIN_SGD)
    learner = Learner(initial_model(training, CPU), training)
    bias, head = learner.module.get_parameter("fc.bias"), learner.module.get_submodule("fc")
    logits: list[Tensor] = []
    head.register_forward_hook(lambda _, __, output: logits.append(output.detach()))
    for _ in range(3):
        before = bias.detach().clone()
        learner.step(Batch(IMAGES, TARGETS), lr=0.5)
        gradient = (F.softmax(logits[-1], dim=1) - TARGETS).mean(0)
        torch.testing.assert_close(bias.detach(), before - 0.5 * (gradient + 1e-4 * before))
        torch.testing.assert_close(bias.grad, gradient)
    learner.enter(learner.phase)
    assert all(parameter.grad is None for parameter in learner.module.parameters())


def test_a_group_remembers_the_highest_rate_of_its_phase():
    (phase,) = two_steps(policy="head").phases
    slow = replace(phase, groups=tuple(replace(group, lr_factor=0.1) for group in phase.groups))
    learner = Learner(initial_model(two_steps(), CPU), two_steps(), slow)
    peaks = [group["peak_lr"] for group in learner.optimizer.param_groups]
    for lr in (0.1, 0.5, 0.2):
        learner.step(Batch(IMAGES, TARGETS), lr)
        peaks += [group["peak_lr"] for group in learner.optimizer.param_groups]
    assert peaks == pytest.approx([0.0, 0.01, 0.05, 0.05])
    learner.enter(phase)
    assert [group["peak_lr"] for group in learner.optimizer.param_groups] == [0.0]


class Float16:
    """What mixed precision is on CUDA, on a CPU."""

    def dtype(self, device_type: str) -> torch.dtype:  # noqa: ARG002
        return torch.float16


def dropping(training: Training) -> Learner:
    """Begin a training whose images go through dropout, so that each step draws."""
    learner = Learner(initial_model(training, CPU), training)
    learner.module.register_forward_pre_hook(lambda _, inputs: (F.dropout(inputs[0], 0.2),))
    return learner


def everything(learner: Learner) -> State:
    """Return the tensors of network, average, optimizer and loss scale under a name each."""
    state = learner.state()
    found = {f"module.{name}": tensor for name, tensor in state["module"].items()}
    found |= {f"evaluated.{name}": tensor for name, tensor in learner.evaluated.state_dict().items()}
    for index, kept in state["optimizer"]["state"].items():
        found |= {f"{index}.{key}": value for key, value in kept.items() if isinstance(value, Tensor)}
    return copy_of(found | {name: torch.tensor(value) for name, value in state["scaler"].items()})


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("precision", [None, HalfPrecision(), Float16()], ids=["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("average", [None, WarmAverage(0.9998)], ids=["last", "average"])
def test_a_restored_learner_goes_on_bit_for_bit(optimizer, precision, average):
    training = two_steps(optimizer=OptimizerSpec(name=optimizer))
    training = replace(training, recipe=Recipe(precision=precision, average=average))

    def go_on(learner: Learner) -> State:
        for lr in (0.04, 0.03):
            learner.step(Batch(IMAGES, TARGETS), lr)
        return everything(learner)

    learner, file = dropping(training), io.BytesIO()
    for lr in (0.01, 0.05, 0.05):
        learner.step(Batch(IMAGES, TARGETS), lr)
    torch.save(learner.state(), file)
    before, after = everything(learner), go_on(learner)
    assert changed(before, after) >= {"module.conv1.weight", "evaluated.bn1.running_mean"}

    file.seek(0)
    restored = dropping(training)
    restored.restore(torch.load(file, weights_only=True))
    assert not changed(before, everything(restored))
    assert not changed(after, go_on(restored))
    assert {group["peak_lr"] for group in restored.optimizer.param_groups} == {0.05}


def test_a_learner_restored_into_a_later_phase_goes_on_bit_for_bit():
    head, full = two_steps(policy="head").phases[0], two_steps().phases[0]
    training = replace(two_steps(), phases=(head, replace(full, start=0.5)), recipe=Recipe(average=WarmAverage(0.9998)))
    learner = dropping(training)
    learner.step(Batch(IMAGES, TARGETS), 0.05)
    learner.enter(training.phases[1])
    learner.step(Batch(IMAGES, TARGETS), 0.05)
    state = deepcopy(learner.state())
    learner.step(Batch(IMAGES, TARGETS), 0.05)

    restored = dropping(training)
    restored.enter(training.phases[1])
    restored.restore(state)
    restored.step(Batch(IMAGES, TARGETS), 0.05)
    assert not changed(everything(learner), everything(restored))


def test_a_step_whose_gradients_overflow_is_skipped_and_its_scale_halved():
    """A loss 10,000 times as large does not fit float16 at a scale of 65,536."""
    training = replace(two_steps(optimizer=OptimizerSpec(name="AdamW")), recipe=Recipe(precision=Float16()))
    learner = Learner(initial_model(training, CPU), training)
    parameters = {name for name, _ in learner.module.named_parameters()}
    learner.step(Batch(IMAGES, TARGETS), 0.01)
    before = everything(learner)
    loss = learner.step(Batch(IMAGES, 1e4 * TARGETS), 0.01)
    skipped = everything(learner)
    assert loss.isfinite()
    moved = {name for name in changed(before, skipped) if name.startswith("module.")}
    assert all("running" in name or "num_batches" in name for name in moved)
    assert not any(name.endswith((".step", ".exp_avg")) for name in changed(before, skipped))
    assert [before["scale"].item(), skipped["scale"].item()] == [65536.0, 32768.0]
    learner.step(Batch(IMAGES, TARGETS), 0.01)
    assert {f"module.{name}" for name in parameters} <= changed(skipped, everything(learner))


@pytest.mark.parametrize("policy", ["full", "full_bn_frozen", "head", "head_bn"])
def test_under_every_policy_a_scaled_step_has_gradients_to_search(policy):
    """Or torch would say "No inf checks were recorded for this optimizer" (lightning#4522)."""
    training = replace(two_steps(policy=policy), recipe=Recipe(precision=Float16()))
    learner = Learner(initial_model(training, CPU), training)
    before = copy_of(learner.module.state_dict())
    learner.step(Batch(IMAGES, TARGETS), 0.05)
    assert changed(before, learner.module.state_dict()) == training.phases[0].moving


@pytest.mark.parametrize(
    ("precision", "fused"),
    [(None, False), (HalfPrecision(), False), (None, True), (HalfPrecision(), True), (Float16(), True)],
)
def test_no_step_but_one_in_float16_that_is_not_fused_waits_for_the_device(monkeypatch, precision, fused):
    """None reads a number back: that is what would wait for a GPU."""
    for policy in ("full", "head"):
        training = two_steps(policy=policy, fused=fused, channels_last=fused)
        training = replace(training, recipe=Recipe(precision=precision, average=WarmAverage(0.9998)))
        learner = Learner(initial_model(training, CPU), training)
        with monkeypatch.context() as patch:
            for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__"):
                patch.setattr(Tensor, name, lambda *_, name=name: pytest.fail(f"{name} waits for the device"))
            learner.step(Batch(IMAGES, TARGETS), 0.05)


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_a_step_in_parts_is_that_of_the_whole_batch_where_no_layer_sees_the_batch(parts):
    """Under `head` batch norm is in evaluation mode; three parts of four images are of two, one and one."""
    whole, split = (two_steps(policy="head", optimizer=PLAIN_SGD, accumulate=n) for n in (1, parts))
    learners = [Learner(initial_model(training, CPU), training) for training in (whole, split)]
    losses = [learner.step(Batch(IMAGES, TARGETS), lr=0.5) for learner in learners]
    torch.testing.assert_close(losses[1], losses[0])
    states = [learner.module.state_dict() for learner in learners]
    torch.testing.assert_close(states[1], states[0])
    assert not torch.equal(states[1]["fc.weight"], initial_model(whole, CPU).state_dict()["fc.weight"])


def test_batch_norm_sees_a_part_at_a_time():
    training = two_steps(optimizer=PLAIN_SGD, accumulate=2)
    learner = Learner(initial_model(training, CPU), training)
    seen: list[Tensor] = []
    learner.module.get_submodule("bn1").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    learner.step(Batch(IMAGES, TARGETS), lr=0.5)
    mean, expected = torch.zeros(16), learner.module.get_buffer("bn1.running_mean")
    for part in seen:
        mean = 0.9 * mean + 0.1 * part.mean((0, 2, 3))
    assert [len(part) for part in seen] == [2, 2]
    torch.testing.assert_close(expected, mean)
    assert int(learner.module.get_buffer("bn1.num_batches_tracked")) == 2
