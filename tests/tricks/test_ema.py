from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.bits import state_sha256
from harness.errors import HarnessError
from harness.evaluate import predict
from harness.learner import Learner, RunningAverage, initial_model
from harness.models import weights
from harness.prefix.batch import Batch
from harness.recipe import Conflict, Recipe
from harness.tricks.ema import EmaTrick, WarmAverage
from tests.watching import CPU, State, changed, copy_of, run, two_steps, watch

EMA = {"ema": EmaTrick(0.5)}
IMAGES, TARGETS = torch.rand(4, 3, 8, 8), torch.eye(2)[[0, 1, 0, 1]]


@dataclass(frozen=True)
class Constant:
    """An average without a warm start."""

    share: float

    def decay(self, step: int) -> float:  # noqa: ARG002
        return self.share


def by_hand(start: State, states: list[State], cap: float) -> dict[str, np.ndarray]:
    """Return the average over `states`, written out in float64; counters are those of the last state."""
    average = {name: tensor.double().numpy() for name, tensor in start.items()}
    for t, state in enumerate(states):
        d = min(cap, (1 + t) / (10 + t))
        for name, tensor in state.items():
            new = tensor.double().numpy()
            average[name] = d * average[name] + (1 - d) * new if tensor.is_floating_point() else new
    return average


def test_the_share_kept_rises_to_the_cap():
    average = WarmAverage(0.9998)
    assert [average.decay(t) for t in range(4)] == [1 / 10, 2 / 11, 3 / 12, 4 / 13]
    assert average.decay(10**6) == 0.9998
    assert WarmAverage(0.2).decay(1) == 2 / 11
    assert WarmAverage(0.2).decay(2) == 0.2


@pytest.mark.parametrize("cap", [0.15, 0.9998])
def test_what_is_saved_hashed_and_tested_is_the_average_over_all_steps(cap, tmp_path):
    training = replace(two_steps({"ema": EmaTrick(cap)}, epochs=3), save_to=str(tmp_path / "weights.pt"))
    start = initial_model(training, CPU).state_dict()
    steps = watch(training, tmp_path)
    saved = weights.read(Path(str(training.save_to)))
    expected = by_hand(start, [step.after for step in steps], cap)
    assert set(saved) == set(expected)
    for name, tensor in saved.items():
        np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
    learning = {name for name in saved if "num_batches" not in name}
    assert changed(saved, steps[-1].after) == learning
    assert saved["bn1.num_batches_tracked"] == 6
    assert run(training, tmp_path)[1].weights_sha256 == state_sha256(saved)


def test_validation_and_test_see_the_average(tmp_path, monkeypatch):
    seen = []

    def spy(module, *rest):
        seen.append(copy_of(module.state_dict()))
        return predict(module, *rest)

    monkeypatch.setattr("harness.tasks.classification.predict", spy)
    training = two_steps(EMA, epochs=2)
    steps = watch(training, tmp_path)
    start = initial_model(training, CPU).state_dict()
    for state, taken in zip(seen, (2, 4, 4), strict=True):
        expected = by_hand(start, [step.after for step in steps[:taken]], 0.5)
        np.testing.assert_allclose(state["fc.weight"].numpy(), expected["fc.weight"], rtol=1e-5, atol=1e-7)


def test_the_training_itself_is_the_same(tmp_path):
    base, with_trick = (watch(two_steps(tricks, epochs=2), tmp_path) for tricks in ({}, EMA))
    for plain, averaged in zip(base, with_trick, strict=True):
        assert torch.equal(plain.images, averaged.images)
        assert not changed(plain.after, averaged.after)
    assert len({run(two_steps(tricks), tmp_path)[1].weights_sha256 for tricks in ({}, EMA)}) == 2


def test_under_constant_decay_it_is_pytorchs_bit_for_bit():
    training = two_steps()
    learner = Learner(initial_model(training, CPU), training)
    names = set(learner.module.state_dict())
    ours = RunningAverage(learner.module, Constant(0.9), names)
    theirs = AveragedModel(learner.module, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    theirs.update_parameters(learner.module)  # the first only copies
    for _ in range(5):
        learner.step(Batch(IMAGES, TARGETS), 0.05)
        ours.update()
        theirs.update_parameters(learner.module)
    average, peer = ours.module.state_dict(), theirs.module.state_dict()
    floats = {name for name, tensor in average.items() if tensor.is_floating_point()}
    # PyTorch averages the counters too, and rounds them down.
    assert changed(average, peer) == names - floats
    assert changed(average, learner.module.state_dict()) == floats
    assert average["bn1.num_batches_tracked"] == 5


def oddities(module: nn.Module) -> None:
    """Put numbers into the backbone that do not survive an average with themselves."""
    weight, variance = module.get_parameter("conv1.weight"), module.get_buffer("layer1.0.bn1.running_var")
    weight.data[0] = -0.0
    variance[0] = torch.inf


@pytest.mark.parametrize("policy", ["head", "full_bn_frozen", "head_bn"])
def test_what_is_frozen_has_the_same_bits_in_the_average(policy):
    training = two_steps(EMA, policy=policy)
    module = initial_model(training, CPU)
    if policy == "head":
        oddities(module)
    start = copy_of(module.state_dict())
    learner = Learner(module, training)
    for _ in range(3):
        learner.step(Batch(IMAGES, TARGETS), 0.05)
    moving = training.phases[0].moving
    assert 0 < len(moving) < len(start)
    assert changed(start, learner.evaluated.state_dict()) == moving
    assert changed(start, learner.module.state_dict()) == moving


def test_what_learns_in_any_phase_is_averaged_over_all_of_them(tmp_path):
    head, full = two_steps(policy="head").phases[0], two_steps().phases[0]
    phases = (head, replace(full, start=0.5))
    training = replace(two_steps(EMA, epochs=2), phases=phases, save_to=str(tmp_path / "weights.pt"))
    steps = watch(training, tmp_path)
    expected = by_hand(initial_model(training, CPU).state_dict(), [step.after for step in steps], 0.5)
    for name, tensor in weights.read(tmp_path / "weights.pt").items():
        np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_the_average_is_a_network_in_evaluation_mode_of_its_own():
    training = two_steps(EMA)
    learner = Learner(initial_model(training, CPU), training)
    learner.step(Batch(IMAGES, TARGETS), 0.05)
    assert learner.evaluated is not learner.module
    assert not any(module.training for module in learner.evaluated.modules())
    assert all(module.training for module in learner.module.modules())
    theirs = {tensor.data_ptr() for tensor in learner.module.state_dict().values()}
    assert not any(tensor.data_ptr() in theirs for tensor in learner.evaluated.state_dict().values())


def test_trick_owns_the_average_and_nothing_else():
    recipe = EmaTrick(0.99)(Recipe())
    assert recipe == Recipe(average=WarmAverage(0.99))
    with pytest.raises(Conflict, match="both WarmAverage and WarmAverage would own the average"):
        EmaTrick()(recipe)


def test_parameters_as_a_user_writes_them(read_trick):
    assert read_trick("ema: ") == EmaTrick(decay=0.9998)
    assert read_trick("ema: {decay: 0.99}") == EmaTrick(decay=0.99)


@pytest.mark.parametrize("value", ["0", "1", "-0.1", ".nan", "'0.9'"])
def test_decay_must_lie_between_0_and_1(read_trick, value):
    with pytest.raises(HarnessError, match=r"tiny.yaml:10: tricks\.ema\.decay"):
        read_trick(f"ema: {{decay: {value}}}")
