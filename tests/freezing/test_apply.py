from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD
from torchvision.ops import StochasticDepth

from harness.freezing.apply import batch_statistics_mode, begin_phase, evaluation_mode, training_mode
from harness.freezing.policies import POLICIES
from harness.freezing.resolve import Group, ResolvedPhase, resolve
from harness.learner import Learner
from harness.models.build import build_model, layout_of
from harness.prefix.batch import Batch
from harness.spec import Model
from tests.watching import changed, copy_of, two_steps


class Toy(nn.Module):
    """A backbone with everything that behaves otherwise in training: dropout, stochastic depth and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Sequential(nn.ReLU(), nn.Dropout(0.5)), StochasticDepth(0.5, "row")
        )
        self.drop = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(self.backbone(inputs)))
        return logits


BACKBONE = ["backbone.0.weight", "backbone.0.bias"]
AFFINE = ["backbone.1.weight", "backbone.1.bias"]
HEAD = ["head.1.weight", "head.1.bias"]
EVERYTHING = [*BACKBONE, *AFFINE, *HEAD]


def phase(trainable: Iterable[str], bn_stats: Iterable[str] = (), weight_decay: float = 0.1) -> ResolvedPhase:
    return ResolvedPhase(0.0, (Group(tuple(trainable), weight_decay, 1.0),), tuple(bn_stats), False)


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    return Toy()


def in_training_mode(toy: Toy) -> set[str]:
    return {name for name, module in toy.named_modules() if module.training}


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 6, generator=generator), torch.eye(3)[torch.arange(16) % 3]


@pytest.mark.parametrize("trainable", [HEAD, AFFINE, EVERYTHING, ["backbone.0.weight", "head.1.bias"]])
def test_only_the_phases_parameters_require_gradients(toy, trainable):
    begin_phase(toy, phase(EVERYTHING))
    begin_phase(toy, phase(trainable))
    assert [name for name, parameter in toy.named_parameters() if parameter.requires_grad] == trainable


def test_no_gradient_outlives_a_change_of_phase(toy):
    F.cross_entropy(toy(batch()[0]), batch()[1]).backward()
    assert all(parameter.grad is not None for parameter in toy.parameters())
    begin_phase(toy, phase(HEAD))
    assert all(parameter.grad is None for parameter in toy.parameters())


def test_a_frozen_part_is_in_evaluation_mode_dropout_and_stochastic_depth_included(toy):
    training_mode(toy, phase(HEAD))
    # The dropout beside the two belongs to the whole, of which something learns.
    assert in_training_mode(toy) == {"", "drop", "head", "head.0", "head.1"}


def test_dropout_of_a_frozen_head_is_off(toy):
    training_mode(toy, phase(BACKBONE))
    assert in_training_mode(toy) == {
        *("", "drop", "backbone", "backbone.0", "backbone.2", "backbone.2.0", "backbone.2.1", "backbone.3")
    }


def test_frozen_features_are_those_of_evaluation(toy):
    inputs, _ = batch()
    training_mode(toy, phase(HEAD))
    features = toy.backbone(inputs)
    assert torch.equal(features, toy.backbone(inputs))
    toy.eval()
    assert torch.equal(features, toy.backbone(inputs))


def test_learning_features_are_dropped_out(toy):
    inputs, _ = batch()
    training_mode(toy, phase(EVERYTHING))
    assert not torch.equal(toy.backbone(inputs), toy.backbone(inputs))


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("statistics", [False, True])
def test_batch_norm_goes_by_its_statistics_alone(toy, affine, statistics):
    """The 2 × 2 of every confusion about freezing batch norm: γ and β on one axis, running statistics on the other."""
    chosen = phase(HEAD + AFFINE * affine, ["backbone.1"] * statistics)
    begin_phase(toy, chosen)
    training_mode(toy, chosen)
    before = copy_of(toy.state_dict())
    F.cross_entropy(toy(batch()[0]), batch()[1]).backward()
    moved = changed(before, copy_of(toy.state_dict()))
    assert moved == (
        {f"backbone.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
        if statistics
        else set()
    )
    assert [toy.backbone[1].weight.grad is not None, toy.backbone[1].bias.grad is not None] == [affine, affine]


def test_statistics_that_stay_normalise_by_what_they_are(toy):
    """Not by the batch: that is what makes features of a frozen extractor the same in training and evaluation."""
    norm = toy.backbone[1]
    norm.running_mean.fill_(3.0)
    training_mode(toy, phase(EVERYTHING))
    inputs = torch.randn(16, 8)
    torch.testing.assert_close(norm(inputs), (inputs - 3.0) / (1 + norm.eps) ** 0.5)


def test_modes_undo_what_train_and_eval_did(toy):
    chosen = phase(HEAD)
    training_mode(toy, chosen)
    expected = in_training_mode(toy)
    toy.train()
    training_mode(toy, chosen)
    assert in_training_mode(toy) == expected
    evaluation_mode(toy)
    assert in_training_mode(toy) == set()
    training_mode(toy, chosen)
    assert in_training_mode(toy) == expected


def test_a_frozen_block_inside_a_learning_stage_is_in_evaluation_mode():
    stage = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    training_mode(stage, phase(["1.0.weight"]))
    assert {name for name, module in stage.named_modules() if module.training} == {"", "1", "1.0", "1.1"}


def test_momentum_and_weight_decay_cannot_move_a_frozen_weight(toy):
    """pytorch#38581: an optimizer that holds a frozen parameter moves it while it has a gradient, be it zero."""
    inputs, targets = batch()
    begin_phase(toy, phase(EVERYTHING))
    optimizer = SGD(toy.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(toy(inputs), targets).backward()
        optimizer.step()
    begin_phase(toy, phase(HEAD))
    toy.eval()
    before = copy_of(toy.state_dict())
    F.cross_entropy(toy(inputs), targets).backward()
    optimizer.step()
    assert changed(before, copy_of(toy.state_dict())) == set(HEAD)


def test_what_freezes_in_a_later_phase_stays_where_its_momentum_left_it(toy):
    inputs, targets = batch()
    learner = Learner(toy, two_steps(lr=0.1), phase(EVERYTHING, ["backbone.1"]))
    for _ in range(3):
        learner.step(Batch(inputs, targets), lr=0.1)
    learner.enter(phase(HEAD))
    before = copy_of(toy.state_dict())
    for _ in range(3):
        learner.step(Batch(inputs, targets), lr=0.1)
    assert changed(before, copy_of(toy.state_dict())) == set(HEAD)


def test_what_goes_on_learning_keeps_its_momentum_and_what_starts_starts_fresh(toy):
    inputs, targets = batch()
    learner = Learner(toy, two_steps(lr=0.1), phase(HEAD))
    assert not learner.optimizer.state
    for _ in range(2):
        learner.step(Batch(inputs, targets), lr=0.1)
    names = {parameter: name for name, parameter in toy.named_parameters()}
    kept = {names[p]: state["momentum_buffer"].clone() for p, state in learner.optimizer.state.items()}
    assert set(kept) == set(HEAD)

    learner.enter(phase(EVERYTHING))
    held = {names[p]: state["momentum_buffer"] for p, state in learner.optimizer.state.items()}
    assert set(held) == set(HEAD)
    assert all(torch.equal(held[name], kept[name]) for name in HEAD)

    learner.step(Batch(inputs, targets), lr=0.1)
    assert {names[p] for p in learner.optimizer.state} == set(EVERYTHING)


def test_a_fresh_momentum_begins_with_the_first_gradient(toy):
    """Buffers after one step: g + wd·p for what starts, 0.9·buffer + g + wd·p for what goes on."""
    inputs, targets = batch()
    learner = Learner(toy, two_steps(lr=0.1), phase(HEAD))
    learner.step(Batch(inputs, targets), lr=0.1)
    old = learner.optimizer.state[toy.head[1].weight]["momentum_buffer"].clone()
    learner.enter(phase(EVERYTHING))
    optimizer = learner.optimizer
    evaluation_mode(toy)  # dropout would draw anew for the second look at the gradient
    before = copy_of(dict(toy.named_parameters()))
    F.cross_entropy(toy(inputs), targets).backward()
    gradient = {name: p.grad.clone() + 0.1 * before[name] for name, p in toy.named_parameters() if p.grad is not None}
    optimizer.step()
    buffers = {name: optimizer.state[p]["momentum_buffer"] for name, p in toy.named_parameters()}
    torch.testing.assert_close(buffers["backbone.0.weight"], gradient["backbone.0.weight"])
    torch.testing.assert_close(buffers["head.1.weight"], 0.9 * old + gradient["head.1.weight"])


def test_by_batch_statistics_batch_norm_normalises_by_the_batch_and_all_else_evaluates(toy):
    norm = toy.backbone[1]
    norm.running_mean.fill_(3.0)
    inputs, before = batch()[0], copy_of(toy.state_dict())
    toy.train()
    with batch_statistics_mode(toy):
        assert in_training_mode(toy) == {"backbone.1"}
        outputs = toy(inputs)
        assert torch.equal(outputs, toy(inputs)), "dropout and stochastic depth are off"
    hidden = toy.backbone[0](inputs)
    normed = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + norm.eps).sqrt()
    torch.testing.assert_close(outputs, toy.head[1](F.relu(normed)))
    assert not changed(before, copy_of(toy.state_dict()))


def test_after_batch_statistics_all_is_in_evaluation_mode_and_running_statistics_count_again(toy):
    inputs = batch()[0]
    toy.eval()
    expected = toy(inputs)
    with pytest.raises(ValueError, match="more than 1 value per channel"), batch_statistics_mode(toy):
        toy(inputs[:1])
    assert in_training_mode(toy) == set()
    assert torch.equal(toy(inputs), expected)
    toy.train()
    toy(inputs)
    assert toy.backbone[1].num_batches_tracked == 1


def test_a_batch_norm_without_running_statistics_stays_without(toy):
    toy.backbone[1] = nn.BatchNorm1d(8, track_running_stats=False)
    with batch_statistics_mode(toy):
        toy(batch()[0])
    assert not toy.backbone[1].track_running_stats


@pytest.mark.parametrize(
    ("model", "policy", "dropping"),
    [
        ("alexnet", "head", set()),
        ("alexnet", "last_3_fc", {"classifier.0", "classifier.3"}),
        ("alexnet", "full", {"classifier.0", "classifier.3"}),
        ("vgg16", "head", {"classifier.5"}),
        ("mobilenet_v3_small", "head", {"classifier.2"}),
        ("mobilenet_v2", "head", {"classifier.0"}),
    ],
)
def test_dropout_is_on_where_the_layer_that_it_feeds_learns(model, policy, dropping):
    """A fixed extractor drops nothing: what is frozen gets its features whole."""
    with torch.device("meta"):
        module = build_model(Model(name=model), 3, seed=0)
    (resolved,) = resolve(POLICIES[policy], layout_of(Model(name=model), 3), weight_decay=0.0)
    training_mode(module, resolved)
    drops = {name: child.training for name, child in module.named_modules() if isinstance(child, nn.Dropout)}
    assert {name for name, on in drops.items() if on} == dropping
