"""A data set before it is decoded: which images there are, of which class, given to which split."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.digest import digest
from harness.errors import HarnessError, unknown

DECODER = "2"
"""Version of how images are decoded: raise it where the same files give other pixels."""
_SETTLED_NS = 2_000_000_000
"""A file touched later than this before it was read may change again within one tick of the file system's clock."""

Image = str | np.ndarray
"""The path of a file, or the pixels [H, W] or [H, W, 3] that its publisher packed with others."""


@dataclass(frozen=True)
class Catalogue:
    """The images of a data set in a fixed order."""

    root: Path
    images: tuple[Image, ...]
    labels: np.ndarray
    """Class [N] of each image, int64."""
    given: np.ndarray
    """TRAIN, VAL, TEST or OPEN [N], int64."""
    classes: tuple[str, ...]

    def of(self, classes: tuple[str, ...]) -> Catalogue:
        """Return the part that has these classes, labelled in their order; raises HarnessError for an unknown one."""
        for name in classes:
            if name not in self.classes:
                raise HarnessError(unknown(f"class of {self.root}", name, self.classes))
        label_of = np.full(len(self.classes), -1)
        label_of[[self.classes.index(name) for name in classes]] = range(len(classes))
        rows = np.flatnonzero(label_of[self.labels] >= 0)
        images = tuple(self.images[row] for row in rows)
        return Catalogue(self.root, images, label_of[self.labels[rows]], self.given[rows], classes)

    def counts(self) -> dict[str, dict[int, int]]:
        """Return how many images each class has by split given, copies counted."""
        found = Counter(zip(self.labels.tolist(), self.given.tolist(), strict=True))
        return {
            name: {part: count for (label, part), count in sorted(found.items()) if label == index}
            for index, name in enumerate(self.classes)
        }

    def content(self, cache: Path | None = None) -> str:
        """Return a digest of every image's bytes, place, class and split, and of how images are decoded.

        `cache` remembers the digests of files. Raises HarnessError for a file that cannot be read.
        """
        sha = hashlib.sha256(DECODER.encode())
        rows = zip(self.labels.tolist(), self.given.tolist(), self.digests(cache), strict=True)
        for label, given, (place, image) in rows:
            sha.update(f"{place}\t{self.classes[label]}\t{given}\t{image}\n".encode())
        return sha.hexdigest()[:16]

    def digests(self, cache: Path | None) -> Iterator[tuple[str, str]]:
        """Yield the place of each image in the data set, and the digest of its bytes."""
        with _Remembered(self.root, cache) as digest_of:
            for row, image in enumerate(self.images):
                if isinstance(image, str):
                    place = image.removeprefix(f"{self.root}{os.sep}")
                    yield place, digest_of(place)
                else:
                    yield str(row), hashlib.sha256(image.tobytes()).hexdigest()


class _Remembered:
    """Digests of the bytes of files under `root`; what was read before and not touched since is not read again."""

    def __init__(self, root: Path, cache: Path | None) -> None:
        self._root = root
        self._memory = cache / "data" / f"files-{digest(str(root))}.json" if cache else None
        self._known = self._recall()
        self._fresh: dict[str, tuple[list[int], str]] = {}

    def __enter__(self) -> _Remembered:
        return self

    def __exit__(self, *_: object) -> None:
        if self._memory and self._fresh:
            draft = self._memory.with_suffix(f".{os.getpid()}.part")
            with suppress(OSError):  # a full disk: what is not remembered is read again
                self._memory.parent.mkdir(parents=True, exist_ok=True)
                draft.write_text(json.dumps(self._recall() | self._fresh), encoding="utf-8")
                os.replace(draft, self._memory)

    def __call__(self, place: str) -> str:
        file = f"{self._root}{os.sep}{place}"
        try:
            stat = os.stat(file)
            # The last of them changes with every change of the file, and no tool can set it.
            mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            known, sha = self._known.get(place, (None, ""))
            if known == mark:
                return sha
            now = time.time_ns()
            sha = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        except OSError as error:
            raise HarnessError(f"cannot read image {file}: {error.strerror}") from None
        if now - stat.st_ctime_ns > _SETTLED_NS:
            self._fresh[place] = mark, sha
        return sha

    def _recall(self) -> dict[str, tuple[list[int], str]]:
        """Return marks and digests by file; nothing where there is no memory, or none that is whole."""
        try:
            known: dict[str, tuple[list[int], str]] = json.loads(self._memory.read_text()) if self._memory else {}
        except (OSError, ValueError):
            return {}
        return known
