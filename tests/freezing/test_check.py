import math
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from harness import optimizers
from harness.freezing.check import FreezeViolation, same_bits, snapshot, verify
from harness.freezing.policies import Phase, Policy
from harness.freezing.resolve import Group, ResolvedPhase, resolve
from harness.learner import Learner, initial_model
from harness.models.build import layout_of
from harness.spec import Model, OptimizerSpec
from harness.training import Training
from tests.watching import PLAIN_SGD, changed, run, two_steps, watch

NAN, OTHER_NAN = (torch.tensor(struct.unpack("f", struct.pack("I", bits))) for bits in (0x7FC00000, 0x7FC00001))


def test_nan_is_itself():
    assert math.isnan(NAN)
    assert same_bits(NAN, NAN.clone())
    assert not same_bits(NAN, torch.zeros(1))


def test_zero_is_not_minus_zero():
    assert torch.equal(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))


def test_one_bit_is_enough():
    value = torch.rand(100)
    nudged = value.clone()
    nudged[57] = torch.nextafter(nudged[57], torch.tensor(2.0))
    assert same_bits(value, value.clone())
    assert not same_bits(value, nudged)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4, 5)])
def test_any_shape_and_type(dtype, shape):
    value = torch.ones(shape, dtype=dtype)
    assert same_bits(value, value.clone())
    assert same_bits(value, torch.zeros(shape, dtype=dtype)) is (value.numel() == 0)


def test_strides_mean_nothing():
    value = torch.rand(2, 3, 4, 4)
    assert same_bits(value, value.contiguous(memory_format=torch.channels_last))
    assert not same_bits(torch.arange(6).view(2, 3), torch.arange(6).view(3, 2).T)


class Small(nn.Module):
    """A linear layer, a batch norm, and a buffer that is not saved."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(2, 2), nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.ones(2), persistent=False)


STATISTICS = ("bn.num_batches_tracked", "bn.running_mean", "bn.running_var")


def small_phase(*trainable: str, bn_stats: tuple[str, ...] = ()) -> ResolvedPhase:
    return ResolvedPhase(0.0, (Group(trainable, 0.0, 1.0),), bn_stats, False)


def untouched(module: nn.Module) -> Optimizer:
    """Return an optimizer that has taken no step."""
    return SGD([{"params": list(module.parameters()), "peak_lr": 0.0}], lr=0.1, momentum=0.9)


def move(module: nn.Module, *names: str) -> None:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in names:
        tensors[name].data.add_(1)


def test_a_snapshot_is_a_copy_of_every_parameter_and_buffer():
    module = Small()
    before = snapshot(module)
    assert set(before) == {"fc.weight", "fc.bias", "bn.weight", "bn.bias", *STATISTICS, "mask"}
    kept = before["fc.weight"].clone()
    move(module, "fc.weight")
    assert torch.equal(before["fc.weight"], kept)
    assert not any(tensor.requires_grad for tensor in before.values())


def test_a_phase_that_moved_what_it_meant_to_passes():
    module = Small()
    before = snapshot(module)
    move(module, "fc.weight", *STATISTICS)
    verify(module, before, small_phase("fc.weight", bn_stats=("bn",)), untouched(module))


@pytest.mark.parametrize("name", ["fc.bias", "bn.weight", *STATISTICS, "mask"])
def test_whatever_else_moved_is_named(name):
    module = Small()
    before = snapshot(module)
    move(module, "fc.weight", name)
    with pytest.raises(FreezeViolation, match=f"^frozen but moved: {name}$"):
        verify(module, before, small_phase("fc.weight"), untouched(module))


@pytest.mark.parametrize("name", ["fc.weight", "bn.bias", *STATISTICS])
def test_whatever_stood_still_is_named(name):
    module = Small()
    before = snapshot(module)
    move(module, *({"fc.weight", "bn.bias", *STATISTICS} - {name}))
    with pytest.raises(FreezeViolation, match=f"^meant to learn but did not move: {name}$"):
        verify(module, before, small_phase("fc.weight", "bn.bias", bn_stats=("bn",)), untouched(module))


def test_all_that_is_wrong_is_named_in_order():
    module = Small()
    before = snapshot(module)
    move(module, "mask", "bn.weight")
    with pytest.raises(FreezeViolation, match=r"^frozen but moved: bn\.weight, mask$"):
        verify(module, before, small_phase("fc.weight"), untouched(module))
    with pytest.raises(FreezeViolation, match=r"^meant to learn but did not move: fc\.bias, fc\.weight$"):
        verify(module, snapshot(module), small_phase("fc.weight", "fc.bias"), untouched(module))


EPS = 2.0**-23
"""Between 1 and the next float32."""


def standing(weight: list[float], gradient: list[float] | None, momentum: list[float], peak_lr: float) -> None:
    """Verify a module whose γ stood still at `weight`, though `gradient` and `momentum` were there to move it."""
    module = Small()
    module.bn.weight.data = torch.tensor(weight)
    module.bn.weight.grad = None if gradient is None else torch.tensor(gradient)
    optimizer = SGD([{"params": [module.bn.weight], "peak_lr": peak_lr}], lr=1.0, momentum=0.9)
    optimizer.state[module.bn.weight]["momentum_buffer"] = torch.tensor(momentum)
    verify(module, snapshot(module), small_phase("bn.weight"), optimizer)


@pytest.mark.parametrize(
    ("weight", "gradient", "momentum", "peak_lr"),
    [
        ([1.0, 1.0], [0.25, -0.25], [0.0, 0.0], EPS),
        ([1.0, 1.0], [1.0, -1.0], [0.0, 0.0], EPS),
        ([1.0, 1.0], [2.8, -2.8], [-2.0, 2.0], EPS),
        ([8.0, -1.0], [8.0, 1.0], [0.0, 0.0], EPS),
        ([1.0, 1.0], [0.0, 1e-9], [0.0, 0.0], 0.1),
        ([1.0, 0.0], [1e-9, 0.0], [0.0, 0.0], 0.1),
    ],
    ids=["well below", "at the edge", "against momentum", "each by its own size", "one of two", "a zero without any"],
)
def test_a_parameter_may_stand_still_where_its_updates_are_below_its_resolution(weight, gradient, momentum, peak_lr):
    standing(weight, gradient, momentum, peak_lr)


@pytest.mark.parametrize(
    ("weight", "gradient", "momentum", "peak_lr"),
    [
        ([1.0, 1.0], [2.0, 0.1], [0.0, 0.0], EPS),
        ([1.0, 1.0], [0.1, -2.0], [0.0, 0.0], EPS),
        ([1.0, 1.0], [0.1, 0.1], [3.0, 0.0], EPS),
        ([8.0, 1.0], [8.0, 8.0], [0.0, 0.0], EPS),
        ([1.0, 1.0], [0.1, 0.1], [0.0, 0.0], 1e-2),
        ([1.0, 0.0], [1e-9, 1e-9], [0.0, 0.0], 0.1),
        ([1.0, 1.0], [0.0, 0.0], [0.0, 0.0], 0.1),
        ([1.0, 1.0], [0.0, 0.0], [0.1, 0.1], EPS),
        ([1.0, 1.0], None, [0.1, 0.1], EPS),
    ],
    ids=[
        "down",
        "up",
        "momentum",
        "by another's size",
        "rate",
        "zero",
        "no gradient",
        "momentum alone",
        "never",
    ],
)
def test_a_parameter_may_not_stand_still_otherwise(weight, gradient, momentum, peak_lr):
    with pytest.raises(FreezeViolation, match=r"^meant to learn but did not move: bn\.weight$"):
        standing(weight, gradient, momentum, peak_lr)


OPTIMIZERS = [OptimizerSpec(name=name) for name in optimizers.names()] + [PLAIN_SGD]


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=lambda spec: f"{spec.name}{spec.options or ''}")
def test_with_any_optimizer_what_is_pinned_is_excused_only_where_it_would_have_stood_still_anyway(spec):
    """A scale of 1 takes three steps at each of many rates, once free and once put back after each step."""

    def scale_after_three_steps(rate: float, pinned: bool) -> tuple[nn.Module, Optimizer]:
        module = Small()
        weight = module.bn.weight
        optimizer = optimizers.make(spec, [{"params": [weight], "peak_lr": rate, "weight_decay": 1e-4}], rate)
        for _ in range(3):
            weight.grad = torch.tensor([0.5, -2.0])
            optimizer.step()
            if pinned:
                weight.data.fill_(1.0)
        return module, optimizer

    excused, caught = 0, 0
    for rate in (10.0**-exponent for exponent in range(1, 16)):
        free, _ = scale_after_three_steps(rate, pinned=False)
        moved = (free.get_parameter("bn.weight") - 1).abs().max()
        module, optimizer = scale_after_three_steps(rate, pinned=True)
        if moved == 0:
            verify(module, snapshot(module), small_phase("bn.weight"), optimizer)
            excused += 1
        elif moved > 10 * EPS:
            with pytest.raises(FreezeViolation, match=r"^meant to learn but did not move: bn\.weight$"):
                verify(module, snapshot(module), small_phase("bn.weight"), optimizer)
            caught += 1
    assert excused >= 3
    assert caught >= 3


@pytest.mark.parametrize("overflow", [float("inf"), float("nan")])
def test_a_step_that_overflowed_was_skipped_and_could_move_nothing(overflow):
    standing([1.0, 1.0], [overflow, 0.5], [0.0, 0.0], peak_lr=0.1)


def test_resolution_is_that_of_the_parameters_type():
    module = Small().double()
    module.bn.weight.grad = torch.full((2,), 0.25, dtype=torch.float64)
    optimizer = SGD([{"params": [module.bn.weight], "peak_lr": EPS}], lr=1.0)
    with pytest.raises(FreezeViolation, match=r"^meant to learn but did not move: bn\.weight$"):
        verify(module, snapshot(module), small_phase("bn.weight"), optimizer)


def test_asking_leaves_module_and_optimizer_as_they_are():
    module = Small()
    module.bn.weight.grad = torch.full((2,), 0.25)
    optimizer = SGD([{"params": [module.bn.weight], "peak_lr": EPS}], lr=1.0, momentum=0.9)
    momentum = torch.ones(2)
    optimizer.state[module.bn.weight]["momentum_buffer"] = momentum
    before = snapshot(module)
    verify(module, before, small_phase("bn.weight"), optimizer)
    assert all(same_bits(tensor, before[name]) for name, tensor in snapshot(module).items())
    assert torch.equal(momentum, torch.ones(2))
    assert torch.equal(module.bn.weight.grad, torch.full((2,), 0.25))
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_updates_too_small_to_see_excuse_nothing_else():
    """Neither a move of what is frozen, nor another parameter or statistics that stand still."""
    module = Small()
    optimizer = SGD([{"params": list(module.parameters()), "peak_lr": EPS}], lr=1.0, momentum=0.9)
    module.bn.weight.grad = torch.full((2,), 0.25)
    phase = small_phase("bn.weight", "fc.weight", bn_stats=("bn",))
    with pytest.raises(FreezeViolation) as caught:
        verify(module, snapshot(module), phase, optimizer)
    assert str(caught.value) == f"meant to learn but did not move: {', '.join([*STATISTICS, 'fc.weight'])}"
    before = snapshot(module)
    move(module, "bn.weight", "fc.weight")
    with pytest.raises(FreezeViolation, match=r"^frozen but moved: bn\.weight$"):
        verify(module, before, small_phase("fc.weight"), optimizer)


Spoil = Callable[[nn.Module, int], None]


@pytest.fixture
def spoiled(monkeypatch):
    """A function that lets `spoil(module, step)` follow every optimizer step of the training loop."""

    def install(spoil: Spoil) -> None:
        take, count = Learner.step, iter(range(1000))

        def step(self: Learner, *rest) -> Tensor:
            loss = take(self, *rest)
            with torch.no_grad():
                spoil(self.module, next(count))
            return loss

        monkeypatch.setattr(Learner, "step", step)

    return install


def nudge(tensor: Tensor) -> None:
    """Move one number by the least there is."""
    flat = tensor.view(-1)
    flat[0] = torch.nextafter(flat[0], flat[0] + 1) if tensor.is_floating_point() else flat[0] + 1


@pytest.mark.parametrize(
    "name",
    [
        "conv1.weight",
        "layer3.0.conv2.weight",
        "bn1.weight",
        "bn1.bias",
        "bn1.running_mean",
        "layer2.0.bn1.running_var",
        "layer1.0.bn2.num_batches_tracked",
    ],
)
def test_a_training_in_which_something_frozen_moves_fails_naming_it(name, spoiled, tmp_path):
    spoiled(lambda module, step: nudge(module.state_dict()[name]) if step == 0 else None)
    with pytest.raises(FreezeViolation, match=f"^frozen but moved: {name}$"):
        run(two_steps(policy="head"), tmp_path)


def test_a_changed_sign_of_a_frozen_zero_is_found(spoiled, tmp_path):
    spoiled(lambda module, step: module.state_dict()["bn1.bias"].neg_() if step == 0 else None)
    with pytest.raises(FreezeViolation, match=r"^frozen but moved: bn1\.bias$"):
        run(two_steps(policy="head"), tmp_path)


@pytest.mark.parametrize("name", ["fc.weight", "bn1.weight", "layer2.0.bn1.running_mean", "bn1.num_batches_tracked"])
def test_a_training_in_which_something_stands_still_fails_naming_it(name, spoiled, tmp_path):
    training = two_steps()
    start = initial_model(training, torch.device("cpu")).state_dict()[name]
    spoiled(lambda module, _: module.state_dict()[name].copy_(start))
    with pytest.raises(FreezeViolation, match=f"^meant to learn but did not move: {name}$"):
        run(training, tmp_path)


def in_two_epochs(*phases: Phase, lr: float = 0.05) -> Training:
    """Return a training of two epochs of two steps each."""
    layout = layout_of(Model(name="cifar_resnet8"), 2)
    return replace(two_steps(epochs=2, lr=lr), phases=resolve(Policy(phases), layout, weight_decay=1e-4))


HEAD_THEN_ALL = in_two_epochs(Phase(("head",)), Phase(("all",), ("all",), start=0.5))
ALL_THEN_HEAD = in_two_epochs(Phase(("all",), ("all",)), Phase(("head",), start=0.5))
HEAD_THEN_ALL_SLOWLY = in_two_epochs(Phase(("head",)), Phase(("all",), start=0.75, lr_factor=0.01), lr=0.01)
"""Its second phase is one step, at a rate of 0.0001."""


def test_what_moved_while_frozen_is_found_though_it_learns_later(spoiled, tmp_path):
    """At the end of training its move would no longer show."""
    run(HEAD_THEN_ALL, tmp_path)
    spoiled(lambda module, step: nudge(module.state_dict()["conv1.weight"]) if step == 0 else None)
    with pytest.raises(FreezeViolation, match=r"^frozen but moved: conv1\.weight$"):
        run(HEAD_THEN_ALL, tmp_path)


def test_what_moves_once_it_is_frozen_is_found_though_it_learned_before(spoiled, tmp_path):
    run(ALL_THEN_HEAD, tmp_path)
    spoiled(lambda module, step: nudge(module.state_dict()["conv1.weight"]) if step == 2 else None)
    with pytest.raises(FreezeViolation, match=r"^frozen but moved: conv1\.weight$"):
        run(ALL_THEN_HEAD, tmp_path)


def test_what_stands_still_in_one_phase_is_found_though_it_moved_in_another(spoiled, tmp_path):
    kept: dict[str, Tensor] = {}

    def hold(module: nn.Module, step: int) -> None:
        weight = module.state_dict()["fc.weight"]
        if step == 1:
            kept["fc.weight"] = weight.clone()
        elif step > 1:
            weight.copy_(kept["fc.weight"])

    spoiled(hold)
    with pytest.raises(FreezeViolation, match=r"^meant to learn but did not move: fc\.weight$"):
        run(ALL_THEN_HEAD, tmp_path)


def test_a_training_so_slow_that_a_scale_of_1_cannot_change_is_no_violation(tmp_path):
    *_, last = watch(HEAD_THEN_ALL_SLOWLY, tmp_path)
    parameters = {name for name, _ in layout_of(Model(name="cifar_resnet8"), 2).parameters}
    still = parameters - changed(last.before, last.after)
    assert still
    assert all(torch.equal(last.before[name], torch.ones_like(last.before[name])) for name in still)


@pytest.mark.parametrize("optimizer", [OptimizerSpec(), PLAIN_SGD, OptimizerSpec(name="AdamW")], ids=repr)
@pytest.mark.parametrize("name", ["fc.weight", "conv1.weight", "layer3.0.bn2.bias"])
def test_what_is_pinned_is_found_however_slow_the_training(name, optimizer, spoiled, tmp_path):
    kept: dict[str, Tensor] = {}

    def pin(module: nn.Module, step: int) -> None:
        weight = module.state_dict()[name]
        if step == 2:
            kept[name] = weight.clone()
        elif step > 2:
            assert not torch.equal(weight, kept[name])
            weight.copy_(kept[name])

    spoiled(pin)
    train = HEAD_THEN_ALL_SLOWLY.train.model_copy(update={"optimizer": optimizer})
    with pytest.raises(FreezeViolation, match=f"^meant to learn but did not move: {name}$"):
        run(replace(HEAD_THEN_ALL_SLOWLY, train=train), tmp_path)


def test_a_violation_leaves_no_weights_behind(spoiled, tmp_path):
    training = replace(two_steps(policy="head"), save_to=str(tmp_path / "weights.pt"))
    spoiled(lambda module, _: nudge(module.state_dict()["conv1.weight"]))
    with pytest.raises(FreezeViolation):
        run(training, tmp_path)
    assert not list(tmp_path.glob("weights*"))
