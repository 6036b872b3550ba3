"""Networks for detection and segmentation, against torchvision's own constructors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection, mobilenet_v3_large, segmentation
from torchvision.models.detection import ssdlite
from torchvision.models.detection.anchor_utils import AnchorGenerator

from harness.errors import HarnessError
from harness.models import weights
from harness.models.build import build_model, check_image_size, layout_of
from harness.models.dense import run_on_shapes
from harness.models.zoo import HEADS, MODELS, Head
from harness.spec import Model
from tests.watching import changed, copy_of

PAIRS = [(name, head) for name, architecture in MODELS.items() for head in architecture.heads]
MADE_OF_THE_SAME_BLOCKS = ("cifar_resnet20", "cifar_resnet32", "cifar_resnet56", "resnet34", "resnet101", "resnet152")
"""Each as another, deeper."""
SMALL: list[tuple[str, Head]] = [
    ("mini_resnet14", "faster_rcnn"),
    ("mobilenet_v3_small", "ssdlite"),
    ("cifar_resnet8", "fcn"),
    ("mini_resnet14", "deeplabv3"),
]
"""A quick network of each kind."""


def numbered(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boxes_on(count: int, size: int) -> list[dict[str, Tensor]]:
    """Two boxes of different size and class on each image."""
    corners = torch.tensor([[2.0, 3.0, size / 2, size / 3], [size / 4, size / 2, size - 1.0, size - 4.0]])
    return [{"boxes": corners.clone(), "labels": torch.tensor([1, 2])} for _ in range(count)]


def torchvisions_ssdlite(patch: pytest.MonkeyPatch) -> nn.Module:
    """With the whole tail of the backbone, which torchvision's constructor leaves to pretrained weights."""
    patch.setattr(ssdlite, "mobilenet_v3_large", lambda norm_layer, **_: mobilenet_v3_large(norm_layer=norm_layer))
    module: nn.Module = detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4, image_mean=[0.0] * 3, image_std=[1.0] * 3
    )
    return module


def torchvisions_faster_rcnn(_: pytest.MonkeyPatch) -> nn.Module:
    """With plain batch norm, which it has where nothing is pretrained, and all of it for an eighth of its images."""
    module: nn.Module = detection.fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        min_size=100,
        max_size=167,
        rpn_anchor_generator=AnchorGenerator(((4,), (8,), (16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 5),
    )
    return module


def torchvisions_segmentor(name: str) -> Callable[[pytest.MonkeyPatch], nn.Module]:
    def make(_: pytest.MonkeyPatch) -> nn.Module:
        constructor: Callable[..., nn.Module] = getattr(segmentation, name)
        return constructor(weights=None, weights_backbone=None, num_classes=4, aux_loss=True)

    return make


def of_ours(head: Head, name: str = "resnet50", classes: int = 3, **options: Any) -> nn.Module:
    return build_model(Model(name=name, head=head), classes, seed=0, **options)


@pytest.mark.parametrize(
    ("ours", "torchvisions"),
    [
        (lambda: of_ours("faster_rcnn", image_size=100), torchvisions_faster_rcnn),
        (lambda: of_ours("ssdlite", "mobilenet_v3_large"), torchvisions_ssdlite),
        (lambda: of_ours("fcn", classes=4), torchvisions_segmentor("fcn_resnet50")),
        (lambda: of_ours("deeplabv3", classes=4), torchvisions_segmentor("deeplabv3_resnet50")),
    ],
    ids=["faster_rcnn", "ssdlite", "fcn", "deeplabv3"],
)
def test_a_network_is_torchvisions_by_names_shapes_and_outputs(ours, torchvisions, monkeypatch):
    """Losses or logits in training, boxes or logits in evaluation, all of them bit for bit."""
    module, theirs = ours(), torchvisions(monkeypatch)
    shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (module, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    theirs.load_state_dict(module.state_dict())
    images = torch.rand(2, 3, 120, 150, generator=numbered())
    detects = isinstance(theirs, detection.FasterRCNN | detection.ssd.SSD)
    given = ([*images], boxes_on(2, 120)) if detects else (images,)
    with torch.no_grad():
        for mode in (False, True):  # after a step SSDlite's statistics differ: torchvision gives them another momentum
            found = []
            for each in (module, theirs):
                each.train(mode)
                torch.manual_seed(0)  # samplers and dropout draw from it
                found.append(each(*given) if mode else each(*given[:1]))
            same(found[0], found[1])


def same(ours: Any, theirs: Any) -> None:
    """Whether two structures of tensors are equal, and hold something."""
    if isinstance(theirs, Tensor):
        assert torch.equal(ours, theirs)
        assert theirs.isfinite().all()
        return
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        ours, theirs = [*ours.values()], [*theirs.values()]
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        same(one, other)


@pytest.mark.parametrize(("name", "head"), PAIRS)
def test_every_tensor_is_in_one_stage_and_those_before_the_head_are_the_classifiers(name, head):
    layout, plain = layout_of(Model(name=name, head=head), 4), layout_of(Model(name=name), 4)
    kept = [stage for stage, _ in plain.stages if stage not in ("fc", "head")]
    assert [stage for stage, _ in layout.stages] == [*kept, "head"]
    stages = {key: layout.stage(key) for key, _ in layout.parameters} | {key: layout.stage(key) for key in layout.norms}
    expected = {key: plain.stage(key) for key, _ in plain.parameters} | {key: plain.stage(key) for key in plain.norms}
    placed = layout.placed(expected)
    assert {key: stage for key, stage in stages.items() if stage != "head"} == placed
    assert len(placed) == len([stage for stage in expected.values() if stage in kept])
    shapes, theirs = dict(layout.parameters), layout.placed(dict(plain.parameters))
    assert all(shapes[key] == shape for key, shape in theirs.items())
    assert dict(layout.stages)["head"] == HEADS[head].parts
    # They follow one another as in the network.
    assert list(dict.fromkeys(stages[key] for key, _ in layout.parameters)) == [*kept, "head"]


@pytest.mark.parametrize(("name", "head"), SMALL)
def test_the_output_of_a_stage_is_that_of_its_last_module(name, head):
    """The backbone of a detector or segmentor, stage by stage, is that of the classification network."""
    model, plain = Model(name=name, head=head), Model(name=name)
    module, classifier = build_model(model, 4, seed=0, image_size=64), build_model(plain, 4, seed=1)
    weights.load_backbone(module, layout_of(model, 4).placed(classifier.state_dict()), layout_of(model, 4).head)
    images = torch.rand(2, 3, 64, 64, generator=numbered())

    def outputs(network: nn.Module, of: Model) -> list[Tensor]:
        seen: list[Tensor] = []
        handles = [
            network.get_submodule(prefixes[-1]).register_forward_hook(lambda _, __, made: seen.append(made.clone()))
            for stage, prefixes in layout_of(of, 4).stages
            if stage not in ("fc", "head")
        ]
        with torch.no_grad():
            run_on_shapes(network.eval(), images)
        for handle in handles:
            handle.remove()
        return seen

    found, expected = outputs(module, model), outputs(classifier, plain)
    assert len(found) == len(expected) > 3 - (name == "cifar_resnet8")
    for ours, theirs in zip(found, expected, strict=True):
        ratio = ours.shape[-1] // theirs.shape[-1]  # a segmentor's are dilated, and so larger
        torch.testing.assert_close(ours[..., ::ratio, ::ratio], theirs)


@pytest.mark.parametrize(("name", "head"), SMALL)
def test_initial_weights_come_from_the_seed_alone_and_the_generator_stays(name, head):
    def built(seed: int, state: int) -> dict[str, Tensor]:
        torch.manual_seed(state)
        before = torch.get_rng_state()
        module = build_model(Model(name=name, head=head), 3, seed)
        assert torch.equal(torch.get_rng_state(), before)
        return copy_of(module.state_dict())

    first = built(0, state=1)
    assert not changed(first, built(0, state=2))
    drawn = {key for key, tensor in first.items() if tensor.ndim in (2, 4)}
    assert changed(first, built(1, state=1)) >= drawn


@pytest.mark.parametrize(("name", "head"), [("mini_resnet14", "faster_rcnn"), ("cifar_resnet8", "fcn")])
def test_a_backbone_begins_with_the_bits_of_the_classification_network(name, head):
    model = Model(name=name, head=head)
    module, plain = build_model(model, 4, seed=3), build_model(Model(name=name), 4, seed=3)
    state = module.state_dict()
    placed = layout_of(model, 4).placed(plain.state_dict())
    assert not changed(copy_of(placed), copy_of({key: state[key] for key in placed}))


@pytest.mark.parametrize(
    "edits", [{"deep_stem": True}, {"avg_down": True}, {"variant": "a"}, {"deep_stem": True, "avg_down": True}]
)
@pytest.mark.parametrize("head", ["faster_rcnn", "fcn"])
def test_edits_reach_the_backbone(head, edits):
    model, plain = Model(name="mini_resnet14", head=head, **edits), Model(name="mini_resnet14", **edits)
    layout = layout_of(model, 4)
    backbone = {key: shape for key, shape in layout.parameters if layout.stage(key) != "head"}
    assert backbone == layout.placed(dict(layout_of(plain, 4).parameters))


@pytest.mark.parametrize(("name", "head"), SMALL)
def test_residual_branches_end_where_they_do_in_the_classifier(name, head):
    """What zero γ sets."""
    layout, plain = layout_of(Model(name=name, head=head), 4), layout_of(Model(name=name), 4)
    assert layout.last_norms == tuple(layout.placed(dict.fromkeys(plain.last_norms)))
    assert layout.last_norms


# Dilation.


@pytest.mark.parametrize(
    "model",
    [
        Model(name="resnet18", head="fcn"),
        Model(name="mini_resnet14", head="fcn", variant="a"),
        Model(name="resnet34", head="fcn", deep_stem=True),
    ],
    ids=lambda model: model.name,
)
def test_without_strides_the_last_stages_see_all_that_they_did_with_them(model):
    """Every fourth pixel of a map at stride 8 is a pixel of the map at stride 32 (Chen et al. 2017, §3.1)."""
    plain = build_model(model.model_copy(update={"head": None}), 4, seed=0).eval()
    module = build_model(model, 4, seed=0).eval()
    images = torch.rand(1, 3, 128, 128, generator=numbered())
    seen: list[Tensor] = []
    plain.get_submodule("layer4").register_forward_hook(lambda _, __, made: seen.append(made))
    with torch.no_grad():
        plain(images)
        dense = module.get_submodule("backbone")(images)["out"]
    assert (seen[0].shape[-1], dense.shape[-1]) == (4, 16)
    torch.testing.assert_close(dense[..., ::4, ::4], seen[0], rtol=1e-4, atol=1e-4 * seen[0].max().item())


def test_shortcuts_without_a_stride_have_nothing_to_average():
    model = Model(name="mini_resnet14", head="fcn", avg_down=True)
    backbone = build_model(model, 4, seed=0).get_submodule("backbone")
    pooled = [name for name, child in backbone.named_modules() if isinstance(child, nn.AvgPool2d)]
    assert pooled == ["layer2.0.downsample.pool"]
    assert backbone(torch.zeros(2, 3, 64, 64))["out"].shape[-1] == 8


# The size of images.


@pytest.mark.parametrize(
    ("name", "head", "size"), [("mini_resnet14", "faster_rcnn", 96), ("mobilenet_v2", "ssdlite", 64)]
)
def test_images_of_the_size_of_the_data_enter_a_detector_as_they_are(name, head, size):
    module = of_ours(head, name, image_size=size)
    images = torch.randn(2, 3, size, size, generator=numbered())
    for mode in (True, False):
        module.train(mode)
        entering, targets = module.get_submodule("transform")([*images], boxes_on(2, size))
        assert torch.equal(entering.tensors[..., :size, :size], images)
        assert not entering.tensors[..., size:, :].any()
        assert torch.equal(targets[0]["boxes"], boxes_on(2, size)[0]["boxes"])


@pytest.mark.parametrize("size", [None, 800])
def test_a_faster_rcnn_for_images_of_800_pixels_has_torchvisions_sizes(size):
    ours: Any = of_ours("faster_rcnn", "resnet18", image_size=size)
    with torch.device("meta"):
        theirs: Any = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    for attribute in ("min_size", "max_size", "size_divisible"):
        assert getattr(ours.transform, attribute) == getattr(theirs.transform, attribute)
    same(ours.rpn.anchor_generator.cell_anchors, theirs.rpn.anchor_generator.cell_anchors)


def test_the_smallest_images_of_a_faster_rcnn_are_those_whose_anchors_are_boxes():
    for size in (36, 37, 64):
        generator: Any = of_ours("faster_rcnn", "resnet18", image_size=size).get_submodule("rpn.anchor_generator")
        assert all((level[:, 2:] > level[:, :2]).all() for level in generator.cell_anchors)
    with pytest.raises(
        HarnessError, match="faster_rcnn cannot be trained on images of 35 pixels: it takes 36 and more"
    ):
        check_image_size(Model(name="resnet18", head="faster_rcnn"), 3, 35)


def test_anchors_of_a_small_faster_rcnn_are_of_four_strides():
    detector: Any = of_ours("faster_rcnn", "mini_resnet14", image_size=96)
    maps = detector.backbone(torch.zeros(1, 3, 96, 96)).values()
    sides = [(level[:, 2:] - level[:, :2]).prod(1).sqrt() for level in detector.rpn.anchor_generator.cell_anchors]
    strides = [96 / each.shape[-1] for each in list(maps)[:4]]
    assert strides == [4, 8, 16, 32]
    for side, stride in zip(sides, [*strides, 64], strict=True):
        assert torch.allclose(side, torch.tensor(4.0 * stride), rtol=0.1)


@pytest.mark.parametrize(("name", "head"), [pair for pair in PAIRS if pair[0] not in MADE_OF_THE_SAME_BLOCKS])
def test_every_network_takes_images_of_64_pixels(name, head):
    check_image_size(Model(name=name, head=head), 3, 64)


# Weights of a classification network.


@pytest.mark.parametrize(("name", "head"), [*SMALL, ("mobilenet_v2", "ssdlite")])
def test_weights_of_a_classifier_enter_the_backbone_and_nothing_else(name, head):
    model = Model(name=name, head=head)
    module, layout = build_model(model, 4, seed=0), layout_of(model, 4)
    source = copy_of(build_model(Model(name=name), 10, seed=1).state_dict())
    for tensor in source.values():
        tensor.add_(1)
    before = copy_of(module.state_dict())
    fit = weights.load_backbone(module, layout.placed(source), layout.head)
    assert not fit.left_out
    after = copy_of(module.state_dict())
    own = {key for key in before if layout.stage(key) != "head"}
    assert changed(before, after) == own
    # By order, which a network and what is made of it share: no name is looked at.
    kept = [source[key] for key in source if not key.startswith(("fc.", "classifier."))]
    assert all(torch.equal(after[key], value) for key, value in zip([k for k in after if k in own], kept, strict=True))


def test_weights_by_the_names_of_a_detector_enter_too():
    model = Model(name="mini_resnet14", head="faster_rcnn")
    layout = layout_of(model, 4)
    state = build_model(model, 9, seed=1).state_dict()
    module = build_model(model, 4, seed=0)
    weights.load_backbone(module, layout.placed(state), layout.head)
    assert torch.equal(module.state_dict()["backbone.body.conv1.weight"], state["backbone.body.conv1.weight"])
    assert not torch.equal(
        module.state_dict()["backbone.fpn.inner_blocks.0.0.weight"], state["backbone.fpn.inner_blocks.0.0.weight"]
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"layer4.0.bn1.weight": None}, "missing: backbone.layer4.0.bn1.weight"),
        ({"extra.weight": torch.zeros(1)}, "unexpected: extra.weight"),
        (
            {"conv1.weight": torch.zeros(16, 1, 7, 7)},
            "of another shape: backbone.conv1.weight (16, 1, 7, 7) for (16, 3, 7, 7)",
        ),
    ],
)
def test_weights_that_do_not_fit_the_backbone_are_refused_by_name(spoil, said):
    model = Model(name="mini_resnet14", head="fcn")
    layout = layout_of(model, 4)
    source = {**build_model(Model(name="mini_resnet14"), 10, seed=1).state_dict(), **spoil}
    given = {key: value for key, value in source.items() if value is not None}
    with pytest.raises(HarnessError) as caught:
        weights.load_backbone(build_model(model, 4, seed=0), layout.placed(given), layout.head)
    assert str(caught.value) == f"the weights do not fit the model; {said}"
