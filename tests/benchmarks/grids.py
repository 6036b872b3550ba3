"""The grids that the harness and its peers train, at a scale, and what both begin with."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torchvision.models import resnet18

from harness import specfile
from harness.learner import initial_model
from harness.plan import Replicate
from harness.planning import make_plan
from harness.schedule import lr_factors
from harness.workspace import Workspace
from tests.benchmarks.peers.common import Cell, Work

CIFAR10 = Path(__file__).parents[3] / "shared" / "data" / "cifar10.tgz"
CLASSES, SIZE, BATCH = 10, 32, 64


@dataclass(frozen=True)
class Scale:
    """How much work a grid is."""

    train_per_class: int
    evaluated_per_class: int
    """Of validation, and of test."""
    epochs: int
    seeds: int | None = None
    """None is as many as each grid has."""


SCALES = {
    "tiny": Scale(14, 4, 2, 1),  # two steps an epoch
    "minutes": Scale(100, 20, 2),
    "hour": Scale(200, 50, 5),
    "hours": Scale(400, 100, 10),
}


@dataclass(frozen=True)
class Grid:
    """A grid as a spec has it: each trick set on each policy at each seed."""

    policies: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]
    """Trick sets besides the baseline."""
    seeds: int

    def spec(self, name: str, scale: Scale, folder: Path) -> str:
        """Return it as a spec of the harness."""
        tricks = {trick: TRICKS[trick] for chosen in self.sets for trick in chosen}
        return SPEC.format(
            scale=scale,
            name=name,
            folder=folder,
            epochs=scale.epochs,
            batch=BATCH,
            policies=json.dumps(self.policies),
            tricks=json.dumps(tricks),
            sets=json.dumps(((), *self.sets)),
            seeds=scale.seeds or self.seeds,
        )


TRICKS: dict[str, dict[str, float] | None] = {
    "warmup": {"epochs": 0.5},
    "cosine": None,
    "label_smoothing": None,
    "no_bias_decay": None,
    "mixup": None,
    "mixed_precision": None,
}
SPEC = """\
# {scale}
name: {name}
model: {{name: resnet18}}
weights: {{checkpoint: {folder}/weights.pt}}
data: {{name: image_folder, root: {folder}/images, image_size: 32}}
train: {{epochs: {epochs}, batch_size: {batch}, lr: 0.002, augment: {{flip: true}}, threads: 1}}
policies: {policies}
tricks: {tricks}
designs: [{{list: {sets}}}]
seeds: {seeds}
throughput: null
"""
"""Without a probe of speed and memory, which no peer has: the same figures of the same cells."""
GRIDS = {
    "mixed": Grid(
        ("full", "head_bn", "last_stage", "head"), (("warmup", "cosine"), ("label_smoothing",), ("mixup",)), 4
    ),
    "frozen_heavy": Grid(
        ("last_stage", "head"), (("warmup",), ("cosine",), ("label_smoothing",), ("no_bias_decay",)), 6
    ),
}


def make_images(folder: Path, scale: Scale) -> str:
    """Write an image folder with the three splits, of CIFAR-10 where it is, else of noise; returns which."""
    splits = {"train": scale.train_per_class, "val": scale.evaluated_per_class, "test": scale.evaluated_per_class}
    if CIFAR10.exists():
        _unpack(folder, splits)
        return "CIFAR-10"
    random = np.random.default_rng(0)
    for split, count in splits.items():
        for label in range(CLASSES):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.normal(20 * label + 40, 40, (SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8)
                PIL.Image.fromarray(pixels).save(place / f"{number:04}.jpg")
    return "noise"


def _unpack(folder: Path, splits: dict[str, int]) -> None:
    """Take the first training images of each class for training, the next for validation; test images for test."""
    begin = {"train": 0, "val": splits["train"], "test": 0}
    with tarfile.open(CIFAR10) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if not member.isfile():
                continue
            _, given, label, name = parts
            number = int(Path(name).stem)
            for split in ("train", "val") if given == "train" else ("test",):
                if begin[split] <= number < begin[split] + splits[split]:
                    place = folder / split / label
                    place.mkdir(parents=True, exist_ok=True)
                    content = archive.extractfile(member)
                    assert content is not None
                    (place / name).write_bytes(content.read())


def make_weights(path: Path) -> None:
    """Write random weights whose batch norm has seen noise, so that frozen statistics let signals through.

    The last γ of a residual block is small: from other random weights, trainings that round otherwise are soon as far
    apart as those that learn from other targets, and no gate could tell one from the other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = resnet18(num_classes=CLASSES).train()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name.endswith("bn2.weight"):
                    parameter.fill_(0.2)
            for _ in range(20):
                module(torch.randn(BATCH, 3, SIZE, SIZE))
    torch.save(module.state_dict(), path)


def prepare(folder: Path, name: str, grid: Grid, scale: Scale) -> Path:
    """Write the spec of a grid, the weights that its seeds begin with and the file of the work; returns its folder.

    Images and weights lie in `folder` beside it, and are made where they are missing, images also where they are of
    another scale.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "weights.pt").exists():
        make_weights(folder / "weights.pt")
    made_for = folder / "scale.txt"
    if not made_for.exists() or made_for.read_text() != str(scale):
        shutil.rmtree(folder / "images", ignore_errors=True)
        (folder / "images.txt").write_text(make_images(folder / "images", scale))
        made_for.write_text(str(scale))
    place = folder / name
    (place / "experiments").mkdir(parents=True, exist_ok=True)
    (place / "spec.yaml").write_text(grid.spec(name, scale, folder))
    planned = place / "experiments" / f"{name}.yaml"
    planned.write_text((place / "spec.yaml").read_text())
    replicates = make_plan(specfile.read(planned), Workspace(place)).replicates
    initial = {}
    for replicate in {replicate.seed: replicate for replicate in replicates}.values():
        path = place / f"initial-{replicate.seed}.pt"
        torch.save(initial_model(replicate.training, torch.device("cpu")).state_dict(), path)
        initial[str(replicate.seed)] = str(path)
    (place / "work.json").write_text(json.dumps(asdict(work_of(replicates, folder / "images", initial))))
    return place


def work_of(replicates: tuple[Replicate, ...], images: Path, initial: dict[str, str]) -> Work:
    """Return what the harness resolved for its replicates as plain data."""
    training, size = replicates[0].training, replicates[0].data.train_size
    return Work(
        images=str(images),
        classes=training.classes,
        mean=training.data.mean,
        std=training.data.std,
        train_size=size,
        batch_size=training.train.batch_size,
        epochs=training.train.epochs,
        lr=training.train.lr,
        initial=initial,
        cells=[_cell(replicate, size // training.train.batch_size) for replicate in replicates],
    )


def _cell(replicate: Replicate, per_epoch: int) -> Cell:
    training = replicate.training
    (phase,), recipe, train = training.phases, training.recipe, training.train
    smoothing: list[Any] = list(recipe.target_maps)
    mixup: list[Any] = list(recipe.mixes)
    return Cell(
        policy=replicate.cell.policy,
        tricks=replicate.cell.trick_set.replace(" ", ""),
        seed=replicate.seed,
        groups=[(list(group.names), group.weight_decay) for group in phase.groups],
        bn_stats=list(phase.bn_stats),
        factors=lr_factors([phase], recipe.warmups, recipe.decay or train.decay, train.epochs, per_epoch),
        smoothing=smoothing[0].epsilon if smoothing else 0.0,
        mixup=mixup[0].alpha if mixup else 0.0,
        bf16=recipe.precision is not None,
    )
