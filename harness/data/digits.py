"""Handwritten digits: 1,797 real images of 8×8 pixels inside scikit-learn (UCI, Alpaydin & Kaynak 1998)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.data.sizes import OPEN

if TYPE_CHECKING:
    from harness.data.split import Pool
    from harness.spec import Data

COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
"""Images of each class 0–9."""


CLASSES = tuple("0123456789")


def counts(data: Data) -> dict[str, dict[int, int]]:
    """Return how many images each class asked for has, by split given: all are open."""
    return {name: {OPEN: COUNTS[int(name)]} for name in data.classes or CLASSES}


def read(data: Data) -> Pool:
    """Return the classes asked for, shifted.

    They are enlarged to `image_size` by repeating pixels, and grey repeated over three channels.
    """
    import numpy as np
    from sklearn.datasets import load_digits  # takes a second to import

    from harness.data.decoding import shifted
    from harness.data.split import Pool

    bunch = load_digits()
    classes = data.classes or CLASSES
    label_of = {int(name): label for label, name in enumerate(classes)}
    rows = np.flatnonzero(np.isin(bunch.target, list(label_of)))
    grey = np.round(bunch.images[rows] * (255 / 16)).astype(np.uint8)
    repeat = data.image_size // 8
    images = np.broadcast_to(
        grey.repeat(repeat, axis=1).repeat(repeat, axis=2)[:, None],
        (len(rows), 3, data.image_size, data.image_size),
    )
    labels = np.array([label_of[int(target)] for target in bunch.target[rows]], dtype=np.int64)
    return Pool(shifted(images, data.shift), labels, np.full(len(rows), OPEN), classes)
