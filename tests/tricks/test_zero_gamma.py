"""Zero γ against torchvision's `zero_init_residual`, and by what it makes of a block."""

import pytest
import torch
import torchvision
from torch import nn

from harness.errors import HarnessError
from harness.models.build import build_model, layout_of
from harness.models.zoo import MODELS
from harness.recipe import Recipe
from harness.seeds import derive
from harness.spec import Model
from harness.tricks.zero_gamma import ZeroGammaTrick, ZeroLastGamma
from tests.watching import changed, copy_of, two_steps, watch


def zeroed(model: Model, seed: int = 0) -> nn.Module:
    module = build_model(model, 3, seed)
    ZeroLastGamma()(module, layout_of(model, 3))
    return module


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_residual_networks_begin_as_torchvisions(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(4, "init"))
        theirs = getattr(torchvision.models, name)(num_classes=3, zero_init_residual=True)
    assert not changed(copy_of(zeroed(Model(name=name), seed=4).state_dict()), copy_of(theirs.state_dict()))


@pytest.mark.parametrize(
    "model",
    [
        Model(name="cifar_resnet8"),
        Model(name="mini_resnet14", variant="a", deep_stem=True, avg_down=True),
        Model(name="mobilenet_v2"),
        Model(name="mobilenet_v3_small"),
        Model(name="mobilenet_v3_large"),
        Model(name="efficientnet_b0"),
    ],
)
def test_every_block_with_a_shortcut_begins_as_its_shortcut_and_no_other_is_touched(model):
    module = zeroed(model).eval()
    names = {name for name, value in module.named_parameters() if name.endswith("weight") and not value.any()}
    assert names == {f"{norm}.weight" for norm in layout_of(model, 3).last_norms}
    blocks = {name: child for name, child in module.named_modules() if is_block(child)}
    assert len(names) == sum(getattr(block, "use_res_connect", True) for block in blocks.values()) > 0
    inputs: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}
    for name, block in blocks.items():
        block.register_forward_pre_hook(lambda _, given, name=name: inputs.update({name: given[0].clone()}))
        block.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output.clone()}))
    module(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    for name, block in blocks.items():
        if hasattr(block, "use_res_connect"):
            assert torch.equal(inputs[name], outputs[name]) == block.use_res_connect
        else:
            shortcut = block.get_submodule("downsample") if getattr(block, "downsample", None) else nn.Identity()
            assert torch.equal(outputs[name], shortcut(inputs[name]).relu())


def is_block(module: nn.Module) -> bool:
    return type(module).__name__ in ("BasicBlock", "Bottleneck", "InvertedResidual", "MBConv")


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "alexnet", "densenet121", "inception_v3"])
def test_networks_without_residual_branches_have_nothing_to_zero(name):
    layout = layout_of(Model(name=name), 3)
    assert layout.last_norms == ()
    with pytest.raises(ValueError, match="no residual branch that ends in a batch norm"):
        ZeroLastGamma().touches(layout)


@pytest.mark.parametrize("name", [name for name in MODELS if "net" in name and "resnet" in name])
def test_networks_with_residual_branches_have(name):
    ZeroLastGamma().touches(layout_of(Model(name=name), 3))


def test_networks_of_other_blocks_are_known_by_torchvisions_classes():
    stages = (("stem", ("stem",)), ("body", ("trunk_output",)), ("head", ("fc",)))
    layout = layout_of(Model(name="regnet_y_400mf", stages=stages), 3)
    assert len(layout.last_norms) == 1 + 3 + 6 + 6  # Radosavovic et al. 2020, RegNetY-400MF
    assert layout.last_norms[0] == "trunk_output.block1.block1-0.f.c.1"


def test_a_training_begins_with_zeros_which_then_learn(tmp_path):
    first, second = watch(two_steps({"zero_gamma": ZeroGammaTrick()}), tmp_path)
    plain = watch(two_steps(), tmp_path)[0]
    gammas = {f"layer{i}.0.bn2.weight" for i in (1, 2, 3)}
    assert changed(plain.before, first.before) == gammas
    assert not any(first.before[name].any() for name in gammas)
    assert all(second.after[name].all() for name in gammas)


def test_trick_adds_the_init_to_the_target_unless_told_otherwise(read_trick):
    assert read_trick("zero_gamma: ") == ZeroGammaTrick("target")
    assert ZeroGammaTrick()(Recipe()) == Recipe(inits=(("target", ZeroLastGamma()),))
    assert read_trick("zero_gamma: {where: source}")(Recipe()) == Recipe(inits=(("source", ZeroLastGamma()),))
    with pytest.raises(HarnessError, match=r"tricks\.zero_gamma\.where: \"nowhere\" should be 'source', 'target' or"):
        read_trick("zero_gamma: {where: nowhere}")
