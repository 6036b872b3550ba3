from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import specfile
from harness.freezing.policies import POLICIES
from harness.learner import Learner, initial_model
from harness.models import weights
from harness.plan import Plan, make_plan
from harness.training import Training
from tests.watching import CPU, State, changed, copy_of, run, watch

MOVES = (
    "epochs: 2, batch_size: 8, lr: 0.05, augment",
    "epochs: 2, batch_size: 8, lr: 0.05, weight_decay: 0.05, augment",
)
"""Momentum and a strong weight decay, which would move whatever they can reach."""
LP_FT = """\
policies:
  lp_ft:
    phases:
      - {trainable: [head]}
      - {start: 0.34, trainable: [all], bn_stats: [all], lr_factor: 0.5}
"""


def in_head(key: str) -> bool:
    return key in ("fc.weight", "fc.bias")


def in_norm(key: str) -> bool:
    """Parameters and statistics of batch norm, by the names torchvision gives them."""
    return "bn" in key or ".downsample.1." in key


MAY_CHANGE: dict[str, Callable[[str], bool]] = {
    "full": lambda _: True,
    "full_bn_frozen": lambda key: not in_norm(key),
    "head": in_head,
    "head_bn": lambda key: in_head(key) or in_norm(key),
}
"""Which keys of the state dict each policy changes, all others staying bit for bit."""


@pytest.fixture
def plan_with(write_spec, workspace) -> Callable[..., Plan]:
    """A function that plans the tiny study with texts replaced, and makes its pretrained weights."""

    def make(*replacements: tuple[str, str]) -> Plan:
        plan = make_plan(specfile.read(write_spec(MOVES, *replacements)), workspace)
        for training in plan.prerequisites:
            run(training, workspace.cache)
        return plan

    return make


def start_and_end(training: Training, folder: Path) -> tuple[State, State]:
    path = folder / "trained.pt"
    before = copy_of(initial_model(training, CPU).state_dict())
    run(replace(training, save_to=str(path)), folder)
    return before, weights.read(path)


def test_every_policy_has_its_expectation_here():
    assert set(MAY_CHANGE) == set(POLICIES)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_changes_exactly_its_own_keys(policy, plan_with, tmp_path):
    """With no trick, and with all of them."""
    plan = plan_with(
        ("policies: [full, head]", f"policies: [{policy}]"),
        ("mixup: }", "mixup: , no_bias_decay: , cosine: , label_smoothing: }"),
        ("[one_in]", "[all]"),
    )
    baseline, everything = (replicate.training for replicate in plan.replicates if replicate.seed == 0)
    assert everything.recipe.mixes
    for training in (baseline, everything):
        before, after = start_and_end(training, tmp_path)
        assert len(before) == 9 + 9 * 5 + 2  # convolutions, batch norms, the classifier
        assert changed(before, after) == {key for key in before if MAY_CHANGE[policy](key)}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_begins_at_the_pretrained_weights(policy, plan_with):
    plan = plan_with(("policies: [full, head]", f"policies: [{policy}]"))
    (prerequisite,) = plan.prerequisites
    source = weights.read(Path(str(prerequisite.save_to)))
    before = copy_of(initial_model(plan.replicates[0].training, CPU).state_dict())
    assert changed(source, before) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("policy", POLICIES)
def test_each_step_of_a_policy_changes_nothing_else(policy, plan_with, workspace):
    """Nothing is moved and put back, and evaluation between the epochs moves nothing."""
    plan = plan_with(("policies: [full, head]", f"policies: [{policy}]"))
    steps = watch(plan.replicates[0].training, workspace.cache)
    assert len(steps) == 6
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        assert changed(step.before, step.after) == {key for key in step.before if MAY_CHANGE[policy](key)}
        assert following is None or not changed(step.after, following.before)


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


def test_a_policy_may_begin_at_random_weights(plan_with):
    random = "policies: {scratch: {init: random, phases: [{trainable: [all], bn_stats: [all]}]}}"
    plan = plan_with(("policies: [full, head]", random))
    assert all(replicate.training.origin is None for replicate in plan.replicates)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_every_policy_says_what_it_is_and_where_it_comes_from(policy):
    assert policy.about.endswith(".")
    assert policy.source
