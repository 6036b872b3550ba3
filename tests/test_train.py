from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import harness
from harness import data
from harness import train as loop
from harness.bits import state_sha256
from harness.data import ImageSet
from harness.data.augment import random_crop
from harness.data.batches import Batches
from harness.data.normalise import Normalise
from harness.evaluate import predict
from harness.learner import Learner, initial_model
from harness.models import weights
from harness.plan import Plan
from harness.records import Epoch, Finished
from harness.seeds import derive
from harness.spec import Augment
from harness.supplies import Supplies
from harness.tricks import TRICKS, Trick
from harness.tricks.warmup import WarmupTrick
from tests.samples import pixels_of, predicted
from tests.watching import BOTTLENECKS, CPU, changed, copy_of, run, two_steps, watch

ALL: dict[str, Trick] = {name: kind() for name, kind in TRICKS.items()} | {"warmup": WarmupTrick(epochs=1)}
FIVE = {name: ALL[name] for name in ("warmup", "no_bias_decay", "cosine", "label_smoothing", "mixup")}
AUGMENT = Augment(flip=True, crop_padding=1)


@pytest.fixture
def ready(plan: Plan, workspace) -> Plan:
    """The tiny plan with its pretrained weights made."""
    for prerequisite in plan.prerequisites:
        run(prerequisite.training, workspace.cache)
    return plan


def epoch_losses(tricks: dict[str, Trick], folder: Path) -> list[float]:
    epochs, _ = run(two_steps(tricks, epochs=3, weight_decay=0.01, augment=AUGMENT), folder)
    return [record.train_loss for record in epochs]


def test_golden_losses(tmp_path):
    """The numbers of two tiny trainings, to a tolerance because bits differ between processors.

    A change here means that finished trainings can no longer stand for new ones: raise harness.NUMERICS with it.
    """
    assert harness.NUMERICS == 2
    assert epoch_losses({}, tmp_path) == pytest.approx([0.776413, 0.610702, 0.598523], rel=1e-3)
    assert epoch_losses(FIVE, tmp_path) == pytest.approx([0.730341, 0.607006, 0.539901], rel=1e-3)


@pytest.mark.parametrize("tricks", [{}, ALL], ids=["baseline", "all tricks"])
def test_the_same_training_gives_the_same_bits(tricks, tmp_path):
    training = two_steps(tricks, model=BOTTLENECKS, epochs=2, seed=3, augment=AUGMENT)
    torch.manual_seed(1)
    epochs, one = run(training, tmp_path)
    torch.manual_seed(2)  # the state of the process does not matter
    again, other = run(training, tmp_path)
    assert one.weights_sha256 == other.weights_sha256
    assert [record.train_loss for record in epochs] == [record.train_loss for record in again]
    assert np.array_equal(predicted(one)[0], predicted(other)[0])


def test_seeds_differ_in_weights_training_images_and_their_order(tmp_path):
    one, other = (watch(two_steps(seed=seed), tmp_path) for seed in (0, 1))
    assert changed(one[0].before, other[0].before) >= {"conv1.weight", "fc.weight", "fc.bias"}
    everything = [sorted(image.numpy().tobytes() for step in steps for image in step.images) for steps in (one, other)]
    assert everything[0] != everything[1]
    assert changed(one[-1].after, other[-1].after) >= {"conv1.weight", "fc.weight"}


@pytest.mark.parametrize(
    "augment", [Augment(), Augment(flip=True), Augment(crop_padding=2)], ids=["order", "flip", "crop"]
)
def test_each_draw_of_a_batch_is_the_seeds_own(augment):
    """On the same images: where a flip or a crop is drawn they are all one image, so that their order says nothing."""
    images = torch.arange(16 * 3 * 64, dtype=torch.uint8).view(16, 3, 8, 8)
    images = images if augment == Augment() else images[:1].expand(16, -1, -1, -1)
    same = ImageSet(images, torch.zeros(16, dtype=torch.int64))
    drawn = []
    for seed in (0, 1, 0):
        batches = Batches(two_steps(seed=seed, augment=augment), same, CPU)
        drawn.append(torch.cat([inputs for inputs, _ in batches.epoch()]))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_each_epoch_has_the_same_images_in_another_order(tmp_path):
    steps = watch(two_steps(epochs=2), tmp_path)
    first, second = (
        [image.numpy().tobytes() for step in part for image in step.images] for part in (steps[:2], steps[2:])
    )
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 16


def test_cells_of_a_seed_start_alike_and_see_the_same_images(ready, workspace, monkeypatch):
    """Whatever policy or trick is on: subset, order, flips and crops are spied on before any trick maps them."""
    seen: list[bytes] = []

    def spy(*arguments):
        images = random_crop(*arguments)
        seen.append(images.numpy().tobytes())
        return images

    monkeypatch.setattr("harness.data.batches.random_crop", spy)
    by_seed: dict[int, set[tuple[bytes, ...]]] = {}
    starts: dict[int, set[str]] = {}
    for replicate in ready.replicates:
        seen.clear()
        start = initial_model(replicate.training, CPU).state_dict()
        starts.setdefault(replicate.seed, set()).add(state_sha256(start))
        run(replicate.training, workspace.cache)
        assert len(set(seen)) == 6
        by_seed.setdefault(replicate.seed, set()).add(tuple(seen))
    assert {seed: len(streams) for seed, streams in by_seed.items()} == {0: 1, 1: 1}
    assert {seed: len(states) for seed, states in starts.items()} == {0: 1, 1: 1}
    assert by_seed[0] != by_seed[1]
    assert starts[0] != starts[1]


def test_the_head_comes_from_the_seed_and_the_backbone_from_the_weights(ready):
    (prerequisite,) = ready.prerequisites
    source = weights.read(Path(str(prerequisite.training.save_to)))
    by_seed = {
        replicate.seed: copy_of(initial_model(replicate.training, CPU).state_dict()) for replicate in ready.replicates
    }
    assert changed(source, by_seed[0]) == changed(by_seed[0], by_seed[1]) == {"fc.weight", "fc.bias"}
    random = replace(ready.replicates[0].training, origin=None)
    assert not changed(
        {"fc.weight": by_seed[0]["fc.weight"]},
        {"fc.weight": initial_model(random, CPU).state_dict()["fc.weight"]},
    )


def test_layers_that_draw_do_so_from_the_seed():
    def dropped() -> list[float]:
        drawn: list[float] = F.dropout(torch.ones(64), 0.5).tolist()
        return drawn

    draws = {}
    for seed in (0, 1):
        torch.manual_seed(99)
        initial_model(two_steps(seed=seed), CPU)
        draws[seed] = dropped()
        torch.manual_seed(derive(seed, "layers"))
        assert dropped() == draws[seed]
    assert draws[0] != draws[1]


def test_records_say_what_was_trained_and_how_far(ready, workspace):
    training = next(r.training for r in ready.replicates if r.cell.policy == "head")
    records = list(loop.train(training, Supplies(workspace.cache, CPU)))
    assert [type(record) for record in records] == [Epoch, Epoch, Finished]
    assert {record.digest for record in records} == {training.digest}
    epochs, last = run(training, workspace.cache)
    assert [(record.epoch, record.step) for record in epochs] == [(1, 3), (2, 6)]
    assert all(0 <= record.val["top1"] <= 1 for record in epochs)
    stamps = [*(record.timestamp for record in epochs), last.timestamp]
    assert stamps == sorted(stamps)
    assert 1.6e12 < stamps[0] < 1e13  # milliseconds
    assert last.trainable_params == 64 * 3 + 3
    assert last.wall_s > 0
    # 30 % of 182 fives, 181 sixes and 179 sevens.
    predictions, labels = predicted(last)
    assert np.bincount(labels).tolist() == [55, 54, 54]
    assert predictions.shape == labels.shape
    assert predictions.dtype == np.int64
    assert last.test == {"top1": pytest.approx((predictions == labels).sum() / 163)}


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps(tmp_path):
    training = two_steps(epochs=2)
    losses = [step.loss for step in watch(training, tmp_path)]
    epochs, _ = run(training, tmp_path)
    assert [record.train_loss for record in epochs] == pytest.approx(
        [sum(losses[:2]) / 2, sum(losses[2:]) / 2], rel=1e-6
    )


def test_validation_is_looked_at_each_epoch_and_test_once_at_the_end(tmp_path, monkeypatch):
    splits = data.load(two_steps().located_data, "digits", 0, tmp_path, CPU)
    looked = []

    def spy(module, images, normalise):
        looked.append("test" if torch.equal(pixels_of(images), pixels_of(splits.test)) else "val")
        assert looked[-1] == "test" or torch.equal(pixels_of(images), pixels_of(splits.val))
        return predict(module, images, normalise)

    monkeypatch.setattr("harness.tasks.classification.predict", spy)
    run(two_steps(epochs=3), tmp_path)
    assert looked == ["val", "val", "val", "test"]


def test_every_epoch_trains_in_training_mode(tmp_path):
    """Evaluation between the epochs leaves evaluation mode behind, in which statistics would stand still."""
    steps = watch(two_steps(epochs=3), tmp_path)
    assert [int(step.after["bn1.num_batches_tracked"]) for step in steps] == [1, 2, 3, 4, 5, 6]


def test_trainable_params_counts_what_learns_in_any_phase():
    full, head = two_steps(), two_steps(policy="head")
    module = initial_model(full, CPU)
    everything = sum(parameter.numel() for parameter in module.parameters())
    both = replace(full, phases=(head.phases[0], replace(head.phases[0], start=0.5)))
    later = replace(full, phases=(head.phases[0], replace(full.phases[0], start=0.5)))
    counts = [loop.trainable_params(module, training) for training in (full, head, both, later)]
    assert counts == [everything, 130, 130, everything]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(loss, tmp_path, monkeypatch):
    take, count = Learner.step, iter(range(100))

    def spy(*arguments):
        taken = take(*arguments)
        return taken if next(count) != 3 else torch.tensor(loss)

    monkeypatch.setattr(Learner, "step", spy)
    records = loop.train(two_steps(epochs=3), Supplies(tmp_path, CPU))
    first = next(records)
    assert isinstance(first, Epoch)
    assert first.epoch == 1
    with pytest.raises(loop.Diverged, match=f"^training loss is {loss} in epoch 2$"):
        next(records)


def test_a_learning_rate_far_too_high_diverges(tmp_path):
    with pytest.raises(loop.Diverged, match=r"^training loss is (nan|inf) in epoch \d$"):
        run(two_steps(epochs=4, lr=1e6), tmp_path)


def test_a_batch_of_more_than_all_images_is_refused(tmp_path):
    run(two_steps(batch_size=16), tmp_path)
    with pytest.raises(ValueError, match="16 training images do not fill a batch of 17"):
        run(two_steps(batch_size=17), tmp_path)


def test_a_last_batch_that_is_not_full_is_left_out(tmp_path):
    steps = watch(two_steps(batch_size=5), tmp_path)
    assert [len(step.images) for step in steps] == [5, 5, 5]


def test_saved_weights_are_those_that_were_tested_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "weights.pt"
    training = replace(two_steps(), save_to=str(path))
    steps = watch(training, tmp_path)
    state = weights.read(path)
    assert not changed(state, steps[-1].after)
    _, last = run(training, tmp_path)
    assert state_sha256(state) == last.weights_sha256

    module = initial_model(two_steps(seed=7), CPU)
    module.load_state_dict(state)
    splits = data.load(training.located_data, training.data_content, training.seed, tmp_path, CPU)
    predictions = predict(module, splits.test, Normalise(training.data, CPU))
    assert np.array_equal(predictions.numpy(), predicted(last)[0])


def test_a_training_that_saves_nothing_writes_nothing(tmp_path):
    run(two_steps(), tmp_path)
    assert not list(tmp_path.rglob("*.pt"))


def test_weights_sha256_is_of_names_and_bits():
    state = {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor(3)}
    sha = state_sha256(state)
    assert sha == state_sha256(copy_of(state))
    for other in (
        {**state, "a": torch.tensor([-0.0, 1.0])},
        {"a": state["a"], "c": state["b"]},
        {**state, "b": torch.tensor(4)},
    ):
        assert state_sha256(other) != sha
