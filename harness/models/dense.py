"""Networks for detection and segmentation: torchvision's heads on the backbone of a classification network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from torchvision.models.segmentation import FCN, DeepLabV3
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from harness.data.scene_decoding import LONGEST
from harness.errors import HarnessError
from harness.models.zoo import Head, Stages

_USUAL_SIZE = 800
"""Pixels of the shorter side that torchvision scales images to for a Faster R-CNN, and its anchors are meant for."""
_LEAST_SIZE = 36
"""Below it the narrowest anchor, 32 · √½ pixels wide of 800, rounds to none."""
_SMALL: Any = {
    "rpn_pre_nms_top_n_train": 125,
    "rpn_pre_nms_top_n_test": 62,
    "rpn_post_nms_top_n_train": 125,
    "rpn_post_nms_top_n_test": 62,
    "box_batch_size_per_image": 32,
}
"""A sixteenth of the regions that torchvision has a Faster R-CNN look at."""
_UNCHANGED: Any = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}
"""Images come in normalised, as for any other network."""


def with_head(head: Head, network: nn.Module, classes: int, image_size: int | None, small: bool) -> nn.Module:
    """Put a new `head` on `network`, a classification network that loses its classifier.

    `classes` are those of objects for detection, to which a background is added, and all there are for segmentation.
    Detectors scale images to a shorter side of `image_size` (SSDlite to a square of it), so that images of that size
    stay as they are, and with it their anchors; None is what torchvision has, 800 and 320. With `small` a Faster R-CNN
    has a pyramid and a box head of a quarter of their width, as its backbone, a sixteenth of the regions, and anchors
    of four strides of the map they lie on whatever `image_size` is; of 800 pixels, torchvision has eight.
    In training mode detectors map a list of images [3, h, w] and targets to a mapping of losses, in evaluation to
    boxes, labels and scores; segmentors map images [N, 3, H, W] to a mapping of logits [N, classes, H, W], `out` and
    those of an auxiliary head on the stage before, `aux`. Raises HarnessError for images that are too small.
    """
    if head == "faster_rcnn":
        return _faster_rcnn(network, classes, image_size or _USUAL_SIZE, small)
    if head == "ssdlite":
        return _ssdlite(network, classes, image_size or 320)
    *_, before, last = [name for name, _ in network.named_children() if name.startswith("layer")]
    backbone = IntermediateLayerGetter(network, {last: "out", before: "aux"})
    auxiliary = FCNHead(_channels(network, before), classes)
    if head == "fcn":
        return FCN(backbone, FCNHead(_channels(network, last), classes), auxiliary)  # type: ignore[no-any-return]
    return DeepLabV3(backbone, DeepLabHead(_channels(network, last), classes), auxiliary)  # type: ignore[no-any-return]


def _channels(network: nn.Module, stage: str) -> int:
    return [child for child in network.get_submodule(stage).modules() if isinstance(child, nn.Conv2d)][-1].out_channels


def _faster_rcnn(network: nn.Module, classes: int, image_size: int, small: bool) -> nn.Module:
    """Return torchvision's Faster R-CNN with a feature pyramid (Lin et al. 2017) over the four stages of a network."""
    if not small and image_size < _LEAST_SIZE:
        raise HarnessError(
            f"faster_rcnn cannot be trained on images of {image_size} pixels: it takes {_LEAST_SIZE} and more"
        )
    stages = [f"layer{number}" for number in (1, 2, 3, 4)]
    channels = [_channels(network, stage) for stage in stages]
    width = 64 if small else 256
    pyramid = BackboneWithFPN(network, {stage: str(i) for i, stage in enumerate(stages)}, channels, width)
    strides = (4, 8, 16, 32, 64)
    sizes = [4.0 * stride if small else 8 * stride * image_size / _USUAL_SIZE for stride in strides]
    return FasterRCNN(  # type: ignore[no-any-return]
        pyramid,
        min_size=image_size,
        max_size=round(LONGEST * image_size),
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in sizes), ((0.5, 1.0, 2.0),) * len(sizes)),
        box_head=TwoMLPHead(width * 7 * 7, 4 * width),
        box_predictor=FastRCNNPredictor(4 * width, classes + 1),
        **(_SMALL if small else {}),
        **_UNCHANGED,
    )


def _ssdlite(network: nn.Module, classes: int, image_size: int) -> nn.Module:
    """Return torchvision's SSDlite (Sandler et al. 2018, §6.2), its backbone's weights drawn as a classifier's are."""
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    features = network.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    # The maps that boxes are found on begin in the last block with a stride, after its expansion.
    last_strided = [index for index, block in enumerate(features) if getattr(block, "_is_cn", False)][-1]
    strided = features[last_strided]
    if not hasattr(strided, "block"):
        strided.block = strided.conv  # as MobileNetV2 names what torchvision's extractor looks for
    backbone = SSDLiteFeatureExtractorMobileNet(features, last_strided, norm)
    boxes = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    size = (image_size, image_size)
    channels = retrieve_out_channels(backbone, size)
    return SSD(  # type: ignore[no-any-return]
        backbone,
        boxes,
        size,
        classes + 1,
        head=SSDLiteHead(channels, boxes.num_anchors_per_location(), classes + 1, norm),
        score_thresh=0.001,
        nms_thresh=0.55,
        detections_per_img=300,
        topk_candidates=300,
        **_UNCHANGED,
    )


def run_on_shapes(module: nn.Module, images: Tensor) -> None:
    """Run a network on images [N, 3, H, W] that may have no values (`meta`), as far as it multiplies and normalises.

    What a detector does depends on values, so its parts are run one by one, without any choice of boxes; the box head
    of a Faster R-CNN is run on the most regions that it may be handed.
    """
    if isinstance(module, SSD):
        module.head([*module.backbone(images).values()])
    elif isinstance(module, FasterRCNN):
        maps = module.backbone(module.transform.batch_images([*images]))  # padded
        scores, _ = module.rpn.head([*maps.values()])
        heads = module.roi_heads
        most = heads.fg_bg_sampler.batch_size_per_image if module.training else module.rpn.post_nms_top_n()
        regions = min(most, sum(level[0].numel() for level in scores))
        finest = next(iter(maps.values())).mean((0, 2, 3))  # what regions are cut from, as far as gradients go
        boxes = finest[:, None, None].expand(len(images) * regions, -1, *heads.box_roi_pool.output_size)
        heads.box_predictor(heads.box_head(boxes))
    else:
        module(images)


def places_in(module: nn.Module, network: nn.Module, stages: Stages) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return each of the `stages` of a network with the name prefixes in it and where those are in `module`.

    `module` was made of the network. Prefixes that stayed behind (a classifier) have no place: an empty name. Of a
    block that was taken apart each part has its own.
    """
    there = {id(child): name for name, child in module.named_modules()}

    def places(name: str, thing: nn.Module) -> Iterator[tuple[str, str]]:
        inner = [(f"{name}.{key}", child) for key, child in thing.named_children()]
        if id(thing) in there:
            yield name, there[id(thing)]
        elif any(id(child) in there for child in thing.modules()):
            yield from chain.from_iterable(places(*each) for each in inner)
        else:
            yield name, ""

    return [
        (stage, tuple(chain.from_iterable(places(prefix, network.get_submodule(prefix)) for prefix in prefixes)))
        for stage, prefixes in stages
    ]
