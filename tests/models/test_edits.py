"""Edited networks against timm's, torch's and equations written out."""

import pytest
import timm
import torch
from pydantic import ValidationError
from timm.models.resnet import Bottleneck as TimmBottleneck
from timm.models.resnet import ResNet as TimmResNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.models.build import build_model, layout_of
from harness.models.edits import FixedAvgPool2d, deepen_stem
from harness.models.weights import load_backbone
from harness.models.zoo import MODELS
from harness.spec import Model
from tests.watching import State, changed, copy_of

MINI = "mini_resnet14"
RESNETS = [name for name in MODELS if "resnet" in name]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def flops(module: nn.Module, size: int = 224) -> float:
    with FlopCounterMode(display=False) as counter:
        module.eval()(torch.empty(1, 3, size, size, device="meta"))
    return float(counter.get_total_flops())


def in_timms_names(state: State, avg_down: bool) -> State:
    """timm counts the pooling of a shortcut, and of one that keeps the size the layer in its place."""
    shift = {"downsample.0": "downsample.1", "downsample.1": "downsample.2"} if avg_down else {}

    def renamed(key: str) -> str:
        for old, new in shift.items():
            if old in key:
                return key.replace(old, new)
        return key

    return {renamed(key): value for key, value in state.items()}


@pytest.mark.parametrize(
    ("peer", "model"),
    [
        ("resnet50", Model(name="resnet50")),
        ("resnet50c", Model(name="resnet50", deep_stem=True)),
        ("resnet50d", Model(name="resnet50", deep_stem=True, avg_down=True)),
        ("resnet18d", Model(name="resnet18", deep_stem=True, avg_down=True)),
        ("resnet152d", Model(name="resnet152", deep_stem=True, avg_down=True)),
    ],
)
def test_edited_networks_are_timms(peer, model):
    with torch.device("meta"):
        ours, theirs = build_model(model, 1000, seed=0), timm.create_model(peer)
        images = torch.empty(2, 3, 224, 224)
    shapes = {key: value.shape for key, value in in_timms_names(ours.state_dict(), model.avg_down).items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert parameters(ours) == parameters(theirs)
    assert ours(images).shape == theirs(images).shape == (2, 1000)
    assert flops(ours) == flops(theirs)


@pytest.mark.parametrize("avg_down", [False, True])
@pytest.mark.parametrize("size", [32, 75])  # 75 pixels are odd again and again on the way down
def test_edited_networks_compute_what_timms_do(avg_down, size):
    ours = build_model(Model(name=MINI, deep_stem=True, avg_down=avg_down), 5, seed=0).eval()
    theirs = TimmResNet(
        TimmBottleneck,  # type: ignore[arg-type]
        (1, 1, 1, 1),
        num_classes=5,
        channels=(16, 32, 64, 128),
        stem_width=8,
        stem_type="deep",
        avg_down=avg_down,
    ).eval()
    theirs.load_state_dict(in_timms_names(ours.state_dict(), avg_down))
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("name", ["resnet50", MINI])
def test_variant_a_strides_in_the_first_convolution_of_downsampling_blocks(name):
    for variant, first, second in (("a", (2, 2), (1, 1)), ("b", (1, 1), (2, 2))):
        with torch.device("meta"):
            module = build_model(Model.model_validate({"name": name, "variant": variant}), 3, seed=0)
        for stage in (2, 3, 4):
            block = module.get_submodule(f"layer{stage}.0")
            strides = [block.get_submodule(f"conv{i}").stride for i in (1, 2, 3)]
            assert strides == [first, second, (1, 1)]
        convolutions = [child for child in module.modules() if isinstance(child, nn.Conv2d)]
        assert sum(child.stride == (2, 2) for child in convolutions) == 1 + 3 + 3  # stem, blocks, shortcuts


def test_variant_a_saves_three_quarters_of_the_first_convolutions_and_keeps_the_rest():
    """In B the first 1×1 of a downsampling block works on four times the pixels; the 3×3 on as many as in A."""
    with torch.device("meta"):
        a, b = (build_model(Model(name="resnet50", variant=v), 1000, seed=0) for v in ("a", "b"))
    firsts = ((256, 128, 56), (512, 256, 28), (1024, 512, 14))
    saved = sum(2 * channels_in * width * (side**2 - (side // 2) ** 2) for channels_in, width, side in firsts)
    assert flops(b) - flops(a) == saved
    assert 8.1e9 < flops(b) < 8.3e9  # torchvision's table says 4.09 G multiplications with additions


def test_edits_keep_the_weights_of_what_stays():
    plain = copy_of(build_model(Model(name=MINI), 3, seed=2).state_dict())
    edited = copy_of(build_model(Model(name=MINI, variant="a", deep_stem=True, avg_down=True), 3, seed=2).state_dict())
    stem = {key for key in edited if key.startswith("conv1.")}
    assert set(plain) - {"conv1.weight"} == set(edited) - stem
    shared = [key for key in plain if key in edited]
    assert not changed({key: plain[key] for key in shared}, {key: edited[key] for key in shared})


def test_deep_stems_are_drawn_from_the_seed_as_other_convolutions_are():
    one, same, other = (
        build_model(Model(name="resnet18", deep_stem=True), 3, seed=seed).state_dict() for seed in (0, 0, 1)
    )
    drawn = ["conv1.0.weight", "conv1.3.weight", "conv1.6.weight"]
    for key in drawn:
        assert torch.equal(one[key], same[key])
        assert not torch.equal(one[key], other[key])
        fan_out = one[key].shape[0] * 9
        assert one[key].std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.08)


def test_stems_are_of_half_and_half_and_whole_width():
    module = build_model(Model(name="resnet18"), 3, seed=0)
    deepen_stem(module)
    convolutions = [child for child in module.get_submodule("conv1").children() if isinstance(child, nn.Conv2d)]
    shapes = [(child.in_channels, child.out_channels, child.stride[0]) for child in convolutions]
    assert shapes == [(3, 32, 2), (32, 32, 1), (32, 64, 1)]


@pytest.mark.parametrize("name", [MINI, "cifar_resnet8", "resnet18"])
def test_weights_of_a_plain_network_load_into_one_with_averaged_shortcuts(name):
    """ResNet-D keeps names and shapes."""
    plain = build_model(Model(name=name), 4, seed=1).state_dict()
    averaged = build_model(Model(name=name, avg_down=True), 3, seed=0)
    assert any(".downsample.0.weight" in key for key in plain)
    load_backbone(averaged, plain, ("fc",))
    after = averaged.state_dict()
    assert {key for key in after if "downsample" in key} == {key for key in plain if "downsample" in key}
    backbone = [key for key in plain if not key.startswith("fc.")]
    assert not changed({key: plain[key] for key in backbone}, copy_of({key: after[key] for key in backbone}))


def test_averaged_shortcuts_are_the_mean_of_four_pixels_through_the_convolution():
    module = build_model(Model(name="cifar_resnet8", avg_down=True), 3, seed=0).eval()
    shortcut = module.get_submodule("layer2.0.downsample")
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    mean = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    weight = module.state_dict()["layer2.0.downsample.0.weight"][:, :, 0, 0]
    by_hand = torch.einsum("oc,nchw->nohw", weight, mean) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(shortcut(x), by_hand)


def test_stages_and_norms_of_edited_networks_are_found():
    layout = layout_of(Model(name=MINI, deep_stem=True, avg_down=True), 3)
    assert layout.stage("conv1.6.weight") == layout.stage("conv1.1.bias") == "stem"
    assert layout.stage("layer2.0.downsample.1.weight") == "stage2"
    assert {"conv1.1", "conv1.4", "bn1", "layer4.0.downsample.1"} < set(layout.norms)


@pytest.mark.parametrize(("size", "cells"), [(1, 7), (5, 7), (7, 7), (10, 7), (14, 7), (9, (6, 2))])
def test_pooling_to_a_fixed_size_is_torchs(size, cells):
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ours, theirs = FixedAvgPool2d(cells)(x), nn.AdaptiveAvgPool2d(cells)(x)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(*(torch.autograd.grad(y, x, upstream)[0] for y in (ours, theirs)))
    if size == cells:
        assert torch.equal(ours, x)


@pytest.mark.parametrize("name", ["vgg16", "alexnet"])
def test_networks_that_pool_to_a_fixed_size_pool_deterministically(name):
    with torch.device("meta"):
        module = build_model(Model(name=name), 3, seed=0)
    assert type(module.get_submodule("avgpool")) is FixedAvgPool2d


@pytest.mark.parametrize(
    ("name", "part", "said"),
    [
        ("resnet18", {"variant": "a"}, "variant means nothing for resnet18: it has no bottleneck blocks"),
        ("cifar_resnet8", {"variant": "a"}, "variant means nothing for cifar_resnet8: it has no bottleneck blocks"),
        ("cifar_resnet20", {"deep_stem": True}, "deep_stem means nothing for cifar_resnet20: it has no 7×7 stem"),
        ("vgg16", {"avg_down": True}, "avg_down means nothing for vgg16: it has no downsampling shortcuts"),
        ("densenet121", {"deep_stem": True}, "deep_stem means nothing for densenet121"),
        ("mobilenet_v2", {"variant": "c"}, "Input should be 'a' or 'b'"),
    ],
)
def test_parts_that_a_network_does_not_have_are_refused(name, part, said):
    with pytest.raises(ValidationError, match=said):
        Model.model_validate({"name": name, **part})


def test_parts_of_networks_the_harness_does_not_know_are_refused():
    stages = {"body": ["conv1", "bn1", "layer?"], "head": ["fc"]}
    with pytest.raises(ValidationError, match="deep_stem can be set for the residual networks that the harness knows"):
        Model.model_validate({"name": "resnext50_32x4d", "stages": stages, "deep_stem": True})


@pytest.mark.parametrize("name", RESNETS)
def test_every_part_of_a_residual_network_makes_another_network(name):
    plain = Model(name=name)
    with torch.device("meta"):
        built = repr(build_model(plain, 3, seed=0))
        for part in MODELS[name].parts:
            edited = plain.edited(part, "a" if part == "variant" else True)
            assert repr(build_model(edited, 3, seed=0)) != built
    assert MODELS[name].parts[-1] == "avg_down"
