from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from harness import specfile
from harness.errors import HarnessError
from harness.freezing.policies import POLICIES
from harness.freezing.resolve import ResolvedPhase, resolve
from harness.learner import Learner, initial_model
from harness.models import weights
from harness.models.build import build_model, layout_of
from harness.plan import Plan
from harness.planning import make_plan
from harness.prefix.batch import Batch
from harness.spec import Model
from harness.tricks import Trick
from harness.tricks.cosine import CosineTrick
from harness.tricks.label_smoothing import LabelSmoothingTrick
from harness.tricks.mixup import MixupTrick
from harness.tricks.no_bias_decay import NoBiasDecayTrick
from harness.tricks.warmup import WarmupTrick
from tests.watching import CPU, SMALL, State, changed, copy_of, run, two_steps, watch

LP_FT = """\
policies:
  mine:
    phases:
      - {trainable: [head]}
      - {start: 0.34, trainable: [all], bn_stats: [all], lr_factor: 0.5}
"""
TOGETHER: dict[str, Trick] = {
    "warmup": WarmupTrick(1),
    "no_bias_decay": NoBiasDecayTrick(),
    "cosine": CosineTrick(),
    "label_smoothing": LabelSmoothingTrick(),
    "mixup": MixupTrick(),
}
Keys = Callable[[str], bool]


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def in_norm(key: str) -> bool:
    """Parameters and statistics of batch norm, by the names torchvision gives them."""
    return "bn" in key or ".downsample.1." in key


def affine(key: str) -> bool:
    return in_norm(key) and key.endswith((".weight", ".bias"))


def statistics(key: str) -> bool:
    return key.endswith(STATISTICS)


def parts(*names: str) -> Keys:
    return lambda key: key.split(".")[0] in names


def either(*those: Keys) -> Keys:
    return lambda key: any(of(key) for of in those)


def everything(_: str) -> bool:
    return True


def all_but_norms(key: str) -> bool:
    return not in_norm(key)


HEAD = parts("fc")
LAST_1, LAST_2, LAST_3 = (
    parts("layer3", "fc"),
    parts("layer2", "layer3", "fc"),
    parts("layer1", "layer2", "layer3", "fc"),
)
TWO_LAYERS = ("layer3.0.conv2.", "layer3.0.bn2.", "layer3.0.downsample.")

CHANGES: dict[str, Mapping[int, Keys]] = {
    "scratch": {0: everything},
    "full": {0: everything},
    "full_bn_stats_frozen": {0: lambda key: not statistics(key)},
    "full_bn_frozen": {0: all_but_norms},
    "llrd": {0: everything},
    "head": {0: HEAD},
    "head_bn_affine": {0: either(HEAD, affine)},
    "head_bn_stats": {0: either(HEAD, statistics)},
    "head_bn": {0: either(HEAD, in_norm)},
    "bn_only": {0: in_norm},
    "bn_only_random": {0: in_norm},
    "last_stage": {0: LAST_1},
    "last_stage_bn_affine": {0: either(LAST_1, affine)},
    "last_stage_bn_stats": {0: either(LAST_1, statistics)},
    "last_stage_bn": {0: either(LAST_1, in_norm)},
    "last_2_stages": {0: LAST_2},
    "last_2_stages_bn_affine": {0: either(LAST_2, affine)},
    "last_2_stages_bn_stats": {0: either(LAST_2, statistics)},
    "last_2_stages_bn": {0: either(LAST_2, in_norm)},
    "last_3_stages": {0: LAST_3},
    "last_3_stages_bn_affine": {0: either(LAST_3, affine)},
    "last_3_stages_bn_stats": {0: either(LAST_3, statistics)},
    "last_3_stages_bn": {0: either(LAST_3, in_norm)},
    "last_3_stages_bn_frozen": {0: lambda key: LAST_3(key) and not in_norm(key)},
    "surgical_first": {0: parts("conv1", "bn1", "layer1", "fc")},
    "surgical_middle": {0: parts("layer2", "fc")},
    "lp_ft": {0: HEAD, 5: everything},
    "head_then_last_2": {0: HEAD, 5: lambda key: HEAD(key) or key.startswith(TWO_LAYERS)},
    "gradual": {0: HEAD, 2: LAST_1, 4: LAST_2, 6: LAST_3, 8: everything},
    "bn_frozen_at_end": {0: everything, 8: all_but_norms},
}
"""Which keys of the state dict of a CIFAR ResNet-8 change at each of ten steps, from which step on; no others do."""
ELSEWHERE = {"last_3_fc", "extra_fc"}
"""Policies that a ResNet cannot have; they have tests of their own below."""
CODES = {"svm_codes", "softmax_codes"}
"""Policies in which nothing changes; tests/test_codes.py has the rest."""


@pytest.fixture
def plan_with(write_spec, workspace) -> Callable[..., Plan]:
    """A function that plans the tiny study with texts replaced, and makes its pretrained weights."""

    def make(*replacements: tuple[str, str]) -> Plan:
        plan = make_plan(specfile.read(write_spec(*replacements)), workspace)
        for prerequisite in plan.prerequisites:
            run(prerequisite.training, workspace.cache)
        return plan

    return make


def test_every_policy_has_its_expectation_here():
    assert {*CHANGES, *ELSEWHERE, *CODES} == set(POLICIES)


@pytest.mark.parametrize("tricks", [{}, TOGETHER], ids=["no trick", "all tricks"])
@pytest.mark.parametrize("policy", CHANGES)
def test_every_step_of_a_policy_changes_exactly_its_own_keys(policy, tricks, tmp_path):
    """Under momentum and a strong weight decay, which would move whatever they can reach; nor does evaluation."""
    steps = watch(two_steps(tricks, policy, epochs=5, weight_decay=0.05), tmp_path)
    assert len(steps) == 10
    expected = CHANGES[policy][0]
    for number, (step, following) in enumerate(zip(steps, [*steps[1:], None], strict=True)):
        expected = CHANGES[policy].get(number, expected)
        assert changed(step.before, step.after) == {key for key in step.before if expected(key)}, number
        assert following is None or not changed(step.after, following.before)


def moved_by_each_phase(module: nn.Module, phases: Sequence[ResolvedPhase], pixels: int) -> list[set[str]]:
    """Take two steps in each phase; return the keys that changed in each."""
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.randn(4, 3, pixels, pixels, generator=generator), torch.eye(2)[[0, 1, 0, 1]]
    learner = Learner(module, two_steps(), phases[0])
    moved = []
    for phase in phases:
        learner.enter(phase)
        before = copy_of(module.state_dict())
        for _ in range(2):
            learner.step(Batch(images, targets), lr=0.01)
        moved.append(changed(before, copy_of(module.state_dict())))
    return moved


@pytest.mark.parametrize(("model", "layers"), [("alexnet", (1, 4, 6)), ("vgg16_bn", (0, 3, 6))])
def test_last_3_fc_means_the_fully_connected_layers(model, layers):
    (phase,) = resolve(POLICIES["last_3_fc"], layout_of(Model(name=model), 2), 0.05)
    assert phase.trainable == {f"classifier.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert phase.bn_stats == ()


def test_last_3_fc_changes_the_fully_connected_layers_of_an_alexnet():
    model = Model(name="alexnet")
    phases = resolve(POLICIES["last_3_fc"], layout_of(model, 2), 0.05)
    (moved,) = moved_by_each_phase(build_model(model, 2, seed=0), phases, 64)
    assert moved == {f"classifier.{layer}.{kind}" for layer in (1, 4, 6) for kind in ("weight", "bias")}


def test_extra_fc_changes_the_layer_on_top_alone():
    phases = resolve(POLICIES["extra_fc"], layout_of(SMALL, 2, kept_classes=5), 0.05)
    (moved,) = moved_by_each_phase(build_model(SMALL, 2, seed=0, kept_classes=5), phases, 8)
    assert moved == {"fc.new.weight", "fc.new.bias"}


def test_the_last_two_layers_of_a_bottleneck_are_in_its_last_block():
    model = Model(name="resnet50")
    phases = resolve(POLICIES["head_then_last_2"], layout_of(model, 2), 0.05)
    first, second = moved_by_each_phase(build_model(model, 2, seed=0), phases, 32)
    assert first == {"fc.weight", "fc.bias"}
    norms = {f"layer4.2.bn{n}.{key}" for n in (2, 3) for key in ("weight", "bias", *STATISTICS)}
    assert second == first | {"layer4.2.conv2.weight", "layer4.2.conv3.weight"} | norms


@pytest.mark.parametrize("policy", sorted(CODES))
def test_under_codes_nothing_learns(policy):
    (phase,) = resolve(POLICIES[policy], layout_of(SMALL, 2), 0.05)
    assert (phase.trainable, phase.bn_stats) == (frozenset(), ())


@pytest.mark.parametrize("policy", sorted(ELSEWHERE))
def test_what_a_resnet_cannot_have_is_refused(policy):
    with pytest.raises(HarnessError, match="matches nothing; legal: all, none, bn, stem, stage1"):
        resolve(POLICIES[policy], layout_of(SMALL, 2), 0.05)


def test_policies_begin_at_the_pretrained_weights_or_at_random_ones(plan_with):
    plan = plan_with(("policies: [full, head]", f"policies: [{', '.join([*CHANGES, *sorted(CODES)])}]"))
    (prerequisite,) = plan.prerequisites
    source = weights.read(Path(str(prerequisite.training.save_to)))
    begin = {r.cell.policy: copy_of(initial_model(r.training, CPU).state_dict()) for r in plan.replicates}
    assert set(begin) == {*CHANGES, *CODES}
    for policy, state in begin.items():
        random = policy in ("scratch", "bn_only_random")
        assert changed(source, state) == {key for key in state if random or HEAD(key)}, policy


def test_an_inline_policy_of_two_phases_changes_first_the_head_then_all(plan_with, workspace):
    plan = plan_with(("policies: [full, head]\n", LP_FT))
    training = plan.replicates[0].training
    steps = watch(training, workspace.cache)
    # The second phase begins at step round(0.34 × 6) = 2, in the middle of the first epoch of three.
    for step in steps[:2]:
        assert changed(step.before, step.after) == {"fc.weight", "fc.bias"}
    for step in steps[2:]:
        assert changed(step.before, step.after) == set(step.before)


def test_in_the_second_phase_the_heads_momentum_is_kept_and_the_rest_starts_fresh(plan_with, workspace, monkeypatch):
    plan = plan_with(("policies: [full, head]\n", LP_FT))
    enter, entered = Learner.enter, []

    def spy(self, phase):
        names = {parameter: name for name, parameter in self.module.named_parameters()}

        def momenta() -> State:
            states = self.optimizer.state.items() if hasattr(self, "optimizer") else ()
            return {names[p]: state["momentum_buffer"].clone() for p, state in states}

        before = momenta()
        enter(self, phase)
        entered.append((before, momenta(), [group["lr_factor"] for group in self.optimizer.param_groups]))

    monkeypatch.setattr(Learner, "enter", spy)
    run(plan.replicates[0].training, workspace.cache)
    (none, fresh, whole), (left, kept, half) = entered
    assert none == fresh == {}
    assert set(left) == set(kept) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(left[name], kept[name]) for name in left)
    assert all(buffer.abs().max() > 0 for buffer in kept.values())
    assert (whole, half) == ([1.0], [0.5])


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_every_policy_says_what_it_is_and_where_it_comes_from(policy):
    assert policy.about.endswith(".")
    assert policy.source
