from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harness import optimizers
from harness.errors import HarnessError
from harness.freezing.policies import Phase, Policy
from harness.freezing.resolve import resolve
from harness.learner import initial_model
from harness.models.build import layout_of
from harness.recipe import ParamRule
from harness.spec import OptimizerSpec
from tests.watching import CPU, SMALL, changed, copy_of, run, two_steps, watch

NESTEROV = {"momentum": 0.9, "nesterov": True}


def test_names_are_those_that_train_by_rate_and_decay():
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adadelta", "Adamax", "Adafactor"} <= set(
        optimizers.names()
    )
    assert optimizers.names() == sorted(optimizers.names())


@pytest.mark.parametrize(
    "name", ["Rprop", "LBFGS", "SparseAdam", "Muon", "ASGD", "Optimizer", "lr_scheduler", "sgd", "Lion", "__name__", ""]
)
def test_what_cannot_train_so_is_refused_with_what_can(name):
    with pytest.raises(HarnessError, match=f"^unknown optimizer {name!r}; legal: Adadelta, .*SGD") as refused:
        optimizers.check(OptimizerSpec(name=name))
    assert name not in str(refused.value).partition("legal: ")[2].partition(".")[0].split(", ")


def test_a_name_nearly_right_is_guessed():
    with pytest.raises(HarnessError, match=r"Did you mean 'AdamW'\?"):
        optimizers.check(OptimizerSpec(name="AdanW"))


@pytest.mark.parametrize("name", optimizers.names())
@pytest.mark.parametrize("policy", ["full", "head"])
def test_each_trains_and_moves_what_the_policy_says(name, policy, tmp_path):
    """The training itself raises FreezeViolation; here the bytes are compared once more."""
    training = two_steps(policy=policy, optimizer=OptimizerSpec(name=name), lr=0.01)
    steps = watch(training, tmp_path)
    assert len(steps) == 2
    learning = {name for name, _ in layout_of(SMALL, 2).parameters} if policy == "full" else {"fc.weight", "fc.bias"}
    moved = changed(steps[0].before, steps[-1].after)
    assert {each for each in moved if "running" not in each and "num_batches" not in each} == learning


@pytest.mark.parametrize("name", optimizers.names())
def test_each_honours_the_decay_of_each_group(name):
    """Without a gradient of their own, parameters with decay shrink and those without stand still."""
    decayed, plain = (nn.Parameter(torch.ones(3)) for _ in range(2))
    groups = [{"params": [decayed], "weight_decay": 0.1}, {"params": [plain], "weight_decay": 0.0}]
    optimizer = optimizers.make(OptimizerSpec(name=name), groups, lr=0.01)
    assert type(optimizer) is getattr(torch.optim, name)
    for _ in range(3):
        for parameter in (decayed, plain):
            parameter.grad = torch.zeros(3)
        optimizer.step()
    assert (decayed < 1).all()
    assert torch.equal(plain, torch.ones(3))


@pytest.mark.parametrize(
    ("spec", "make"),
    [
        (OptimizerSpec(), lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)),
        (
            OptimizerSpec(name="AdamW", options={"betas": (0.8, 0.95), "amsgrad": True}),
            lambda groups: torch.optim.AdamW(groups, lr=0.05, betas=(0.8, 0.95), amsgrad=True),
        ),
    ],
    ids=["SGD", "AdamW"],
)
def test_a_training_is_a_loop_written_by_hand_bit_for_bit(spec, make, tmp_path):
    phases = resolve(
        Policy((Phase(("all",), ("all",)),)),
        layout_of(SMALL, 2),
        weight_decay=0.01,
        rules=(ParamRule(ndim=1, weight_decay_factor=0.0),),
    )
    training = replace(two_steps(optimizer=spec, epochs=2, weight_decay=0.01), phases=phases)
    steps = watch(training, tmp_path)

    module = initial_model(training, CPU).train()
    vectors = [parameter for parameter in module.parameters() if parameter.ndim == 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    optimizer = make([{"params": others, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}])
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = step.lr
        optimizer.zero_grad()
        F.cross_entropy(module(step.images), step.targets).backward()
        optimizer.step()
        assert not changed(copy_of(module.state_dict()), step.after)


def test_sgd_has_the_papers_momentum_unless_told_otherwise():
    assert optimizers.options(OptimizerSpec()) == NESTEROV
    assert optimizers.options(OptimizerSpec(options={"momentum": 0.5})) == {**NESTEROV, "momentum": 0.5}
    assert optimizers.options(OptimizerSpec(name="RMSprop")) == {}


def test_options_reach_the_optimizer():
    spec = OptimizerSpec.model_validate_json('{"name": "Adam", "options": {"betas": [0.5, 0.6], "amsgrad": true}}')
    optimizers.check(spec)
    optimizer = optimizers.make(spec, [{"params": [nn.Parameter(torch.ones(1))]}], lr=0.25)
    assert optimizer.defaults["betas"] == (0.5, 0.6)
    assert optimizer.defaults["amsgrad"] is True
    assert optimizer.defaults["lr"] == 0.25


@pytest.mark.parametrize("option", ["lr", "weight_decay", "params", "foreach", "fused", "maximize", "betas"])
def test_an_option_that_is_none_of_sgds_or_not_the_users_is_refused(option):
    with pytest.raises(HarnessError, match=f"^unknown option of SGD '{option}'; legal: momentum, dampening, nesterov"):
        optimizers.check(OptimizerSpec(options={option: 0.5}))


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("SGD", {"momentum": -1.0}, "Invalid momentum value: -1.0"),
        ("SGD", {"momentum": 0.0}, "Nesterov momentum requires a momentum"),
        ("Adam", {"betas": (0.9, 2.0)}, "Invalid beta parameter at index 1: 2.0"),
        ("Adam", {"betas": 0.9}, "not subscriptable"),
    ],
)
def test_a_value_that_torch_refuses_is_named_with_torchs_reason(name, options, why):
    with pytest.raises(HarnessError, match=f"^{name} refuses .*{why}"):
        optimizers.check(OptimizerSpec(name=name, options=options))


@pytest.mark.parametrize("name", optimizers.names())
def test_all_that_are_legal_pass(name):
    optimizers.check(OptimizerSpec(name=name))


def test_the_optimizer_changes_the_training(tmp_path):
    hashes = {
        name: run(two_steps(optimizer=OptimizerSpec(name=name), lr=0.01), tmp_path)[1].weights_sha256
        for name in optimizers.names()
    }
    assert len(set(hashes.values())) == len(hashes)


@pytest.mark.parametrize("name", sorted({*optimizers.names()} - {"SGD", "Adam", "AdamW", "Adagrad"}))
def test_an_optimizer_without_a_fused_step_is_refused_with_those_that_have_one(name):
    optimizers.check(OptimizerSpec(name=name))
    with pytest.raises(HarnessError, match=f"^train.fused: {name} has no fused step; .*AdamW, SGD have one"):
        optimizers.check(OptimizerSpec(name=name), fused=True)


def test_a_fused_sgd_has_no_dampening():
    """It begins with momentum of 0, from which a first gradient would be damped; other SGDs take the first as it is."""
    damped = OptimizerSpec(options={"momentum": 0.9, "nesterov": False, "dampening": 0.1})
    optimizers.check(damped)
    with pytest.raises(HarnessError, match="leave `dampening` out"):
        optimizers.check(damped, fused=True)
