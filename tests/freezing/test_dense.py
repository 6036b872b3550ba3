"""Freezing in detectors and segmentors: what each policy changes, with torchvision's own losses."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from harness.errors import HarnessError
from harness.freezing.apply import begin_phase, evaluation_mode, training_mode
from harness.freezing.check import FreezeViolation, snapshot, verify
from harness.freezing.policies import POLICIES
from harness.freezing.resolve import ResolvedPhase, resolve, select
from harness.models.build import build_model, layout_of
from harness.spec import Model
from tests.freezing.test_policies import CHANGES, CODES, STATISTICS
from tests.watching import changed, copy_of

SEGMENTOR = Model(name="cifar_resnet8", head="fcn")
DETECTOR = Model(name="mini_resnet14", head="faster_rcnn")
LIGHT = Model(name="mobilenet_v3_small", head="ssdlite")
SIZE = 64
BOXES = torch.tensor([[4.0, 4.0, 20.0, 28.0], [24.0, 20.0, 60.0, 62.0]])


def loss_of(module: nn.Module) -> Tensor:
    """torchvision's loss of two images: the sum of a detector's; cross-entropy, and half of the auxiliary one's."""
    dtype = next(module.parameters()).dtype
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).to(dtype)
    if hasattr(module, "aux_classifier"):
        masks = (images[:, 0] * 2.99).long()
        logits = module(images)
        return F.cross_entropy(logits["out"], masks) + 0.5 * F.cross_entropy(logits["aux"], masks)
    torch.manual_seed(0)  # proposals are sampled by it
    losses = module([*images], [{"boxes": BOXES.to(dtype), "labels": torch.tensor([1, 2])} for _ in images])
    assert losses
    return sum(losses.values(), torch.zeros(()))


def two_steps(module: nn.Module, phase: ResolvedPhase, dtype: torch.dtype = torch.float32) -> Optimizer:
    """Take two steps in a phase, as a learner does."""
    begin_phase(module, phase)
    training_mode(module, phase)
    parameters = dict(module.named_parameters())
    optimizer = SGD(
        [
            {"params": [parameters[name] for name in group.names], "weight_decay": group.weight_decay, "peak_lr": 0.01}
            for group in phase.groups
        ],
        lr=0.01,
        momentum=0.9,
    )
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = loss_of(module)
        loss.backward()
        optimizer.step()
        assert loss.isfinite()
    return optimizer


def moved_by(model: Model, policy: str) -> list[set[str]]:
    """Train two steps in each phase of a policy, each checked; return what changed in each."""
    module = build_model(model, 3, seed=0, image_size=SIZE)
    moved = []
    for phase in resolve(POLICIES[policy], layout_of(model, 3), 0.05):
        before, checked = copy_of(module.state_dict()), snapshot(module)
        optimizer = two_steps(module, phase)
        verify(module, checked, phase, optimizer)
        evaluation_mode(module)
        moved.append(changed(before, copy_of(module.state_dict())))
    return moved


def norms_of(model: Model) -> set[str]:
    module = build_model(model, 3, seed=0, image_size=SIZE)
    return {name for name, child in module.named_modules() if isinstance(child, nn.BatchNorm2d)}


@pytest.mark.parametrize("policy", CHANGES)
def test_a_policy_changes_in_a_segmentor_what_it_does_in_a_classifier_and_the_head_as_one(policy):
    """The head has batch norms of its own, whose statistics follow where the head learns."""
    keys = list(build_model(SEGMENTOR, 3, seed=0).state_dict())
    moved = moved_by(SEGMENTOR, policy)
    assert len(moved) == len(CHANGES[policy])
    for found, expected in zip(moved, CHANGES[policy].values(), strict=True):
        as_classifier = {
            key: key.removeprefix("backbone.") if key.startswith("backbone.") else "fc.weight" for key in keys
        }
        assert found == {key for key, name in as_classifier.items() if expected(name)}


def body(key: str, *layers: str) -> bool:
    return key.startswith(tuple(f"backbone.body.{layer}." for layer in layers or ("conv1", "bn1", "layer")))


ALL = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
EXPECTED: Mapping[str, tuple[tuple[str, ...], bool, bool, bool]] = {
    "full": (ALL, True, True, True),
    "full_bn_stats_frozen": (ALL, True, False, True),
    "full_bn_frozen": (ALL, False, False, True),
    "head": ((), False, False, True),
    "head_bn_affine": ((), True, False, True),
    "head_bn_stats": ((), False, True, True),
    "bn_only": ((), True, True, False),
    "last_3_stages_bn_frozen": (("layer2", "layer3", "layer4"), False, False, True),
}
"""Layers whose convolutions learn; whether γ and β of the backbone do, its statistics follow, and the head learns."""


@pytest.mark.parametrize("policy", EXPECTED)
def test_a_policy_changes_exactly_its_own_keys_in_a_detector(policy):
    layers, affine, statistics, head = EXPECTED[policy]
    norms = norms_of(DETECTOR)
    expected = set()
    for key in build_model(DETECTOR, 3, seed=0).state_dict():
        owner, _, kind = key.rpartition(".")
        if not key.startswith("backbone.body."):
            learns = head
        elif owner in norms:
            learns = statistics if kind in STATISTICS else affine
        else:
            learns = body(key, *layers) and bool(layers)
        if learns:
            expected.add(key)
    assert moved_by(DETECTOR, policy) == [expected]


@pytest.mark.parametrize("policy", ["full", "head", "last_stage", "head_bn"])
def test_a_policy_changes_exactly_its_own_keys_in_a_light_detector(policy):
    """But what no box came to: the two boxes are of two sizes, and the head has a part for each of six."""
    norms = norms_of(LIGHT)
    keys = set(build_model(LIGHT, 3, seed=0).state_dict())
    old = {key for key in keys if key.startswith("backbone.features.")}
    new = keys - old
    last = {key for key in old if key.startswith(("backbone.features.0.9.", "backbone.features.1."))}
    in_norm = {key for key in old if key.rpartition(".")[0] in norms}
    (found,) = moved_by(LIGHT, policy)
    assert found & old == {"full": old, "head": set(), "last_stage": last, "head_bn": in_norm}[policy]
    still = new - found
    assert {key.rpartition(".")[2] for key in still} == {"bias"}, "all else is drawn to 0 by weight decay"
    assert all(f"{norm}.running_mean" in found for norm in norms if f"{norm}.weight" in new)


def test_what_gets_no_gradient_at_all_is_found_in_the_head_of_a_light_detector():
    module = build_model(LIGHT, 3, seed=0, image_size=SIZE)
    (phase,) = resolve(POLICIES["head"], layout_of(LIGHT, 3), 0.05)
    before = snapshot(module)
    optimizer = two_steps(module, phase)
    verify(module, before, phase, optimizer)
    reached = {key for key, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    name = next(key for key in sorted(reached) if key.startswith("head.classification_head."))
    parameter = module.get_parameter(name)
    with torch.no_grad():
        parameter.copy_(before[name])
    with pytest.raises(FreezeViolation, match=f"^meant to learn but did not move: {name}$"):
        verify(module, before, phase, optimizer)
    parameter.grad = None
    with pytest.raises(FreezeViolation, match=f"^meant to learn but did not move: {name}$"):
        verify(module, before, phase, optimizer)
    # Nor is the backbone excused.
    name = "backbone.features.0.0.0.weight"
    (full,) = resolve(POLICIES["full"], layout_of(LIGHT, 3), 0.0)
    module.get_parameter(name).grad = torch.zeros_like(module.get_parameter(name))
    with pytest.raises(FreezeViolation, match=name):
        verify(module, snapshot(module), full, optimizer)


@pytest.mark.parametrize("model", [SEGMENTOR, DETECTOR, LIGHT], ids=lambda model: model.head)
def test_sixteen_bit_floats_train_a_step(model):
    module = build_model(model, 3, seed=0, image_size=SIZE)
    (phase,) = resolve(POLICIES["full"], layout_of(model, 3), 0.0)
    two_steps(module, phase, torch.bfloat16)
    assert all(p.isfinite().all() for p in module.parameters())


def test_a_detector_computes_its_losses_whatever_of_it_learns():
    module = build_model(DETECTOR, 3, seed=0, image_size=SIZE)
    for policy in ("full", "head", "bn_only"):
        (phase,) = resolve(POLICIES[policy], layout_of(DETECTOR, 3), 0.0)
        training_mode(module, phase)
        images = [torch.zeros(3, SIZE, SIZE)] * 2
        losses = module(images, [{"boxes": BOXES.clone(), "labels": torch.tensor([1, 2])}] * 2)
        assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    evaluation_mode(module)
    assert set(module([torch.zeros(3, SIZE, SIZE)])[0]) == {"boxes", "labels", "scores"}


# The policy of torchvision's detection reference.


def torchvisions_reference() -> Any:
    """As `fasterrcnn_resnet50_fpn` builds it over pretrained weights, here of a ResNet-18."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    anchors = AnchorGenerator(((4,), (8,), (16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 5)
    return FasterRCNN(backbone, 4, 100, 166, image_mean=[0.0] * 3, image_std=[1.0] * 3, rpn_anchor_generator=anchors)


def test_the_reference_policy_is_torchvisions_frozen_batch_norm():
    """The same parameters learn, from the same maps and gradients."""
    model = Model(name="resnet18", head="faster_rcnn")
    ours, theirs = build_model(model, 3, seed=0, image_size=100), torchvisions_reference()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # as if trained: γ, β and statistics that are not 1 and 0
        for name, child in ours.named_modules():
            if isinstance(child, nn.BatchNorm2d):
                for tensor in (child.weight, child.bias, child.running_mean, child.running_var):
                    assert tensor is not None, name
                    tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator))
    theirs.load_state_dict({key: value for key, value in ours.state_dict().items() if "num_batches" not in key})
    (phase,) = resolve(POLICIES["last_3_stages_bn_frozen"], layout_of(model, 3), 0.0)
    begin_phase(ours, phase)
    training_mode(ours, phase)
    assert phase.trainable == {name for name, parameter in theirs.named_parameters() if parameter.requires_grad}
    assert phase.bn_stats == ()
    images = torch.rand(2, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    made = [each.double().get_submodule("backbone")(images) for each in (ours, theirs.train())]
    for key in ("0", "1", "2", "3", "pool"):
        torch.testing.assert_close(made[0][key], made[1][key])
    for maps in made:
        sum(level.square().mean() for level in maps.values()).backward()
    gradients = [{n: p.grad for n, p in each.named_parameters() if p.grad is not None} for each in (ours, theirs)]
    assert set(gradients[0]) == set(gradients[1]) == {n for n in phase.trainable if n.startswith("backbone.")}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


# Selections.


def test_batch_norm_means_that_of_the_backbone():
    layout = layout_of(SEGMENTOR, 3)
    names = [name for name, _ in layout.parameters]
    assert {name.split(".")[0] for name in select(("bn",), names, layout)} == {"backbone"}
    assert "classifier.1.weight" in select(("all", "not bn"), names, layout)
    assert "classifier.1" in select(("all",), layout.norms, layout)


@pytest.mark.parametrize("model", [SEGMENTOR, DETECTOR, LIGHT], ids=lambda model: model.head)
def test_every_policy_has_a_meaning_but_those_on_a_classifier(model):
    for name, policy in POLICIES.items():
        if name in ("last_3_fc", "extra_fc"):
            with pytest.raises(HarnessError, match="matches nothing"):
                resolve(policy, layout_of(model, 3), 0.0)
        elif name not in CODES:
            assert all(phase.moving for phase in resolve(policy, layout_of(model, 3), 0.0))


def test_rates_fall_from_the_head_down_to_the_stem():
    (phase,) = resolve(POLICIES["llrd"], layout_of(DETECTOR, 3), 0.0)
    factors = {name: group.lr_factor for group in phase.groups for name in group.names}
    assert factors["rpn.head.cls_logits.weight"] == factors["backbone.fpn.inner_blocks.0.0.weight"] == 1
    assert factors["backbone.body.layer4.0.conv1.weight"] == pytest.approx(0.65)
    assert factors["backbone.body.conv1.weight"] == pytest.approx(0.65**5)


def test_the_last_layers_are_those_of_the_backbone():
    phases = resolve(POLICIES["head_then_last_2"], layout_of(DETECTOR, 3), 0.0)
    more = phases[1].trainable - phases[0].trainable
    assert {name.removeprefix("backbone.body.layer4.0.").rpartition(".")[0] for name in more} == {
        "conv3",
        "bn3",
        "downsample.0",
        "downsample.1",
    }
