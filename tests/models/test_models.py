from itertools import pairwise

import pytest
import torch
import torchvision
from torch import nn

from harness.errors import HarnessError
from harness.freezing.resolve import select
from harness.models.build import build_model, check_image_size, layout_of
from harness.models.cifar import CifarResNet
from harness.models.layout import Layout
from harness.models.mini import MiniResNet
from harness.models.outputs import loss
from harness.models.zoo import MODELS
from harness.seeds import derive
from harness.spec import Data, Model
from tests.watching import changed, copy_of

TORCHVISION = [name for name, architecture in MODELS.items() if architecture.family == "torchvision"]
MADE_OF_THE_SAME_BLOCKS = ("cifar_resnet32", "cifar_resnet56", "resnet34", "resnet101", "resnet152", "vgg16")
"""Each as another, deeper or without batch norm."""


@pytest.fixture
def deterministic():
    """torch as workers set it."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


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


def test_parameters_of_the_mini_resnet():
    """Bias-free convolutions, each with its γ and β: a 7×7 stem, four bottlenecks of w, w and 4w with a projection."""
    total = 7 * 7 * 3 * 16 + 2 * 16
    for channels_in, width in ((16, 16), (64, 32), (128, 64), (256, 128)):
        shapes = ((1, channels_in, width), (3, width, width), (1, width, 4 * width), (1, channels_in, 4 * width))
        total += sum(kernel * kernel * before * after + 2 * after for kernel, before, after in shapes)
    assert parameters(MiniResNet(10)) == total + 512 * 10 + 10


@pytest.mark.parametrize("size", [8, 32])
def test_the_mini_resnet_halves_the_image_five_times(size):
    module = MiniResNet(5).eval()
    stem = module.maxpool(module.relu(module.bn1(module.conv1(torch.zeros(2, 3, size, size)))))
    assert stem.shape == (2, 16, size // 4, size // 4)
    x = module.layer4(module.layer3(module.layer2(module.layer1(stem))))
    assert x.shape == (2, 512, max(size // 32, 1), max(size // 32, 1))


@pytest.mark.parametrize("size", [8, 32])
def test_cifar_resnets_halve_the_image_twice(size):
    module = CifarResNet(8, 5).eval()
    images = torch.zeros(2, 3, size, size)
    assert module(images).shape == (2, 5)
    stem = module.relu(module.bn1(module.conv1(images)))
    assert module.layer3(module.layer2(module.layer1(stem))).shape == (2, 64, size // 4, size // 4)


def torchvisions(name: str, classes: int) -> nn.Module:
    """torchvision's own network; Inception as it comes with pretrained weights."""
    options = {"transform_input": True, "init_weights": True} if name == "inception_v3" else {}
    module: nn.Module = getattr(torchvision.models, name)(num_classes=classes, **options)
    return module


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_models_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = build_model(Model(name=name), 7, seed=4), torchvisions(name, 7)
    # Its pooling to a fixed size cannot be differentiated deterministically on CUDA.
    assert repr(ours).replace("FixedAvgPool2d", "AdaptiveAvgPool2d") == repr(theirs)
    shapes = [{key: value.shape for key, value in module.state_dict().items()} for module in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "inception_v3", "densenet121", "mobilenet_v3_small", "efficientnet_b0"]
)
def test_initial_weights_of_torchvisions_models_are_torchvisions(name):
    """From the same state of its generator."""
    ours = build_model(Model(name=name), 7, seed=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(4, "init"))
        theirs = torchvisions(name, 7)
    assert not changed(copy_of(ours.state_dict()), copy_of(theirs.state_dict()))


# The others are made of the same blocks.
def test_inception_maps_images_normalised_as_imagenets_to_those_its_weights_want():
    """Pixels p in [0, 1] to 2p − 1, as torchvision's Inception does once it has pretrained weights."""
    pixels = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    data = Data(name="digits")
    images = (pixels - torch.tensor(data.mean)[:, None, None]) / torch.tensor(data.std)[:, None, None]
    entering: list[torch.Tensor] = []
    module = build_model(Model(name="inception_v3"), 3, seed=0).eval()
    module.get_submodule("Conv2d_1a_3x3").register_forward_pre_hook(lambda _, given: entering.append(given[0]))
    with pytest.raises(RuntimeError, match="size"):  # too small to come out again
        module(images)
    torch.testing.assert_close(entering[0], 2 * pixels - 1)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(
    "name", [name for name in MODELS if name not in ("resnet34", "resnet101", "resnet152", "vgg16")]
)
def test_every_parameter_gets_a_gradient_in_a_deterministic_step(name):
    module = build_model(Model(name=name), 3, seed=0)
    size = max(32, MODELS[name].min_size)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    loss(module(images), torch.eye(3)[:2]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert module.eval()(images).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("cifar_resnet8", ["fc"]),
        ("mobilenet_v3_small", ["classifier.3"]),
        ("inception_v3", ["AuxLogits.fc", "fc"]),
        ("densenet121", ["classifier"]),
    ],
)
def test_an_appended_head_is_a_linear_layer_over_the_logits_of_the_old(name, places):
    model = Model(name=name)
    plain, appended = build_model(model, 10, seed=3), build_model(model, 4, seed=3, kept_classes=10)
    new = {f"{place}.new.{kind}" for place in places for kind in ("weight", "bias")}
    state = appended.state_dict()
    kept = {key.replace(".old.", "."): value for key, value in state.items() if key not in new}
    assert not changed(copy_of(plain.state_dict()), copy_of({key: kept[key] for key in plain.state_dict()}))
    assert state[f"{places[-1]}.new.weight"].shape == (4, 10)

    images = torch.rand(2, 3, 75, 75, generator=torch.Generator().manual_seed(0))
    by_hand = plain.eval()(images) @ state[f"{places[-1]}.new.weight"].T + state[f"{places[-1]}.new.bias"]
    torch.testing.assert_close(appended.eval()(images), by_hand)

    layout = layout_of(model, 4, 10)
    assert set(dict(layout.parameters)) == {key for key, _ in appended.named_parameters()}
    assert {layout.stage(key) for key in new} == {"head"}
    assert set(select(("*.new.*",), [key for key, _ in layout.parameters], layout)) == new


def test_a_head_without_a_linear_layer_cannot_be_appended_to():
    stages = (("features", ("features",)), ("head", ("classifier",)))
    with pytest.raises(HarnessError, match="the head of squeezenet1_1 ends in no linear layer"):
        layout_of(Model(name="squeezenet1_1", stages=stages), 3, 10)


@pytest.mark.parametrize(("name", "last"), [("convnext_tiny", "classifier.2"), ("vgg11", "classifier.6")])
def test_a_head_of_several_layers_is_appended_to_at_the_last(name, last):
    stages = (("features", ("features",)), ("head", ("classifier",)))
    shapes = dict(layout_of(Model(name=name, stages=stages), 3, 10).parameters)
    assert {key.partition(".new.")[0] for key in shapes if ".new." in key} == {last}
    assert (shapes[f"{last}.old.weight"][0], shapes[f"{last}.new.weight"]) == (10, (3, 10))


@pytest.mark.parametrize("name", MODELS)
def test_images_too_small_to_train_on_are_refused(name):
    """torchvision's Inception evaluates images of 75 pixels, but its auxiliary head trains on none below 299."""
    model, smallest = Model(name=name), MODELS[name].min_size
    check_image_size(model, 3, smallest)
    if smallest > 1:
        said = f"{name} cannot be trained on images of {smallest - 1} pixels: it takes {smallest} and more"
        with pytest.raises(HarnessError, match=said):
            check_image_size(model, 3, smallest - 1)


def test_a_network_of_fixed_size_says_so():
    stages = (("body", ("class_token", "conv_proj", "encoder")), ("head", ("heads",)))
    model = Model(name="vit_b_16", stages=stages)
    check_image_size(model, 3, 224)
    with pytest.raises(HarnessError, match="vit_b_16 cannot be trained on images of 32 pixels: Wrong image height"):
        check_image_size(model, 3, 32)


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
    assert (layout.stages[0][0], layout.stages[-1][0]) == ("stem", "head")
    held = []
    for parameter in [*(key for key, _ in layout.parameters), *layout.norms]:
        stages = [
            stage
            for stage, prefixes in layout.stages
            if any(parameter.startswith(f"{prefix}.") or parameter == prefix for prefix in prefixes)
        ]
        assert stages == [layout.stage(parameter)]
        held += stages
    # No stage is empty, and they follow each other as in the network.
    if name != "inception_v3":  # whose auxiliary head is made before the last stage
        assert list(dict.fromkeys(held)) == [stage for stage, _ in layout.stages]
    assert set(held) == {stage for stage, _ in layout.stages}


@pytest.mark.parametrize("name", MODELS)
def test_the_output_of_a_stage_is_that_of_its_last_module(name):
    stages = layout_of(Model(name=name), 3).stages
    prefixes = [prefix for _, prefixes in stages for prefix in prefixes]
    called: list[str] = []
    entering: dict[str, torch.Tensor] = {}
    leaving: dict[str, torch.Tensor] = {}
    with torch.device("meta"):
        module, images = build_model(Model(name=name), 3, seed=0).eval(), torch.empty(2, 3, 299, 299)

    def note(prefix: str):
        def hook(_module, inputs, output):
            called.append(prefix)
            entering[prefix], leaving[prefix] = inputs[0], output

        return hook

    for prefix in prefixes:
        module.get_submodule(prefix).register_forward_hook(note(prefix))
    logits = module(images)
    assert called == [prefix for prefix in prefixes if not prefix.startswith("AuxLogits.")]
    assert leaving[prefixes[-1]] is logits
    backbone = [held for stage, held in stages if stage not in ("fc", "head")]  # before these there is pooling
    for (*_, last), (first, *_) in pairwise(backbone):
        assert leaving[last] is entering[first]


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", {"fc"}),
        ("inception_v3", {"AuxLogits.fc", "fc"}),
        ("vgg16", {"classifier.6"}),
        ("alexnet", {"classifier.6"}),
        ("densenet121", {"classifier"}),
        ("mobilenet_v2", {"classifier.1"}),
        ("mobilenet_v3_large", {"classifier.3"}),
        ("efficientnet_b0", {"classifier.1"}),
    ],
)
def test_the_head_is_what_depends_on_the_classes(name, head):
    layout = layout_of(Model(name=name), 3)
    three, five = dict(layout.parameters), dict(layout_of(Model(name=name), 5).parameters)
    assert {key.rpartition(".")[0] for key in three if three[key] != five[key]} == head
    assert {key.rpartition(".")[0] for key in three if layout.stage(key) == "head"} == head
    assert set(layout.head) == head


@pytest.mark.parametrize("name", ["vgg16_bn", "alexnet", "mobilenet_v3_small"])
def test_hidden_linear_layers_are_a_stage_before_the_head(name):
    layout = layout_of(Model(name=name), 3)
    linear = [key for key, shape in layout.parameters if len(shape) == 2]
    assert [layout.stage(key) for key in linear] == ["fc"] * (len(linear) - 1) + ["head"]


@pytest.mark.parametrize("name", ["cifar_resnet20", "mini_resnet14", "resnet18", "mobilenet_v2", "densenet121"])
def test_a_layout_is_that_of_the_built_model(name):
    layout, module = layout_of(Model(name=name), 11), build_model(Model(name=name), 11, seed=0)
    assert layout.parameters == tuple((key, tuple(value.shape)) for key, value in module.named_parameters())
    statistics = {key.removesuffix(".running_mean") for key in module.state_dict() if key.endswith(".running_mean")}
    assert set(layout.norms) == statistics
    assert layout.parameters[-1][1] == (11,)


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
