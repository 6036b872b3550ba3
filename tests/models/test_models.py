import pytest
import torch
import torchvision
from torch import nn

from harness.models.build import build_model, layout_of
from harness.models.cifar import CifarResNet
from harness.models.layout import Layout
from harness.models.zoo import MODELS
from harness.seeds import derive
from harness.spec import Model
from tests.watching import changed, copy_of


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def by_hand(blocks: int, classes: int) -> int:
    """Count the parameters of a CIFAR ResNet: bias-free convolutions, each with its γ and β, and the classifier."""

    def conv(kernel: int, channels_in: int, channels: int) -> int:
        return kernel * kernel * channels_in * channels + 2 * channels

    total = conv(3, 3, 16)
    for channels_in, channels in ((16, 16), (16, 32), (32, 64)):
        total += conv(3, channels_in, channels) + (2 * blocks - 1) * conv(3, channels, channels)
        if channels != channels_in:
            total += conv(1, channels_in, channels)  # option B
    return total + 64 * classes + classes


@pytest.mark.parametrize("depth", [8, 20, 32, 56])
def test_depth_counts_the_layers_on_the_way_through(depth):
    """He et al. 2015, §4.2: 6n + 2, shortcuts apart."""
    module = build_model(Model(name=f"cifar_resnet{depth}"), 10, seed=0)
    layers = [
        name
        for name, child in module.named_modules()
        if isinstance(child, nn.Conv2d | nn.Linear) and "downsample" not in name
    ]
    assert len(layers) == depth


@pytest.mark.parametrize(("depth", "blocks"), [(8, 1), (20, 3), (32, 5), (56, 9)])
def test_parameters_of_cifar_resnets(depth, blocks):
    assert parameters(CifarResNet(depth, 10)) == by_hand(blocks, 10)


def test_resnet_20_has_the_papers_size():
    """0.27 M; option B has two 1×1 convolutions more than the paper's option A, 2,752 parameters with their norms."""
    assert parameters(CifarResNet(20, 10)) == 269_722 + 2_752 == 272_474


@pytest.mark.parametrize("depth", [1, 2, 9, 18, 101])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=rf"6n \+ 2 layers, not {depth}"):
        CifarResNet(depth, 10)


@pytest.mark.parametrize("size", [8, 32])
def test_cifar_resnets_halve_the_image_twice(size):
    module = CifarResNet(8, 5).eval()
    images = torch.zeros(2, 3, size, size)
    assert module(images).shape == (2, 5)
    stem = module.relu(module.bn1(module.conv1(images)))
    assert module.layer3(module.layer2(module.layer1(stem))).shape == (2, 64, size // 4, size // 4)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvisions_models_are_torchvisions(name):
    """The same modules, and the same initial weights from the same state of its generator."""
    ours = build_model(Model(name=name), 7, seed=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(4, "init"))
        theirs = getattr(torchvision.models, name)(num_classes=7)
    assert repr(ours) == repr(theirs)
    assert not changed(copy_of(ours.state_dict()), copy_of(theirs.state_dict()))


def test_initial_weights_come_from_the_seed_alone():
    def built(seed: int, state: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(state)
        torch.rand(state)
        return copy_of(build_model(Model(name="cifar_resnet8"), 3, seed).state_dict())

    assert not changed(built(0, state=1), built(0, state=2))
    drawn = {"conv1.weight", "layer1.0.conv1.weight", "layer3.0.downsample.0.weight", "fc.weight", "fc.bias"}
    assert changed(built(0, state=1), built(1, state=1)) >= drawn


def test_initial_convolutions_are_he_normal():
    """He et al. 2015: standard deviation √(2 / (k²·channels out)), here over 36,864 numbers."""
    weight = build_model(Model(name="cifar_resnet8"), 3, seed=0).state_dict()["layer3.0.conv2.weight"]
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert abs(weight.mean().item()) < 5 * weight.std().item() / weight.numel() ** 0.5


def test_building_leaves_the_global_generator_as_it_was():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    build_model(Model(name="cifar_resnet8"), 3, seed=0)
    build_model(Model(name="resnet18"), 3, seed=0)
    layout_of.__wrapped__(Model(name="cifar_resnet8"), 3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_in_exactly_one_stage(name):
    layout = layout_of(Model(name=name), 11)
    assert layout.stages[0][0] == "stem"
    assert layout.stages[-1] == ("head", ("fc",))
    held = []
    for parameter, _ in [*layout.parameters, *((norm, ()) for norm in layout.norms)]:
        first = parameter.split(".")[0]
        stages = [stage for stage, prefixes in layout.stages if first in prefixes]
        assert stages == [layout.stage(parameter)]
        held += stages
    # No stage is empty, and they follow each other as in the network.
    assert list(dict.fromkeys(held)) == [stage for stage, _ in layout.stages]


@pytest.mark.parametrize("name", ["cifar_resnet20", "resnet18", "resnet50"])
def test_a_layout_is_that_of_the_built_model(name):
    layout, module = layout_of(Model(name=name), 11), build_model(Model(name=name), 11, seed=0)
    assert layout.parameters == tuple((key, tuple(value.shape)) for key, value in module.named_parameters())
    statistics = {key.removesuffix(".running_mean") for key in module.state_dict() if key.endswith(".running_mean")}
    assert set(layout.norms) == statistics
    assert dict(layout.parameters)["fc.bias"] == (11,)


def test_a_layout_is_plain_data():
    assert isinstance(hash(layout_of(Model(name="cifar_resnet8"), 3)), int)
    assert layout_of(Model(name="cifar_resnet8"), 3) != layout_of(Model(name="cifar_resnet8"), 4)
    assert isinstance(layout_of(Model(name="cifar_resnet8"), 3), Layout)


def test_norms_without_running_statistics_are_not_in_the_layout(monkeypatch):
    """They always normalise by the batch, so there is nothing to freeze."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn1, self.bn2 = nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3)

    monkeypatch.setattr("harness.models.build.CifarResNet", lambda *_: Odd())
    assert layout_of.__wrapped__(Model(name="cifar_resnet8"), 3).norms == ("bn2",)
