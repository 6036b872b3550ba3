"""Tiny data sets in the formats of their publishers, which torchvision's own loaders read; every pixel is random."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

RNG = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def jpeg(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(8, 8, 3)).save(path, format="JPEG")


def trust(patch: pytest.MonkeyPatch, module: object) -> None:
    """Have a loader take any file for the one whose hash it knows."""
    patch.setattr(module, "check_integrity", lambda path, *_: os.path.isfile(path))


def cifar10(root: Path, patch: pytest.MonkeyPatch) -> None:
    trust(patch, datasets.cifar)
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        batch = {"data": pixels(6, 3072), "labels": [3, 8, 0, 3, 8, 0]}
        (folder / name).write_bytes(pickle.dumps(batch))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))


def cifar100(root: Path, patch: pytest.MonkeyPatch) -> None:
    trust(patch, datasets.cifar)
    folder = root / "cifar-100-python"
    folder.mkdir()
    for name, count in (("train", 12), ("test", 4)):
        batch = {"data": pixels(count, 3072), "fine_labels": [0, 1] * (count // 2), "coarse_labels": [0] * count}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "aquarium_fish"]}))


def mnist(root: Path, _: pytest.MonkeyPatch, name: str = "MNIST") -> None:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 6)):
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels(count, 28, 28).tobytes())
        labels = bytes([7, 1] * (count // 2))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)


def fashion_mnist(root: Path, patch: pytest.MonkeyPatch) -> None:
    mnist(root, patch, "FashionMNIST")


def svhn(root: Path, patch: pytest.MonkeyPatch) -> None:
    trust(patch, datasets.svhn)
    for part, count in (("train", 12), ("test", 4)):
        labels = np.array([[10], [4]] * (count // 2), dtype=np.uint8)  # 10 stands for the digit 0
        savemat(root / f"{part}_32x32.mat", {"X": pixels(32, 32, 3, count), "y": labels})


def stl10(root: Path, patch: pytest.MonkeyPatch) -> None:
    trust(patch, datasets.stl10)
    folder = root / "stl10_binary"
    folder.mkdir()
    for part, count in (("train", 8), ("test", 4)):
        (folder / f"{part}_X.bin").write_bytes(pixels(count, 3, 96, 96).tobytes())
        (folder / f"{part}_y.bin").write_bytes(bytes([1, 2] * (count // 2)))
    (folder / "unlabeled_X.bin").write_bytes(b"")
    (folder / "class_names.txt").write_text("airplane\nbird\n")


def flowers102(root: Path, patch: pytest.MonkeyPatch) -> None:
    trust(patch, datasets.flowers102)
    folder = root / "flowers-102"
    for number in range(1, 13):
        jpeg(folder / "jpg" / f"image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 77] * 6])})
    # Flowers102 tests on more images than it trains on.
    savemat(folder / "setid.mat", {"trnid": [[3, 4]], "valid": [[1, 2]], "tstid": [list(range(5, 13))]})


def oxford_iiit_pet(root: Path, _: pytest.MonkeyPatch) -> None:
    folder = root / "oxford-iiit-pet"
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for name, label, kind in (("Abyssinian", 1, 1), ("american_bulldog", 2, 2)):
        for number in range(6):
            jpeg(folder / "images" / f"{name}_{number}.jpg")
            lines["test" if number > 3 else "trainval"].append(f"{name}_{number} {label} {kind} 1")
    for part, rows in lines.items():
        write(folder / "annotations" / f"{part}.txt", "\n".join(rows) + "\n")


def food101(root: Path, _: pytest.MonkeyPatch) -> None:
    folder = root / "food-101"
    for part, numbers in (("train", range(4)), ("test", range(4, 6))):
        listed = {name: [f"{name}/{number}" for number in numbers] for name in ("apple_pie", "waffles")}
        write(folder / "meta" / f"{part}.json", json.dumps(listed))
        for path in [*listed["apple_pie"], *listed["waffles"]]:
            jpeg(folder / "images" / f"{path}.jpg")


def dtd(root: Path, _: pytest.MonkeyPatch) -> None:
    folder = root / "dtd" / "dtd"
    for part, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (3, 4))):
        paths = [f"{name}/{name}_{number}.jpg" for name in ("banded", "zigzagged") for number in numbers]
        write(folder / "labels" / f"{part}1.txt", "\n".join(paths) + "\n")
        for path in paths:
            jpeg(folder / "images" / path)


def caltech101(root: Path, _: pytest.MonkeyPatch) -> None:
    for name in ("ant", "yin_yang", "BACKGROUND_Google"):
        for number in range(1, 6):
            jpeg(root / "caltech101" / "101_ObjectCategories" / name / f"image_{number:04d}.jpg")


def fgvc_aircraft(root: Path, _: pytest.MonkeyPatch) -> None:
    folder = root / "fgvc-aircraft-2013b" / "data"
    write(folder / "variants.txt", "707-320\nDR-400\n")
    for part, start in (("train", 0), ("val", 4), ("test", 6)):
        lines = [f"{start + place:07d} {name}" for place, name in enumerate(["DR-400", "707-320"])]
        write(folder / f"images_variant_{part}.txt", "\n".join(lines) + "\n")
        for line in lines:
            jpeg(folder / "images" / f"{line.split()[0]}.jpg")


def eurosat(root: Path, _: pytest.MonkeyPatch) -> None:
    for name in ("Forest", "River"):
        for number in range(5):
            jpeg(root / "eurosat" / "2750" / name / f"{name}_{number}.jpg")


def imagenette(root: Path, _: pytest.MonkeyPatch) -> None:
    for wnid in ("n01440764", "n03888257"):
        for part, numbers in (("train", range(4)), ("val", range(4, 6))):
            for number in numbers:
                jpeg(root / "imagenette2" / part / wnid / f"{wnid}_{number}.jpeg")


def imagenet(root: Path, _: pytest.MonkeyPatch) -> None:
    words = {"n01440764": ("tench", "Tinca tinca"), "n02012849": ("crane",), "n03126707": ("crane",)}
    torch.save((words, ["n01440764"]), root / "meta.bin")
    for wnid in words:
        for part, numbers in (("train", range(4)), ("val", range(4, 6))):
            for number in numbers:
                jpeg(root / part / wnid / f"ILSVRC2012_{part}_{number}.JPEG")


MAKE: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "svhn": svhn,
    "stl10": stl10,
    "flowers102": flowers102,
    "oxford_iiit_pet": oxford_iiit_pet,
    "food101": food101,
    "dtd": dtd,
    "caltech101": caltech101,
    "fgvc_aircraft": fgvc_aircraft,
    "eurosat": eurosat,
    "imagenette": imagenette,
    "imagenet": imagenet,
}
SIDE = {"cifar10": 32, "cifar100": 32, "mnist": 28, "fashion_mnist": 28, "svhn": 32, "stl10": 96}
"""Pixels on a side, where they are not 8."""
