"""Settings of the training step: what they compute is what the plain path computes, and what they need is said."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch._dynamo.utils import counters

from harness import compute
from harness.checkpoint import Checkpoint
from harness.digest import plain
from harness.errors import NotThere
from harness.freezing.policies import POLICIES
from harness.learner import Learner, initial_model
from harness.models import weights
from harness.models.build import build_model
from harness.prefix.batch import Batch
from harness.probe import probe
from harness.records import Epoch, Finished
from harness.spec import Compile, OptimizerSpec, Train
from harness.supplies import Supplies
from harness.train import train
from harness.training import Origin, Teacher, Training
from harness.tricks.distillation import DistillationTrick
from harness.tricks.ema import EmaTrick
from harness.tricks.mixed_precision import MixedPrecisionTrick
from tests.samples import predicted
from tests.watching import BOTTLENECKS, CPU, changed, copy_of, run, two_steps

GPU = torch.device("cuda:0")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Compile as a training does but into torch's own kernels, in less time; the function counts the graphs made."""
    torch.compiler.reset()
    counters.clear()
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **how: compile(f, **{**how, "options": None}, backend="eager"))
    monkeypatch.setattr(compute, "_compiled", compute._compiled.__wrapped__)
    return lambda: counters["stats"]["unique_graphs"]


def numbers(training: Training, cache: Path) -> tuple[Any, ...]:
    """Return every number of a training that does not measure time."""
    epochs, end = run(training, cache)
    return [(e.train_loss, e.val["top1"]) for e in epochs], end.weights_sha256, predicted(end)[0].tolist(), end.changed


def trained(training: Training, folder: Path) -> dict[str, Tensor]:
    """Train, and return the weights as they are kept."""
    *_, end = train(replace(training, save_to=str(folder / "weights.pt")), Supplies(folder, CPU))
    assert isinstance(end, Finished)
    return weights.read(folder / "weights.pt")


def test_settings_are_in_the_digest_where_they_are_used() -> None:
    usual: dict[str, Any] = {"channels_last": False, "fused": False, "compile": "none"}
    assert not usual.keys() & plain(two_steps())["train"].keys()
    assert two_steps(**usual).digest == two_steps().digest
    used: list[dict[str, Any]] = [{"channels_last": True}, {"fused": True}, {"compile": "default"}]
    used += [{"compile": "reduce-overhead"}]
    assert len({two_steps(**setting).digest for setting in [{}, *used]}) == 5


SETTINGS: dict[str, dict[str, Any]] = {
    "channels_last": {"channels_last": True},
    "fused": {"fused": True},
    "compile": {"compile": "default"},
    "all": {"channels_last": True, "fused": True, "compile": "default"},
}


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("policy", ["full", "lp_ft", "head_bn"])
def test_a_training_is_the_plain_one_to_rounding(settings: dict[str, Any], policy: str, tmp_path: Path) -> None:
    """In several phases and in the average too; its weights load where the plain ones do."""
    one, other = (two_steps({"ema": EmaTrick()}, policy, lr=0.01, **each) for each in ({}, settings))
    expected, found = trained(one, tmp_path), trained(other, tmp_path)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    module = build_model(one.model, one.classes, seed=1)
    module.load_state_dict(found)
    start = initial_model(one, CPU).state_dict()
    assert changed(start, found) == changed(start, expected)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
@pytest.mark.parametrize("policy", ["full", "lp_ft"])
def test_a_fused_step_is_the_optimizers_own(name: str, policy: str, tmp_path: Path) -> None:
    plain, fused = (
        two_steps(policy=policy, optimizer=OptimizerSpec(name=name), lr=0.01, fused=on) for on in (False, True)
    )
    learner = Learner(initial_model(fused, CPU), fused)
    assert all(group["fused"] for group in learner.optimizer.param_groups)
    torch.testing.assert_close(trained(fused, tmp_path), trained(plain, tmp_path), rtol=1e-3, atol=1e-4)


class Float16:
    """What mixed precision is on CUDA, on a CPU."""

    def dtype(self, device_type: str) -> torch.dtype:  # noqa: ARG002
        return torch.float16


def test_what_is_fused_leaves_the_gradients_that_it_stepped_by() -> None:
    """In float16 too, where its kernel takes the scale off them: the check of the phase goes by them."""
    images, targets = torch.rand(4, 3, 8, 8), torch.eye(2)[[0, 1, 0, 1]]
    gradients = []
    for fused in (False, True):
        training = two_steps(fused=fused)
        training = replace(training, recipe=replace(training.recipe, precision=Float16()))
        learner = Learner(initial_model(training, CPU), training)
        learner.step(Batch(images, targets), 0.05)
        gradients.append([parameter.grad for parameter in learner.module.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_fused_step_that_overflows_leaves_nothing_behind() -> None:
    """Where it is the first, torch would keep momentum in memory as it is found."""
    training = two_steps(fused=True)
    training = replace(training, recipe=replace(training.recipe, precision=Float16()))
    learner = Learner(initial_model(training, CPU), training)
    before = copy_of(learner.module.state_dict())
    learner.step(Batch(torch.rand(4, 3, 8, 8), 1e4 * torch.eye(2)[[0, 1, 0, 1]]), 0.05)
    moved = changed(before, learner.module.state_dict())
    assert all("running" in name or "num_batches" in name for name in moved)
    assert not any(state["momentum_buffer"].any() for state in learner.optimizer.state.values())


def test_channels_last_is_how_weights_and_images_lie(tmp_path: Path) -> None:
    """Of the network, of its average and of its teacher; what is computed from them follows."""
    weights.save(build_model(BOTTLENECKS, 2, seed=9).state_dict(), tmp_path / "teacher.pt")
    tricks: dict[str, Any] = {"ema": EmaTrick(), "distillation": DistillationTrick()}
    training = two_steps(tricks, channels_last=True, model=BOTTLENECKS)
    training = replace(training, teacher=Teacher(BOTTLENECKS, Origin("teacher", str(tmp_path / "teacher.pt"))))
    learner = Learner(initial_model(training, CPU), training)
    assert learner._teacher is not None
    seen: list[Tensor] = []
    for module in (learner.module, learner.evaluated, learner._teacher):
        kernels = [parameter for parameter in module.parameters() if parameter.ndim == 4]
        assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
        for child in module.modules():
            if isinstance(child, nn.BatchNorm2d):
                child.register_forward_hook(lambda _, __, made: seen.append(made))
    learner.step(Batch(torch.rand(4, 3, 32, 32), torch.eye(2)[[0, 1, 0, 1]]), 0.05)
    assert seen
    assert all(made.is_contiguous(memory_format=torch.channels_last) for made in seen)


def test_a_graph_is_made_once_for_all_trainings_that_need_it(graphs: Callable[[], int], tmp_path: Path) -> None:
    setting: dict[str, Any] = {"compile": "default"}
    first = numbers(two_steps(**setting), tmp_path)
    assert graphs() == 1
    numbers(two_steps(seed=1, lr=0.01, **setting), tmp_path)
    assert numbers(two_steps(**setting), tmp_path) == first
    assert graphs() == 1
    numbers(two_steps(policy="lp_ft", epochs=2, **setting), tmp_path)
    assert graphs() == 2, "its second phase is `full`"
    numbers(two_steps({"mixed_precision": MixedPrecisionTrick()}, **setting), tmp_path)
    assert graphs() == 3
    numbers(two_steps(batch_size=4, **setting), tmp_path)
    assert graphs() == 4


def test_what_comes_before_it_in_its_process_changes_no_bit(graphs: Callable[[], int]) -> None:
    """However many: torch by itself stops compiling after eight graphs, and makes sizes that vary one graph."""
    training, images, targets = two_steps(compile="default"), torch.rand(16, 3, 8, 8), torch.eye(2)[[0, 1] * 8]

    def step(size: int) -> dict[str, Tensor]:
        learner = Learner(initial_model(training, CPU), training)
        learner.step(Batch(images[:size], targets[:size]), 0.05)
        return copy_of(learner.module.state_dict())

    first = step(8)
    for number, size in enumerate([*range(2, 8), *range(9, 13)], start=2):
        step(size)
        assert graphs() == number
    assert not changed(first, step(8))


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("name", [name for name, policy in POLICIES.items() if len(policy.phases) > 1])
def test_every_policy_of_several_phases_trains_compiled(name: str, tmp_path: Path) -> None:
    """The training itself compares what is frozen bit by bit."""
    run(two_steps(policy=name, epochs=4, compile="default"), tmp_path)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("settings", [SETTINGS["fused"], SETTINGS["all"]], ids=["fused", "all"])
@pytest.mark.parametrize("precision", [{}, {"mixed_precision": MixedPrecisionTrick()}], ids=["float32", "bfloat16"])
def test_a_training_goes_on_bit_for_bit(settings: dict[str, Any], precision: dict[str, Any], tmp_path: Path) -> None:
    training = two_steps({**precision, "ema": EmaTrick()}, "lp_ft", epochs=4, **settings)
    whole = resumed_after(training, tmp_path, None)
    for epoch in (1, 3):
        assert resumed_after(training, tmp_path, epoch) == whole


def resumed_after(training: Training, cache: Path, epoch: int | None) -> tuple[Any, ...]:
    """Train, broken off after an epoch and begun again; return its numbers."""
    saved: list[Checkpoint] = []

    def keep(checkpoint: Checkpoint) -> None:
        if checkpoint.epoch == epoch:
            saved.append(deepcopy(checkpoint))

    records = list(train(training, Supplies(cache, CPU), keep))
    if epoch is not None:
        records = list(train(training, Supplies(cache, CPU), saved=saved[0]))
    *epochs, end = records
    assert isinstance(end, Finished)
    return [(e.train_loss, e.val["top1"]) for e in epochs if isinstance(e, Epoch)], end.weights_sha256


@pytest.mark.usefixtures("graphs")
def test_the_probe_measures_what_is_compiled(tmp_path: Path) -> None:
    """Its memory on a CPU is that of the step as it is written, which can be counted."""
    compiled, plain = list(probe((two_steps(compile="default"), two_steps()), 1, 1, tmp_path, CPU))
    assert compiled.images_per_s > 0
    assert compiled.peak_memory_bytes == plain.peak_memory_bytes > 0


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile has no C++ compiler here")
def test_kernels_made_anew_compute_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's own compiler, not the stand-in of the other tests."""
    training = two_steps(policy="head", epochs=2, compile="default", fused=True, channels_last=True)
    whole = resumed_after(training, tmp_path, None)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    torch.compiler.reset()
    assert resumed_after(training, tmp_path, 1) == whole
    assert any((tmp_path / "kernels").rglob("*.cpp"))
    expected = numbers(two_steps(policy="head", epochs=2), tmp_path)
    assert whole[0][-1] == pytest.approx(expected[0][-1], rel=1e-4)


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_graphs_are_for_gpus(mode: Compile) -> None:
    training = two_steps(compile=mode)
    compute.check(training.train, GPU)
    with pytest.raises(NotThere, match=f"{mode} records CUDA graphs, .* none on cpu; legal there: none, default"):
        Learner(initial_model(training, CPU), training)


def test_a_compiler_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    modes: list[Compile] = ["default", "max-autotune-no-cudagraphs"]
    for mode in modes:
        with pytest.raises(NotThere, match=rf"train.compile: {mode} on cpu needs a C\+\+ compiler, and there is no"):
            compute.check(two_steps(compile=mode).train, CPU)
    compute.check(two_steps().train, CPU)
    compute.check(two_steps(compile="default").train, GPU)


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_no_gradients_are_added_up_over_graphs(mode: Compile) -> None:
    with pytest.raises(ValidationError, match="records CUDA graphs"):
        Train(epochs=1, batch_size=8, lr=0.1, accumulate=2, compile=mode)
    Train(epochs=1, batch_size=8, lr=0.1, accumulate=2, compile="max-autotune-no-cudagraphs")


def test_only_modes_named_for_it_choose_kernels_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "compile", lambda _, **how: asked.append(how))
    modes: list[Compile] = ["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
    for mode in modes:
        compute._compiled.__wrapped__(mode)
    assert [each["options"]["deterministic"] for each in asked] == [True, True, False, False]
    assert [each["options"].get("triton.cudagraphs", False) for each in asked] == [False, True, True, False]
    assert all(each["fullgraph"] and each["dynamic"] is False for each in asked)
