"""Deterministic splits without overlap, not even of copies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.data.sizes import OPEN, TEST, TRAIN, VAL, sizes
from harness.seeds import stream

if TYPE_CHECKING:
    from harness.data.decoding import Undecoded
    from harness.spec import Data


@dataclass(frozen=True)
class Pool:
    """A data set: images [N, 3, H, W] uint8, labels [N] int64, given [N] (TRAIN, VAL, TEST or OPEN)."""

    images: np.ndarray | Undecoded
    labels: np.ndarray
    given: np.ndarray
    classes: tuple[str, ...]
    """One where images have no class of their own."""
    keys: np.ndarray | None = None
    """`key_of` each image [N], where it is known; None looks at the images."""


@dataclass(frozen=True)
class Parts:
    """Rows of a pool in each split, ascending."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    duplicates_dropped: int


def partition(pool: Pool, data: Data, seed: int) -> Parts:
    """Split a pool by class: test, then validation by `data.split_seed`; the training subset by `seed`.

    An image outside test that has a copy in test, in validation or earlier in training is dropped. Raises HarnessError
    where a class has too few images.
    """
    given, dropped = _without_copies(pool)
    parts: dict[int, list[np.ndarray]] = {TRAIN: [], VAL: [], TEST: []}
    fixed, drawn = stream(data.split_seed, "split"), stream(seed, "subset")
    for label, name in enumerate(pool.classes):
        here = pool.labels == label
        rows = {part: np.flatnonzero(here & (given == part)) for part in (TRAIN, VAL, TEST, OPEN)}
        called = f"class {name!r}" if len(pool.classes) > 1 else name
        size = sizes({part: len(found) for part, found in rows.items()}, data, called)
        rest = fixed.permutation(np.concatenate([rows[OPEN], rows[TRAIN]]))
        if not len(rows[TEST]):
            rows[TEST], rest = np.split(rest, [size.test])
        if not len(rows[VAL]):
            rows[VAL], rest = np.split(rest, [size.val])
        test, val = fixed.permutation(rows[TEST]), fixed.permutation(rows[VAL])
        parts[TEST].append(test[: size.test])
        parts[VAL].append(val[: size.val])
        parts[TRAIN].append(drawn.permutation(rest)[: size.train])
    train, val, test = (np.sort(np.concatenate(parts[part])) for part in (TRAIN, VAL, TEST))
    return Parts(train, val, test, dropped)


def _without_copies(pool: Pool) -> tuple[np.ndarray, int]:
    """Return `given` with −1 for every image outside test that has a copy in a split read before it."""
    given = pool.given.copy()
    keys = pool.keys if pool.keys is not None else [key_of(pool.images[[row]]) for row in range(len(pool.labels))]
    seen: set[int] = set()
    for part in (TEST, VAL, TRAIN, OPEN):
        for row in np.flatnonzero(pool.given == part):
            if keys[row] in seen and part != TEST:
                given[row] = -1
            seen.add(keys[row])
    return given, int((given == -1).sum())


def key_of(image: np.ndarray) -> int:
    """Return a number that images with the same pixels share, and others but for one in 2⁶⁴."""
    return int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "big", signed=True)
