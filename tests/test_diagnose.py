"""What batch norm does in a trained network, against normalisations and divergences written out by hand."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm as gaussian
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from harness import data
from harness import train as loop
from harness.bits import state_sha256
from harness.data import ImageSet, Splits
from harness.data.normalise import Normalise
from harness.diagnose import (
    BATCH_SIZES,
    Moments,
    diagnose,
    divergence,
    input_moments,
    measure,
    top1_by_batch,
    with_head_of,
)
from harness.evaluate import predict, top1
from harness.learner import initial_model
from harness.models import weights
from harness.records import Diagnosed, Figure, Finished
from harness.seeds import stream
from harness.supplies import Supplies
from tests.watching import CPU, TWO_CLASSES, changed, copy_of, run, two_steps

NORMALISE = Normalise(TWO_CLASSES, CPU)


def images(count: int, side: int = 4, seed: int = 0) -> ImageSet:
    """Return noise, each image of another colour."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 156, (count, 3, side, side)) + rng.integers(0, 100, (count, 3, 1, 1))
    return ImageSet(torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(rng.integers(0, 5, count)))


def splits(train: int = 12, test: int = 70, side: int = 4) -> Splits:
    return Splits(images(train, side=side, seed=1), images(4, side=side), images(test, side=side), 0)


class Net(nn.Module):
    """One batch norm over the pixels between two layers, statistics far from those of the images; and dropout."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 6, 3, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(6, 5)
        nn.init.normal_(self.fc.weight)
        if norm:
            nn.init.normal_(self.get_parameter("norm.weight"))
            nn.init.normal_(self.get_parameter("norm.bias"))
            self.get_buffer("norm.running_mean").normal_()
            self.get_buffer("norm.running_var").uniform_(0.5, 2.0)

    def forward(self, batch: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.drop(self.norm(self.conv(batch)).relu()).mean(dim=(2, 3)))
        return logits


def by_hand(net: Net, batch: Tensor) -> np.ndarray:
    """Return the classes that `net` predicts with batch norm by the statistics of `batch`, in numpy."""
    with torch.no_grad():
        hidden = net.conv(NORMALISE(batch)).double().numpy()
    mean, var = hidden.mean(axis=(0, 2, 3), keepdims=True), hidden.var(axis=(0, 2, 3), keepdims=True)
    state = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    gamma, beta = (state[f"norm.{name}"][None, :, None, None] for name in ("weight", "bias"))
    normed = np.maximum(gamma * (hidden - mean) / np.sqrt(var + 1e-5) + beta, 0).mean(axis=(2, 3))
    return (normed @ state["fc.weight"].T + state["fc.bias"]).argmax(axis=1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [1, 8, 64])
def test_top1_by_batch_is_that_of_a_normalisation_by_hand(size):
    """The order is drawn, so that a batch mixes classes; the last batch is filled up with the first images."""
    net, test = Net(), images(70)
    order = stream(0, "order of the diagnosis").permutation(70)
    filled = np.concatenate([order, order])
    classes = np.full(70, -1)
    for begin in range(0, 70, size):
        rows = filled[begin : begin + size]
        counted = min(size, 70 - begin)
        classes[rows[:counted]] = by_hand(net, test.images[rows])[:counted]
    labelled = ImageSet(test.images, torch.from_numpy(classes))
    assert {other: top1_by_batch(net, labelled, NORMALISE, other) == 1 for other in (1, 8, 64)} == {
        other: other == size for other in (1, 8, 64)
    }


def test_top1_by_one_batch_of_all_images_is_that_of_torch_in_training_mode():
    net, test = Net(), images(64)
    net.drop.p = 0.0
    with torch.no_grad():
        labelled = ImageSet(test.images, copy.deepcopy(net).train()(NORMALISE(test.images)).argmax(1))
    assert top1(predict(net, labelled, NORMALISE), labelled.labels) < 1
    assert top1_by_batch(net, labelled, NORMALISE, 64) == 1


def test_each_image_is_predicted_once_among_as_many_as_any_other():
    seen: list[Tensor] = []
    net, test = Net(), images(19)
    net.conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    top1_by_batch(net, test, NORMALISE, 8)
    assert [len(batch) for batch in seen] == [8, 8, 8]
    drawn = torch.cat(seen)
    assert torch.equal(drawn[:5], drawn[19:])
    assert {image.numpy().tobytes() for image in drawn[:19]} == {
        image.numpy().tobytes() for image in NORMALISE(test.images)
    }


def test_moments_of_batches_are_those_of_the_whole():
    values = np.random.default_rng(0).normal(1000.0, 0.1, (50, 3, 4, 2))
    moments = Moments()
    for part in np.split(values, [1, 20, 27]):
        moments.add(torch.from_numpy(part))
    assert moments.count == 400
    np.testing.assert_allclose(moments.mean, values.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(moments.var, values.var(axis=(0, 2, 3), ddof=1), rtol=1e-9)


def test_moments_are_of_what_reaches_the_layer_in_evaluation(monkeypatch):
    """In batches, and by running statistics: the second layer's inputs depend on how the first normalises."""
    monkeypatch.setattr("harness.diagnose.BATCH", 5)
    first = Net()
    net = nn.Sequential(first.conv, first.norm, nn.Conv2d(6, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    train = images(12)
    before = copy_of(net.state_dict())
    found = input_moments(net, train, NORMALISE)
    assert list(found) == ["1", "3"]
    assert not changed(before, copy_of(net.state_dict()))
    with torch.no_grad():
        hidden = first.conv(NORMALISE(train.images)).double()
        expected = [hidden]
        mean, var = (net.get_buffer(f"1.running_{name}").double()[:, None, None] for name in ("mean", "var"))
        gamma, beta = (net.get_parameter(f"1.{name}").double()[:, None, None] for name in ("weight", "bias"))
        expected.append(net[2].double()(gamma * (hidden - mean) / (var + 1e-5).sqrt() + beta))
    for moments, values in zip(found.values(), expected, strict=True):
        assert moments.count == 12 * 4
        np.testing.assert_allclose(moments.mean, values.mean(dim=(0, 2, 3)), atol=1e-5)
        np.testing.assert_allclose(moments.var, values.var(dim=(0, 2, 3)), rtol=1e-5)
    assert not net[1]._forward_pre_hooks


def moments_of(mean: list[float], var: list[float]) -> Moments:
    """Moments of two values a channel: mean ± the sd for which the unbiased variance is `var`."""
    spread = (torch.tensor(var, dtype=torch.float64) / 2).sqrt()
    moments = Moments()
    moments.add(torch.stack([torch.tensor(mean, dtype=torch.float64) + sign * spread for sign in (1, -1)]))
    return moments


def expecting(mean: list[float], var: list[float]) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(len(mean))
    norm.running_mean, norm.running_var = torch.tensor(mean), torch.tensor(var)
    return norm


def test_divergence_is_kullback_and_leibler_s_of_gaussians():
    """Against torch's own, its mean over channels, and against the integral that defines it."""
    mean, var, running_mean, running_var = [0.5, -1.0, 3.0], [0.1, 2.0, 9.0], [0.0, -1.0, 1.0], [1.0, 0.5, 4.0]
    found = divergence(expecting(running_mean, running_var), moments_of(mean, var))
    here, there = (
        Normal(torch.tensor(m, dtype=torch.float64), (torch.tensor(v, dtype=torch.float64) + 1e-5).sqrt())
        for m, v in ((mean, var), (running_mean, running_var))
    )
    assert found == pytest.approx(kl_divergence(here, there).mean().item(), rel=1e-6)

    one, other = gaussian(0.5, np.sqrt(0.1 + 1e-5)), gaussian(0.0, np.sqrt(1 + 1e-5))
    integral, _ = quad(lambda x: one.pdf(x) * (one.logpdf(x) - other.logpdf(x)), -3, 4)
    assert divergence(expecting([0.0], [1.0]), moments_of([0.5], [0.1])) == pytest.approx(integral, rel=1e-6)


def test_divergence_has_no_unit():
    small = divergence(expecting([1.0], [4.0]), moments_of([2.0], [3.0]))
    large = divergence(expecting([1e3], [4e6]), moments_of([2e3], [3e6]))
    assert small == pytest.approx(large, rel=1e-4)


def test_a_dead_channel_counts_nothing():
    assert divergence(expecting([0.0], [0.0]), moments_of([0.0], [0.0])) == 0


def test_statistics_that_are_those_of_the_images_have_no_divergence():
    """As torch takes them itself, from one batch of all images in training mode."""
    net, train = Net(), images(64)
    assert isinstance(net.norm, nn.BatchNorm2d)
    assert divergence(net.norm, input_moments(net, train, NORMALISE)["norm"]) > 0.1
    net.norm.momentum = 1.0
    net.train()(NORMALISE(train.images))
    assert divergence(net.norm, input_moments(net, train, NORMALISE)["norm"]) == pytest.approx(0, abs=1e-9)


def test_the_trained_head_goes_over_the_backbone_it_did_not_train_on():
    start, end = Net(), Net()
    with torch.no_grad():
        for tensor in end.state_dict().values():
            tensor.add_(1)
    mixed = with_head_of(end, start, ("fc",))
    assert changed(start.state_dict(), mixed.state_dict()) == {"fc.weight", "fc.bias"}
    assert changed(end.state_dict(), mixed.state_dict()) == {name for name in end.state_dict() if name[:3] != "fc."}


def values(figures) -> dict[tuple[str, str], Any]:
    return {(figure.name, figure.layer): figure.value for figure in figures}


def test_figures_are_of_the_network_they_name():
    start, end, parts = Net(), Net(), splits()
    with torch.no_grad():
        for tensor in end.state_dict().values():
            tensor.mul_(2)
    figures = values(measure(start, end, ("fc",), parts, NORMALISE))
    assert list(figures) == [
        *((f"test_top1_batch_{size}", "") for size in BATCH_SIZES),
        ("test_top1_source_backbone", ""),
        ("shift_start", "norm"),
        ("shift_end", "norm"),
    ]
    assert figures["test_top1_batch_8", ""] == top1_by_batch(end, parts.test, NORMALISE, 8)
    over_source = predict(with_head_of(end, start, ("fc",)), parts.test, NORMALISE)
    assert figures["test_top1_source_backbone", ""] == top1(over_source, parts.test.labels)
    for name, net in (("shift_start", start), ("shift_end", end)):
        moments = input_moments(net, parts.train, NORMALISE)["norm"]
        assert figures[name, "norm"] == divergence(net.norm, moments)
    assert figures["shift_start", "norm"] != figures["shift_end", "norm"]


def test_a_figure_that_cannot_be_taken_says_why():
    """The convolution leaves one pixel of three by three, so that a batch of one has one value a channel."""
    found = measure(Net(), Net(), ("fc",), splits(side=3, test=20), NORMALISE)
    assert found[:3] == (
        Figure("test_top1_batch_1", "", None, "norm sees one value per channel"),
        Figure("test_top1_batch_8", "", found[1].value),
        Figure("test_top1_batch_64", "", None, "there are 20 test images"),
    )
    assert found[1].value is not None


def test_a_network_without_batch_norm_says_so_and_has_no_shift():
    found = measure(Net(norm=False), Net(norm=False), ("fc",), splits(), NORMALISE)
    assert [figure.reason for figure in found] == ["the network has no batch norm"] * 3 + [""]
    assert found[-1].name == "test_top1_source_backbone"


def test_a_training_without_diagnosis_is_another_training():
    assert replace(two_steps(), diagnose=True).digest != two_steps().digest


@pytest.mark.parametrize("policy", ["full", "head", "head_bn"])
def test_a_diagnosis_changes_no_number_of_the_training(policy, tmp_path):
    """Nor the saved weights."""
    records, files = [], []
    for asked in (False, True):
        path = tmp_path / f"{asked}.pt"
        training = replace(two_steps(policy=policy), diagnose=asked, save_to=str(path))
        epochs, finished = run(training, tmp_path)
        files.append(state_sha256(weights.read(path)))
        records.append((epochs, finished))
    assert files[0] == files[1]
    (plain_epochs, plain), (epochs, finished) = records
    for one, other in zip(plain_epochs, epochs, strict=True):
        assert replace(one, timestamp=0, digest="") == replace(other, timestamp=0, digest="")
    ours, theirs = (vars(replace(record, digest="", timestamp=0, wall_s=0.0)) for record in (plain, finished))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert np.array_equal(value, theirs[name]), name


def test_a_diagnosis_leaves_network_and_generator_as_they_were(tmp_path):
    training = two_steps()
    parts = data.load(training.located_data, training.data_content, training.seed, tmp_path, CPU)
    module = initial_model(training, CPU)
    torch.manual_seed(99)  # no state that a training leaves behind
    generator, before = torch.get_rng_state(), copy_of(module.state_dict())
    diagnose(training, module, parts, NORMALISE)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not changed(before, copy_of(module.state_dict()))


def test_the_record_comes_before_the_last_and_diagnoses_the_network_from_its_start(tmp_path):
    """The start is the training's own: what a head learns on a fixed backbone is as good on the source's."""
    training = replace(two_steps(policy="head", epochs=2), diagnose=True, save_to=str(tmp_path / "end.pt"))
    *epochs, diagnosed, finished = loop.train(training, Supplies(tmp_path, CPU))
    assert len(epochs) == 2
    assert isinstance(diagnosed, Diagnosed)
    assert isinstance(finished, Finished)
    assert diagnosed.digest == training.digest
    figures = values(diagnosed.figures)
    assert figures["test_top1_source_backbone", ""] == finished.test["top1"]
    layers = [layer for name, layer in figures if name == "shift_end"]
    assert layers[:3] == ["bn1", "layer1.0.bn1", "layer1.0.bn2"]
    assert all(figures["shift_start", layer] == figures["shift_end", layer] for layer in layers)

    parts = data.load(training.located_data, training.data_content, training.seed, tmp_path, CPU)
    start = initial_model(training, CPU)
    end = initial_model(training, CPU)
    end.load_state_dict(weights.read(tmp_path / "end.pt"))
    assert diagnosed.figures == measure(start, end, training.head, parts, NORMALISE)


def test_an_adapted_backbone_is_nearer_to_the_images_than_its_start(tmp_path):
    training = replace(two_steps(policy="head_bn", epochs=40), diagnose=True)
    *_, diagnosed, _ = loop.train(training, Supplies(tmp_path, CPU))
    assert isinstance(diagnosed, Diagnosed)
    figures = values(diagnosed.figures)
    assert figures["shift_end", "bn1"] < 0.1 * figures["shift_start", "bn1"]
