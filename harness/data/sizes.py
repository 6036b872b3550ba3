"""How many images of a class each split gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.spec import Data

TRAIN, VAL, TEST, OPEN = 0, 1, 2, 3
"""What a pool says of an image: given to a split by its publisher, or open to be split."""


@dataclass(frozen=True)
class Sizes:
    """Images of one class in each split."""

    train: int
    val: int
    test: int


def sizes(given: Mapping[int, int], data: Data, name: str) -> Sizes:
    """Return the sizes of the splits of what is called `name`, of which `given` counts the images by split given.

    What the publisher gave to test or validation stays there; a split that was not given takes its share of the rest,
    test first. Raises HarnessError where a class has too few images.
    """
    rest = given.get(OPEN, 0) + given.get(TRAIN, 0)
    test = given.get(TEST, 0) or _count(rest, data.test_per_class, data.test_share)
    rest -= 0 if given.get(TEST) else test
    val = given.get(VAL, 0) or _count(rest, data.val_per_class, data.val_share)
    rest -= 0 if given.get(VAL) else val
    test, val = min(test, data.test_per_class or test), min(val, data.val_per_class or val)
    train = rest if data.train_per_class is None else data.train_per_class
    if rest < max(train, 1):
        wanted = f", fewer than the {train} asked for" if data.train_per_class else ""
        raise HarnessError(
            f"{name} has {max(rest, 0)} images left to train on beside {val} for validation and {test} for test"
            + wanted
        )
    return Sizes(train, val, test)


def _count(images: int, per_class: int | None, share: float) -> int:
    return per_class if per_class is not None else max(1, round(share * images))
