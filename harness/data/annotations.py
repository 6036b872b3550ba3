"""What scenes in files hold, checked: the boxes of Pascal VOC's XML, and masks of one label a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image

from harness.errors import HarnessError, unknown

IGNORED = 255
"""What masks say of pixels that neither losses nor metrics count."""
_WHAT_ZERO_IS = (
    "; the first class is what 0 means, usually the background. Where 0 is what has no class and counts neither in "
    "training nor in the score, as in ADE20K: `zero_is_other: true`"
)
"""Appended where a label lies beyond the classes: `classes` may lack the background."""


@dataclass(frozen=True)
class Boxes:
    """The objects of one image."""

    size: tuple[int, int]
    """Height and width of the image in pixels."""
    boxes: np.ndarray
    """x1, y1, x2, y2 [M, 4] in pixels, float32; the image reaches from 0 to its width and height."""
    labels: np.ndarray
    """Class [M], from 1 on, int64."""
    difficult: np.ndarray
    """Whether an object counts neither as found nor as missed [M], bool."""


def boxes_of(file: str, image: str, classes: Sequence[str]) -> Boxes:
    """Read an annotation of Pascal VOC, whose pixels count from 1 and whose last ones belong to the box.

    Raises HarnessError naming the file where it cannot be read, or has a box that is empty or outside the image.
    """
    from torchvision.datasets.voc import ET_parse, VOCDetection  # takes a second to import

    try:
        found = VOCDetection.parse_voc_xml(ET_parse(file).getroot())["annotation"]
        size = int(found["size"]["height"]), int(found["size"]["width"])
        objects = found["object"]
        sides = [[float(each["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for each in objects]
        names = [each["name"] for each in objects]
        difficult = np.array([each.get("difficult", "0") == "1" for each in objects], dtype=bool)
    except Exception as error:  # OSError, ParseError, and whatever a missing or doubled element leads to
        raise HarnessError(f"cannot read annotation {file}: {type(error).__name__}: {error}; mend the file") from error
    for name in names:
        if name not in classes:
            raise HarnessError(f"annotation {file}: {unknown('class', name, classes)}")
    _check_size(file, size, _size_of(image))
    boxes = np.array(sides, dtype=np.float32).reshape(-1, 4) - np.array([1, 1, 0, 0], dtype=np.float32)
    labels = np.array([classes.index(name) + 1 for name in names], dtype=np.int64)
    return Boxes(size, _inside(file, boxes, size), labels, difficult)


def _inside(file: str, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes [M, 4] without the pixel by which rounding may have put them out of an image of `size`."""
    height, width = size
    ends = np.array([width, height, width, height], dtype=np.float32)
    for number, box in enumerate(boxes, start=1):
        x1, y1, x2, y2 = (f"{side:g}" for side in box)
        said = f"annotation {file}: box {number}, ({x1}, {y1}) to ({x2}, {y2}) in pixels from 0,"
        seen = np.clip(box, 0, ends)
        if not (box[2:] > box[:2]).all():
            raise HarnessError(f"{said} is empty; remove it, or mend xmin, ymin, xmax and ymax")
        if (box < -1).any() or (box > ends + 1).any() or not (seen[2:] > seen[:2]).all():
            raise HarnessError(f"{said} is outside the image of {width}×{height}; mend xmin, ymin, xmax and ymax")
    clipped: np.ndarray = np.clip(boxes, 0, ends)
    return clipped


def mask_of(file: str, image: str, classes: int, zero_is_other: bool = False) -> np.ndarray:
    """Read a mask [h, w] of labels from 0 to `classes` − 1, uint8, and 255 where nothing counts.

    With `zero_is_other` the file counts classes from 1, and its 0 becomes 255. Raises HarnessError naming the file
    where it cannot be read, has other labels or another size than its image.
    """
    try:
        with PIL.Image.open(file) as opened:
            mask = np.asarray(opened)
    except Exception as error:  # the decoders of Pillow raise errors of every kind
        raise HarnessError(f"cannot read mask {file}: {error}") from error
    if mask.ndim != 2:
        raise HarnessError(f"mask {file} has {mask.shape[2]} values a pixel; it needs one, the label of its class")
    _check_size(file, mask.shape, _size_of(image))
    first = 1 if zero_is_other else 0
    labels = np.unique(mask)
    beyond = labels[(labels != IGNORED) & (labels != 0) & ((labels < first) | (labels >= classes + first))]
    if len(beyond):
        raise HarnessError(
            f"mask {file} has label {', '.join(map(str, beyond[:5]))}; legal: {first} to {classes + first - 1} for the "
            f"{classes} classes, {'0 for all other, ' if zero_is_other else ''}{IGNORED} for what does not count; mend "
            f"the mask or name all classes (`classes`, or classes.txt){'' if zero_is_other else _WHAT_ZERO_IS}"
        )
    mask = mask.astype(np.uint8)
    return np.where((mask == 0) | (mask == IGNORED), IGNORED, mask - 1).astype(np.uint8) if zero_is_other else mask


def _size_of(image: str) -> tuple[int, int]:
    """Return height and width of an image, of which only the head is read."""
    try:
        with PIL.Image.open(image) as opened:
            return opened.height, opened.width
    except Exception as error:
        raise HarnessError(f"cannot read image {image}: {error}") from error


def _check_size(file: str, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if found != size:
        raise HarnessError(
            f"{file} speaks of an image of {found[1]}×{found[0]} pixels, and its image has {size[1]}×{size[0]}; "
            "annotate the image as it is stored, whatever its EXIF says of turning it"
        )
