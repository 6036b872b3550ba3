"""Efficiency of the harness: a bare loop over the same trainings, over the time of the grid.

    python -m tests.benchmarks.efficiency FOLDER [--seconds 2 10 30] [--rounds N]

Both train the same replicates (ResNet-18, 32 px, batches of 64, one thread, two processes), which have nothing to
share; the bare loop is what somebody writes who knows torch and wants the accuracies printed, nothing else. The grid is
timed from its first training to its last record in the store, the loop from its first to its last training: neither
counts importing, decoding or the probe of speed. Rounds are interleaved. Writes `efficiency.csv`: a row for each length
of a replicate.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import Tensor, nn

from harness import data, session, specfile
from harness.data import ImageSet, Splits
from harness.means import Means
from harness.planning import make_plan
from harness.seeds import stream
from harness.training import Training
from harness.workspace import Workspace

SPEC = """\
name: efficiency
model: {{name: resnet18}}
weights: {{checkpoint: {folder}/experiments/weights.pt}}
data: {{name: image_folder, root: {folder}/images, image_size: 32, val_per_class: 32, test_per_class: 32}}
train: {{epochs: {epochs}, batch_size: 64, lr: 0.01, augment: {{flip: true}}, decay: {{factor: 1.0}}}}
policies: [full, full_bn_frozen, head_bn]
seeds: 2
throughput: {{rounds: 1, steps: 1}}
"""
CLASSES, IMAGES_A_CLASS, PROCESSES = 10, 128, 2
STEPS_AN_EPOCH = CLASSES * (IMAGES_A_CLASS - 64) // 64


@dataclass(frozen=True)
class Bare:
    """One replicate of the bare loop."""

    policy: str
    seed: int
    epochs: int
    weights: dict[str, Tensor]
    splits: Splits
    mean: tuple[float, ...]
    std: tuple[float, ...]


def train_bare(job: Bare) -> float:
    """Train one replicate, and return its test top-1."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    train, val, test = job.splits.train, job.splits.val, job.splits.test
    assert isinstance(train, ImageSet) and isinstance(val, ImageSet) and isinstance(test, ImageSet)  # noqa: PT018
    mean, std = (torch.tensor(values)[:, None, None] for values in (job.mean, job.std))
    model = torchvision.models.resnet18(num_classes=CLASSES)
    model.load_state_dict({k: v for k, v in job.weights.items() if not k.startswith("fc.")}, strict=False)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    affine = {id(p) for norm in norms for p in norm.parameters()}
    for name, p in model.named_parameters():
        head, bn = name.startswith("fc."), id(p) in affine
        p.requires_grad_({"full": True, "full_bn_frozen": not bn, "head_bn": head or bn}[job.policy])
    learning = [p for p in model.parameters() if p.requires_grad]
    sgd = torch.optim.SGD(learning, lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
    order, mirrored = stream(job.seed, "order"), stream(job.seed, "flip")

    def top1(images: Tensor, labels: Tensor) -> float:
        model.eval()
        with torch.inference_mode():
            made = torch.cat([model((part / 255 - mean) / std).argmax(1) for part in images.split(256)])
        return (made == labels).double().mean().item()

    for _ in range(job.epochs):
        model.train()
        if job.policy == "full_bn_frozen":
            for norm in norms:
                norm.eval()
        total = torch.zeros(())
        rows = torch.from_numpy(order.permutation(len(train)))
        for index in rows[: len(rows) // 64 * 64].split(64):
            flip = torch.from_numpy(mirrored.random(64) < 0.5)[:, None, None, None]
            images = train.images[index]
            images = torch.where(flip, images.flip(3), images)
            loss = F.cross_entropy(model((images / 255 - mean) / std), train.labels[index])
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()
            total += loss.detach()
        total.item()
        top1(val.images, val.labels)
    return top1(test.images, test.labels)


def bare_s(trainings: list[Training], cache: Path, weights: dict[str, Tensor]) -> float:
    """Return the seconds of the bare loop over trainings, the longest policies first, in processes that are there."""
    jobs = [
        Bare(policy, t.seed, t.train.epochs, weights, _splits(t, cache), t.data.mean, t.data.std)
        for policy, t in zip(_policies(), trainings, strict=True)
    ]
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        pool.map(os.nice, [0] * PROCESSES, chunksize=1)
        began = time.perf_counter()
        pool.map(train_bare, jobs, chunksize=1)
        return time.perf_counter() - began


def _policies() -> list[str]:
    return [policy for policy in ("full", "full_bn_frozen", "head_bn") for _ in range(2)]


def _splits(training: Training, cache: Path) -> Splits:
    return data.load(training.located_data, training.data_content, training.seed, cache, torch.device("cpu"))


def grid_s(spec: Path, place: Path) -> float:
    """Return the seconds of the grid's trainings, in a workspace of its own: mlflow holds on to a store."""
    shutil.rmtree(place, ignore_errors=True)
    path = place / "experiments" / spec.name
    path.parent.mkdir(parents=True)
    shutil.copy(spec, path)
    began = 0.0
    with session.Session.open(specfile.read(path), Means(jobs=PROCESSES)) as going:
        for update in going.run():
            began = began or (time.perf_counter() if update.stage == "training" else 0.0)
        return time.perf_counter() - began


def prepare(folder: Path) -> None:
    """Write images and weights made from a seed."""
    drawn = stream(0, "images of the benchmark")
    for label in range(CLASSES):
        for number in range(IMAGES_A_CLASS):
            file = folder / "images" / "train" / f"class{label}" / f"{number:04}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                Image.fromarray(drawn.integers(256, size=(32, 32, 3), dtype="uint8")).save(file)
    (folder / "experiments").mkdir(exist_ok=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(num_classes=CLASSES).state_dict(), folder / "experiments" / "weights.pt")


def main(folder: Path, seconds: list[float], rounds: int) -> list[dict[str, object]]:
    """Measure replicates of about so many seconds each, and write the table."""
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    weights = torch.load(folder / "experiments" / "weights.pt", weights_only=True)
    path, rows, step_s, number = folder / "experiments" / "efficiency.yaml", list[dict[str, object]](), 0.0, 0
    for wanted in seconds:
        epochs = max(1, round(wanted / (step_s * STEPS_AN_EPOCH))) if step_s else 1
        found = []
        for _ in range(rounds):
            path.write_text(SPEC.format(epochs=epochs, folder=folder.resolve()))
            trainings = [r.training for r in make_plan(specfile.read(path), Workspace(folder)).replicates]
            number += 1
            grid, bare = grid_s(path, folder / f"grid{number}"), bare_s(trainings, folder / ".cache", weights)
            found.append((bare / grid, grid, bare))
        ratios = [ratio for ratio, _, _ in found]
        replicate_s = median(bare for _, _, bare in found) * PROCESSES / len(trainings)
        step_s = step_s or replicate_s / STEPS_AN_EPOCH
        rows.append(
            {
                "replicate_s": round(replicate_s, 2),
                "replicates": len(trainings),
                "eta": round(median(ratios), 3),
                "eta_min": round(min(ratios), 3),
                "eta_max": round(max(ratios), 3),
                "grid_s": round(median(grid for _, grid, _ in found), 2),
                "bare_s": round(median(bare for _, _, bare in found), 2),
                "rounds": rounds,
                "torch": torch.__version__,
                "machine": f"{os.cpu_count()} × {platform.machine()}",
                "load": round(os.getloadavg()[0], 1),
            }
        )
        print(rows[-1], flush=True)
        pd.DataFrame(rows).to_csv(folder / "efficiency.csv", index=False)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 3.0, 10.0, 30.0])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.folder, given.seconds, given.rounds)
