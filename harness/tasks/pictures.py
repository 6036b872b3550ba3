"""A few images with what is in them and what was predicted, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import chain
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle
from torch import Tensor
from torchvision.ops import box_area, box_iou

from harness.data.annotations import IGNORED
from harness.data.scene_sets import Objects
from harness.plots.style import COLOURS, GREY, STYLE, TEXT

SHOWN = 5
"""Images of a split that are drawn."""
CONFIDENCE = 0.5
"""Detections below it are not drawn."""
_IOU = 0.5
RGB = tuple[float, float, float]
Colour = str | RGB
_SIDE = 2.3
"""Inches of an image."""
_RIGHT, _WRONG, _UNCOUNTED = "#009E73", "#D55E00", GREY


def boxes_drawn(
    images: Sequence[Tensor], predictions: Sequence[Objects], targets: Sequence[Objects], classes: Sequence[str]
) -> Figure:
    """Return a column for each of images [3, h, w] uint8: the objects that are there above those that were detected.

    `classes` names labels from 1 on. Green above is found and orange missed; below, green is right and orange wrong: no
    object of that class, or one that a detection of higher confidence has. Difficult objects are grey.
    """
    with mpl.rc_context(STYLE):
        figure, panels = _panels(images, ("truth", "detected"))
        uncounted = False
        for (truth, detected), image, prediction, target in zip(panels, images, predictions, targets, strict=True):
            sure = _confident(prediction)
            matches = _matches(sure, target)
            colours = [_UNCOUNTED if crowd else _WRONG for crowd in _crowd(target)]
            uncounted |= _UNCOUNTED in colours
            for place in matches:
                if place is not None and colours[place] == _WRONG:
                    colours[place] = _RIGHT
            _draw_boxes(truth, image, target["boxes"], [classes[i - 1] for i in target["labels"].tolist()], colours)
            labels = zip(sure["labels"].tolist(), sure["scores"].tolist(), strict=True)
            texts = [f"{classes[label - 1]}  {score:.0%}" for label, score in labels]
            below = [_WRONG if place is None else colours[place] for place in matches]
            _draw_boxes(detected, image, sure["boxes"], texts, below)
        _legend(
            figure,
            [
                (_RIGHT, f"found: same class, IoU of {_IOU} or more"),
                (_WRONG, "missed above, wrong below"),
                *([(_UNCOUNTED, "difficult, not counted")] if uncounted else []),
            ],
            f"Detections of {CONFIDENCE:.0%} confidence or more",
        )
    return figure


def masks_drawn(
    images: Sequence[Tensor], predictions: Sequence[Tensor], targets: Sequence[Tensor], classes: Sequence[str]
) -> Figure:
    """Return a column for each of images [3, h, w] uint8: itself, its mask [h, w], and the one that was predicted.

    `classes` names labels from 0 on, the first of which is drawn dark. What is not counted is white.
    """
    with mpl.rc_context(STYLE):
        figure, panels = _panels(images, ("image", "truth", "predicted"))
        sizes = [image.shape[1:] for image in images]
        predictions, targets = (
            [mask[:height, :width].cpu() for mask, (height, width) in zip(masks, sizes, strict=True)]
            for masks in (predictions, targets)
        )
        shown = sorted({label for mask in chain(predictions, targets) for label in mask.unique().tolist()} - {IGNORED})
        palette = np.ones((IGNORED + 1, 3))
        palette[shown] = [_colour(label) for label in shown]
        for column, image, prediction, target in zip(panels, images, predictions, targets, strict=True):
            counted = target != IGNORED
            right = (prediction == target)[counted].double().mean().item() if counted.any() else float("nan")
            _show(column[0], image)
            column[1].imshow(palette[target.numpy()], interpolation="nearest")
            column[2].imshow(palette[prediction.numpy()], interpolation="nearest")
            column[2].set_xlabel(f"{right:.1%} of pixels right", fontsize=TEXT, color=GREY)
        _legend(figure, [(_colour(label), classes[label]) for label in shown], "")
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG, the same for the same figure."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def _panels(images: Sequence[Tensor], rows: Sequence[str]) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its panels, column by column; the rows have these names."""
    tallest = max(image.shape[1] / image.shape[2] for image in images)
    size = (_SIDE * len(images) + 0.4, _SIDE * tallest * len(rows) + 0.7)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03))
    grid = figure.subplots(len(rows), len(images), squeeze=False)
    for panel in grid.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    for panel, name in zip(grid[:, 0], rows, strict=True):
        panel.set_ylabel(name, fontsize=11)
    return figure, grid.T.tolist()


def _show(panel: Axes, image: Tensor) -> None:
    panel.imshow(image.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")


def _draw_boxes(panel: Axes, image: Tensor, boxes: Tensor, texts: Sequence[str], colours: Sequence[str]) -> None:
    _show(panel, image)
    height, width = image.shape[1:]
    for (x1, y1, x2, y2), text, colour in zip(boxes.tolist(), texts, colours, strict=True):
        # The edge of pixel 0 is at −½.
        panel.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.6))
        above = y1 > 0.1 * height
        rightmost = x1 > 0.7 * width
        panel.text(
            (x2 if rightmost else x1) - 0.5,
            (y1 if above else y2) - 0.5,
            text,
            fontsize=TEXT - 0.5,
            color="white",
            va="bottom" if above else "top",
            ha="right" if rightmost else "left",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2},
        )
    panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _confident(prediction: Objects) -> Objects:
    """Return the detections that are drawn, on the CPU, the most confident first."""
    order = prediction["scores"].argsort(descending=True)
    kept = order[prediction["scores"][order] >= CONFIDENCE]
    return {name: prediction[name][kept].cpu() for name in ("boxes", "labels", "scores")}


def _matches(prediction: Objects, target: Objects) -> list[int | None]:
    """Return the place of the object that each detection finds, the most confident choosing first.

    As mAP counts: of the objects that count the best one that is free, else a difficult one that has enough of the
    detection's own area, however many lie in it.
    """
    boxes, crowd = target["boxes"].cpu(), _crowd(target)
    same = prediction["labels"][:, None] == target["labels"].cpu()
    overlap = box_iou(prediction["boxes"], boxes).where(same, 0).tolist()
    share = _share(prediction["boxes"], boxes).where(same, 0).tolist()
    matches: list[int | None] = []
    for ious, shares in zip(overlap, share, strict=True):
        free = [(iou, place) for place, iou in enumerate(ious) if not crowd[place] and place not in matches]
        difficult = [(part, place) for place, part in enumerate(shares) if crowd[place]]
        found = [pair for pair in free if pair[0] >= _IOU] or [pair for pair in difficult if pair[0] >= _IOU]
        matches.append(max(found)[1] if found else None)
    return matches


def _share(found: Tensor, there: Tensor) -> Tensor:
    """Return the share of the area of each box `found` [D, 4] that lies in each box `there` [M, 4]: [D, M]."""
    begins = torch.maximum(found[:, None, :2], there[:, :2])
    ends = torch.minimum(found[:, None, 2:], there[:, 2:])
    within: Tensor = (ends - begins).clamp(min=0).prod(2) / box_area(found)[:, None]
    return within


def _crowd(target: Objects) -> list[int]:
    crowd: list[int] = target.get("iscrowd", target["labels"] * 0).tolist()
    return crowd


def _legend(figure: Figure, entries: Sequence[tuple[Colour, str]], title: str) -> None:
    handles = [Patch(facecolor=colour, edgecolor=GREY, linewidth=0.4, label=label) for colour, label in entries]
    style: Any = {"ncols": min(len(handles), 11), "frameon": False, "fontsize": TEXT, "title_fontsize": TEXT}
    legend = figure.legend(handles=handles, loc="outside lower center", title=title, **style)
    legend.get_title().set_color(GREY)


def _colour(label: int) -> RGB:
    """Return a colour of a label, dark for the first: the palette of the figures, then hues that lie far apart."""
    bright = [colour for colour in COLOURS if colour != "#000000"]
    if label == 0:
        return to_rgb("#2b2b2b")
    if label <= len(bright):
        return to_rgb(bright[label - 1])
    turn = label - len(bright)
    red, green, blue = hsv_to_rgb([turn * 0.618 % 1, 0.45 + 0.4 * (turn % 2), 0.85 - 0.25 * (turn // 2 % 2)])
    return red, green, blue
