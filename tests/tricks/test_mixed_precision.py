from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.evaluate import predict
from harness.learner import Learner, initial_model
from harness.prefix.batch import Batch
from harness.recipe import Conflict, Recipe
from harness.tricks.mixed_precision import HalfPrecision, MixedPrecisionTrick
from tests.watching import CPU, changed, copy_of, run, two_steps, watch

MIXED = {"mixed_precision": MixedPrecisionTrick()}
IMAGES, TARGETS = torch.rand(4, 3, 8, 8), torch.eye(2)[[0, 1, 0, 1]]
HALF = {"cpu": torch.bfloat16, "cuda": torch.float16}

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
    ),
]


def types_of_outputs(module: nn.Module) -> dict[str, torch.dtype]:
    """Return a dict that fills, as `module` runs, with the types of what its layers put out."""
    found: dict[str, torch.dtype] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _, __, output, name=name: found.update({name: output.dtype}))
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("policy", ["full", "full_bn_frozen", "head", "head_bn"])
def test_layers_compute_in_16_bits_and_weights_stay_in_32(policy, device):
    training = two_steps(MIXED, policy=policy)
    module = initial_model(training, torch.device(device))
    before = copy_of(module.cpu().state_dict())
    learner = Learner(module.to(device), training)
    types = types_of_outputs(learner.module)
    for _ in range(2):
        loss = learner.step(Batch(IMAGES.to(device), TARGETS.to(device)), 0.05)
    assert len(types) > 7
    assert set(types.values()) == {HALF[device]}
    assert loss.dtype == torch.float32
    tensors = [*module.parameters(), *(buffer for buffer in module.buffers() if buffer.is_floating_point())]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)
    assert changed(before, module.cpu().state_dict()) == training.phases[0].moving


def test_evaluation_is_in_float32(tmp_path, monkeypatch):
    """The test predictions of the trained weights are those of a plain network."""
    seen: list[set[torch.dtype]] = []

    def spy(module, *rest):
        types = types_of_outputs(module)
        predictions = predict(module, *rest)
        seen.append(set(types.values()))
        return predictions

    monkeypatch.setattr("harness.tasks.classification.predict", spy)
    run(two_steps(MIXED), tmp_path)
    assert seen == [{torch.float32}] * 2


def test_a_step_is_near_that_in_float32():
    losses: dict[bool, Tensor] = {}
    biases: dict[bool, Tensor] = {}
    for mixed in (False, True):
        training = two_steps(MIXED if mixed else {})
        learner = Learner(initial_model(training, CPU), training)
        losses[mixed] = learner.step(Batch(IMAGES, TARGETS), 0.05)
        biases[mixed] = learner.module.get_parameter("fc.bias").detach()
    assert not torch.equal(losses[False], losses[True])
    # bfloat16 has eight bits.
    torch.testing.assert_close(losses[True], losses[False], rtol=2**-5, atol=2**-6)
    torch.testing.assert_close(biases[True], biases[False], rtol=2**-5, atol=2**-8)


def test_the_step_is_that_of_a_loop_written_by_hand(tmp_path):
    training = two_steps(MIXED, epochs=2)
    steps = watch(training, tmp_path)
    module = initial_model(training, CPU).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
    for step in steps:
        optimizer.param_groups[0]["lr"] = step.lr
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = module(step.images)
        F.cross_entropy(logits.float(), step.targets).backward()
        optimizer.step()
        assert not changed(copy_of(module.state_dict()), step.after)


def test_the_loss_is_scaled_where_floats_are_small():
    """Half-precision floats end at 65,504 on CUDA; those of a CPU reach as far as float32."""
    assert HalfPrecision().dtype("cuda") == torch.float16
    assert HalfPrecision().dtype("cpu") == torch.bfloat16
    training = two_steps(MIXED)
    assert Learner(initial_model(training, CPU), training).state()["scaler"] == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_cuda_the_loss_is_scaled():
    training = two_steps(MIXED)
    learner = Learner(initial_model(training, torch.device("cuda")), training)
    learner.step(Batch(IMAGES.cuda(), TARGETS.cuda()), 0.05)
    assert learner.state()["scaler"]["scale"] >= 1024


def test_it_changes_the_training(tmp_path):
    hashes = {run(replace(two_steps(tricks)), tmp_path)[1].weights_sha256 for tricks in ({}, MIXED)}
    assert len(hashes) == 2


def test_trick_owns_the_precision_and_nothing_else():
    recipe = MixedPrecisionTrick()(Recipe())
    assert recipe == Recipe(precision=HalfPrecision())
    with pytest.raises(Conflict, match="both HalfPrecision and HalfPrecision would own the precision"):
        MixedPrecisionTrick()(recipe)


def test_it_has_no_parameters(read_trick):
    assert read_trick("mixed_precision: ") == MixedPrecisionTrick()
