"""What is no peer's merit: the cells, what learns in each, the batches that all draw alike, what is kept at the end.

`cells.py` writes a file of the work: what the harness resolved from its spec, as plain data. A peer reads it, trains
every cell with its own means and logs `train_loss`, `val_top1` and `test_top1` to the MLflow store in its folder. Runs
in environments without the harness' own packages: of it, nothing but `harness.seeds` is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2

from harness.seeds import stream

EVALUATED = 256
"""Images of an evaluation batch."""
SAMPLE = 1024
"""Elements that are kept of each tensor of the trained weights."""
MOMENTUM = 0.9
Key = tuple[int, bool]
"""An image by its row, and whether it is mirrored."""


@dataclass(frozen=True)
class Cell:
    """One training: what learns, and what the tricks of its set come to."""

    policy: str
    tricks: str
    seed: int
    groups: list[tuple[list[str], float]]
    """Names of the parameters that learn, and their weight decay."""
    bn_stats: list[str]
    """Batch norms whose running statistics follow the batches; all others evaluate."""
    factors: list[float]
    """On the learning rate, at each step."""
    smoothing: float
    """Label smoothing's ε, of which each other class gets ε/(K − 1)."""
    mixup: float
    """Mixup's α; 0 mixes nothing."""
    bf16: bool
    """Whether a step computes under autocast to bfloat16."""

    @property
    def name(self) -> str:
        """The name of its run, as the harness has it."""
        return f"{self.policy} | {self.tricks} | seed {self.seed}"


@dataclass(frozen=True)
class Work:
    """The cells of a grid and what they share."""

    images: str
    """Folder with `train/<class>/`, `val/<class>/` and `test/<class>/`."""
    classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train_size: int
    batch_size: int
    epochs: int
    lr: float
    initial: dict[str, str]
    """By seed: the file with the state dict that trainings begin with, head included."""
    cells: list[Cell]

    def cell(self, policy: str, tricks: str, seed: int) -> Cell:
        """Return the cell of a policy, a trick set and a seed."""
        wanted = policy, tricks, seed
        return next(cell for cell in self.cells if (cell.policy, cell.tricks, cell.seed) == wanted)

    def levels(self) -> dict[str, list[Any]]:
        """Return the policies, trick sets and seeds whose product the cells are."""
        return {key: list(dict.fromkeys(getattr(cell, key) for cell in self.cells)) for key in _AXES}


_AXES = "policy", "tricks", "seed"


def read(path: Path) -> Work:
    """Read a file of the work."""
    content = json.loads(path.read_text())
    return Work(**{**content, "cells": [Cell(**cell) for cell in content["cells"]]})


def store(out: Path) -> str:
    """Return the URI of the MLflow store in a peer's folder."""
    return f"sqlite:///{out}/mlflow.db"


def network(work: Work, cell: Cell) -> nn.Module:
    """Return the network of a cell before its first step."""
    return begun(resnet18(num_classes=work.classes), work, cell)


def begun(module: nn.Module, work: Work, cell: Cell) -> nn.Module:
    """Load the weights that a cell begins with, and let learn what learns in it."""
    module.load_state_dict(torch.load(work.initial[str(cell.seed)], weights_only=True))
    learning = {name for names, _ in cell.groups for name in names}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in learning)
    return module


def training_mode(module: nn.Module, cell: Cell) -> None:
    """Put the network in training mode but for frozen batch norm, which evaluates."""
    module.train()
    for name, child in module.named_modules():
        if isinstance(child, BatchNorm) and name not in cell.bn_stats:
            child.eval()


def groups(module: nn.Module, cell: Cell) -> list[dict[str, Any]]:
    """Return what learns as groups of an optimizer: what is frozen is in none, and so never decays."""
    parameters = dict(module.named_parameters())
    return [{"params": [parameters[name] for name in names], "weight_decay": decay} for names, decay in cell.groups]


def optimizer(module: nn.Module, work: Work, cell: Cell) -> tuple[torch.optim.SGD, LambdaLR]:
    """Return the optimizer of a cell and the schedule of its rate, to be stepped after every batch."""
    made = torch.optim.SGD(groups(module, cell), lr=work.lr, momentum=MOMENTUM, nesterov=True)
    return made, LambdaLR(made, schedule(cell))


def schedule(cell: Cell) -> Callable[[int], float]:
    """Return the factor on the learning rate by step; a scheduler asks for one step more than there is."""
    return lambda step: cell.factors[min(step, len(cell.factors) - 1)]


@dataclass(frozen=True)
class Batch:
    """What is drawn for one batch of N images."""

    rows: Tensor
    """[N]."""
    flips: Tensor
    """Whether each image is mirrored [N]."""
    share: float = 1.0
    """Mixup's λ."""
    partners: Tensor | None = None
    """Which image of the batch each is mixed with [N]; None mixes nothing."""

    @property
    def keys(self) -> list[Key]:
        """The images, one by one."""
        return list(zip(self.rows.tolist(), self.flips.tolist(), strict=True))


def draw(work: Work, cell: Cell) -> list[list[Batch]]:
    """Draw all batches of a cell, epoch by epoch, from the streams that the harness draws them from."""
    order, flip, mix = (stream(cell.seed, name) for name in ("order", "flip", "BatchMixup"))

    def batch(rows: Tensor) -> Batch:
        flips = torch.from_numpy(flip.random(len(rows)) < 0.5)
        if not cell.mixup:
            return Batch(rows, flips)
        share = mix.beta(cell.mixup, cell.mixup)
        return Batch(rows, flips, share, torch.from_numpy(mix.permutation(len(rows))))

    whole = work.train_size // work.batch_size * work.batch_size
    epochs = (torch.from_numpy(order.permutation(work.train_size))[:whole] for _ in range(work.epochs))
    return [[batch(rows) for rows in epoch.split(work.batch_size)] for epoch in epochs]


class Passes:
    """The images of the batches of one epoch each time it is gone through: a `batch_sampler`."""

    def __init__(self, epochs: list[list[Batch]]) -> None:
        self._epochs, self._rest = epochs, iter(epochs)

    def __iter__(self) -> Iterator[list[Key]]:
        """Begin the next epoch, once the first of its batches is asked for: loaders make iterators they never use."""
        for batch in next(self._rest):
            yield batch.keys

    def __len__(self) -> int:
        return len(self._epochs[0])


def soft_targets(labels: Tensor, work: Work, cell: Cell) -> Tensor:
    """Return targets [N, K] of labels [N], smoothed where the cell smooths."""
    hard = F.one_hot(labels, work.classes).float()
    return (1 - cell.smoothing) * hard + cell.smoothing / (work.classes - 1) * (1 - hard)


def mixed(images: Tensor, targets: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mix images and targets as was drawn."""
    if batch.partners is None:
        return images, targets
    return images[batch.partners].lerp(images, batch.share), targets[batch.partners].lerp(targets, batch.share)


class Normalise(nn.Module):
    """Map uint8 images [..., 3, H, W] to (x/255 − mean)/std, rounded as the harness rounds it.

    Another rounding of the inputs would grow with the steps of a training, and hide from the gate what else differs.
    """

    def __init__(self, work: Work) -> None:
        super().__init__()
        mean, std = (torch.tensor(value)[:, None, None] for value in (work.mean, work.std))
        self._scale, self._shift = 1 / (255 * std), -mean / std

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised images."""
        return images.float() * self._scale + self._shift


def transform(work: Work) -> v2.Compose:
    """Return what makes of an image file what the network takes."""
    return v2.Compose([v2.PILToTensor(), Normalise(work)])


class Mirrored(Dataset[tuple[Tensor, int]]):
    """The images of a data set of PIL images, mirrored where that was drawn."""

    def __init__(self, images: Any, work: Work) -> None:
        self._images, self._transform = images, transform(work)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        row, flip = key
        image, label = self._images[row]
        return self._transform(v2.functional.hflip(image) if flip else image), label


def folder(work: Work, split: str) -> ImageFolder:
    """Return the images of a split as PIL images."""
    return ImageFolder(str(Path(work.images) / split))


def training_loader(images: Any, epochs: list[list[Batch]], work: Work, workers: int = 2) -> DataLoader[Any]:
    """Return the loader of training images as people write it: decoding, and augmenting in worker processes."""
    return DataLoader(Mirrored(images, work), batch_sampler=Passes(epochs), num_workers=workers)


def evaluation_loader(work: Work, split: str, workers: int = 2) -> DataLoader[Any]:
    """Return the loader of a split to evaluate on."""
    images = ImageFolder(str(Path(work.images) / split), transform=transform(work))
    return DataLoader(images, batch_size=EVALUATED, num_workers=workers)


@dataclass(frozen=True)
class Decoded:
    """A split held in memory: images [N, 3, H, W], uint8, and labels [N]."""

    images: Tensor
    labels: Tensor


@lru_cache
def decoded(images: str, split: str) -> Decoded:
    """Decode a split once in this process."""
    found = ImageFolder(str(Path(images) / split))
    pixels = np.stack([np.asarray(image) for image, _ in found])
    return Decoded(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets))


class InMemory:
    """The batches of a decoded split, normalised; those of one epoch each time it is gone through."""

    def __init__(self, split: Decoded, epochs: list[list[Batch]] | None, work: Work) -> None:
        """Without `epochs`, all images in their order, to evaluate on."""
        self._split, self._rest = split, iter(epochs) if epochs else None
        self._normalise = Normalise(work)
        self.batch_size = work.batch_size if epochs else EVALUATED  # which Composer asks a loader for
        self._length = len(epochs[0]) if epochs else -(-len(split.labels) // EVALUATED)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in next(self._rest) if self._rest else self._evaluated():
            images = self._split.images[batch.rows]
            images = torch.where(batch.flips[:, None, None, None], images.flip(3), images)
            yield self._normalise(images), self._split.labels[batch.rows]

    def _evaluated(self) -> Iterator[Batch]:
        for rows in torch.arange(len(self._split.labels)).split(EVALUATED):
            yield Batch(rows, torch.zeros(len(rows), dtype=torch.bool))


def loaders(work: Work, epochs: list[list[Batch]], in_memory: bool) -> dict[str, Any]:
    """Return what is trained on and evaluated, by split: out of memory, or from files as people write it."""
    if in_memory:
        held = {split: decoded(work.images, split) for split in ("train", "val", "test")}
        return {split: InMemory(images, epochs if split == "train" else None, work) for split, images in held.items()}
    evaluated = {split: evaluation_loader(work, split) for split in ("val", "test")}
    return {"train": training_loader(folder(work, "train"), epochs, work), **evaluated}


@torch.inference_mode()
def top1(module: nn.Module, batches: Any) -> float:
    """Return the share of images that the network, in evaluation mode, predicts right."""
    module.eval()
    right = [(module(images).argmax(1) == labels).float() for images, labels in batches]
    return torch.cat(right).mean().item()


def autocast(cell: Cell) -> torch.autocast:
    """Return the precision of a step."""
    return torch.autocast("cpu", torch.bfloat16, enabled=cell.bf16)


def sample(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return evenly spaced elements of each tensor, so that keeping them takes no time worth counting."""
    flat = {name: tensor.detach().reshape(-1) for name, tensor in state.items()}
    return {name: tensor[:: -(-len(tensor) // SAMPLE)].clone() for name, tensor in flat.items()}


def keep(state: dict[str, Tensor], cell: Cell, out: Path) -> None:
    """Keep a sample of the trained weights of a cell, its state dict, for the gate."""
    place = kept(out, cell)
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(sample(state), place)


def kept(out: Path, cell: Cell) -> Path:
    """Return where the sample of the trained weights of a cell lies."""
    return out / "weights" / f"{cell.policy}-{cell.tricks}-{cell.seed}.pt"
