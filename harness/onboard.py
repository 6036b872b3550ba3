"""`harness init`: a first spec for the user's own image folder, written from what is found there."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from jinja2 import Environment, PackageLoader
from PIL import Image, UnidentifiedImageError

from harness.data.folder import Entry, listing
from harness.data.sizes import OPEN, TEST, TRAIN, VAL
from harness.errors import HarnessError

_SAMPLE = 200
_SHOWN = 12
_SIZES = (64, 128, 224)
"""Sides that torchvision's networks take; below 64 pixels nothing is left after five halvings."""
_TEST_SHARE = 0.2
_FIRST_LOOK = 2000
"""Training images of a first grid at most."""
_NAMES = {TRAIN: "train", VAL: "val", TEST: "test", OPEN: "to be split"}


@dataclass(frozen=True)
class Found:
    """What lies in an image folder."""

    counts: dict[str, Counter[str]]
    """Class to split to number of images."""
    side: int
    """Median of the shorter side, in pixels, of a sample."""
    copies: int
    """Files that are byte for byte copies of another."""
    leaks: int
    """Copies that lie in another split or class than their twin."""

    @property
    def smallest_train(self) -> int:
        """Images of the smallest class that are not given to val or test."""
        return min(counts["train"] + counts["to be split"] for counts in self.counts.values())


def inspect(root: Path) -> Found:
    """Look through an image folder; raises HarnessError where there are no images, or fewer than two classes."""
    if (root / "images").is_dir() and (root / "annotations").is_dir():
        raise HarnessError(
            f"{root} has images and annotations, as sets for masks do; `init` writes specs for classification. "
            "The README has a spec for masks, under 'Boxes and masks'"
        )
    entries = listing(root)
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        counts.setdefault(entry.label, Counter())[_NAMES[entry.given]] += 1
    if len(counts) < 2:
        raise HarnessError(f"{root} holds one class, {next(iter(counts))!r}; a classifier needs two or more folders")
    sample = entries[:: max(1, len(entries) // _SAMPLE)]
    twins = _twins(root, entries)
    return Found(
        counts=counts,
        side=round(median(_short_side(root / entry.path) for entry in sample)),
        copies=sum(len(group) - 1 for group in twins),
        leaks=sum(len({(e.given, e.label) for e in group}) > 1 for group in twins),
    )


def _twins(root: Path, entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return the groups of files with the same bytes; only files of one size are read."""
    by_size: dict[int, list[Entry]] = {}
    for entry in entries:
        by_size.setdefault((root / entry.path).stat().st_size, []).append(entry)
    by_bytes: dict[bytes, list[Entry]] = {}
    for group in by_size.values():
        for entry in group if len(group) > 1 else ():
            key = hashlib.blake2b((root / entry.path).read_bytes()).digest()
            by_bytes.setdefault(key, []).append(entry)
    return [group for group in by_bytes.values() if len(group) > 1]


def _short_side(path: Path) -> int:
    try:
        with Image.open(path) as image:
            return min(image.size)
    except (UnidentifiedImageError, OSError) as error:
        raise HarnessError(f"cannot read image {path}: {error}") from None


def first_spec(found: Found, name: str, root: str, file: str) -> str:
    """Return the text of a commented spec for what was found; `root` is the folder as the spec shall name it."""
    environment = Environment(
        loader=PackageLoader("harness"), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    size = next((size for size in _SIZES if found.side <= size), _SIZES[-1])
    first = max(_FIRST_LOOK // len(found.counts), 2)
    given = any("test" in counts for counts in found.counts.values())
    room = found.smallest_train if given else found.smallest_train - round(_TEST_SHARE * found.smallest_train)
    limited = room >= first + first // 2
    images = (first if limited else int(room * 0.8)) * len(found.counts)
    batch = next((batch for batch in (64, 32, 16, 8, 4) if images >= 4 * batch), 2)
    return environment.get_template("init.yaml.j2").render(
        name=name,
        file=file,
        root=root,
        found=found,
        given=given,
        test_share=_TEST_SHARE,
        first=first,
        limited=limited,
        size=size,
        batch=batch,
        lines=_count_lines(found),
        total=sum(sum(counts.values()) for counts in found.counts.values()),
    )


def _count_lines(found: Found) -> list[str]:
    shown = list(found.counts.items())[:_SHOWN]
    width = max(len(label) for label, _ in shown)
    lines = [
        f"{label:<{width}}  " + ", ".join(f"{count} {split}" for split, count in sorted(counts.items(), reverse=True))
        for label, counts in shown
    ]
    return lines + ([f"… and {len(found.counts) - _SHOWN} more classes"] if len(found.counts) > _SHOWN else [])


def write_spec(folder: Path, out: Path | None) -> str:
    """Write a first spec for the images in `folder` and return what to tell the user; raises HarnessError."""
    found = inspect(folder)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-._") or "study"
    path = out or Path(f"{name}.yaml")
    root = os.path.relpath(folder.resolve(), path.resolve().parent)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(first_spec(found, name, root, path.name))
    except FileExistsError:
        raise HarnessError(f"{path} is there already; choose another with --out") from None
    except OSError as error:
        raise HarnessError(f"cannot write {path}: {error.strerror}") from None
    total = sum(sum(counts.values()) for counts in found.counts.values())
    return "\n".join(
        [
            f"{total} images in {len(found.counts)} classes, shorter side about {found.side} pixels",
            *(f"  {line}" for line in _count_lines(found)),
            f"{found.copies} files are copies of another; the split keeps one of each"
            if found.copies
            else "no two files are copies of each other",
            "",
            f"Wrote {path}. Look at the plan first:  harness plan {path}",
        ]
    )
