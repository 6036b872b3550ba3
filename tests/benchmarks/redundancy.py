"""Redundancy: operations that a grid executes over those of its distinct work.

    python -m tests.benchmarks.redundancy FOLDER

The distinct work is found by brute force, without asking how the harness plans: the grid is trained the plain way, and
of each step it is noted what it depends on, bit for bit: weights, optimizer, batch, rate, what learns. A step that
depends on what another one did is no work of its own, nor is what frozen stages make of an image that they have seen.
Gates are counted apart; there is no probe. What is left above 1 is known: leading steps are shared by whole epochs, and
what is mixed of two images is seen by several policies at one seed, with the same bits, and computed for each of them.
Writes `redundancy.csv`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from harness import specfile
from harness.data import ImageSet
from harness.digest import plain
from harness.execute.job import Job
from harness.execute.worker import perform
from harness.freezing.resolve import ResolvedPhase
from harness.learner import Learner
from harness.models.build import build_model, layout_of
from harness.models.layout import Layout
from harness.packing import pack, work_of
from harness.planning import make_plan
from harness.prefix import kept as what_is_kept
from harness.prefix import passes
from harness.prefix.batch import Batch
from harness.prefix.cut import Cut
from harness.prefix.splice import prefix_output
from harness.prefix.store import Wanted
from harness.records import Failed
from harness.spec import Model
from harness.tasks import classification
from harness.workspace import Workspace

MODEL, CLASSES, SIZE = Model(name="cifar_resnet8"), 4, 8
SPEC = """\
name: redundancy
model: {{name: cifar_resnet8}}
data: {{name: digits, classes: ["0", "1", "2", "3"], image_size: 8, train_per_class: 48, val_per_class: 16,
  test_per_class: 16}}
train: {{epochs: 5, batch_size: 16, lr: 0.01, augment: {{flip: {flip}}}}}
policies: [{policies}]
tricks: {{cosine: , mixup: }}
designs: [one_in]
seeds: 1
"""
GRIDS = {
    "frozen_heavy": ("head, last_stage, last_2_stages", "false"),
    "frozen_heavy, mirrored": ("head, last_stage, last_2_stages", "true"),
    "mixed": ("full, head_bn, last_stage, head, bn_frozen_at_end", "false"),
    "phased": ("full, head, lp_ft, gradual, head_then_last_2, bn_frozen_at_end", "false"),
}


@dataclass
class Work:
    """Operations, by what they are for."""

    all: float = 0.0
    distinct: float = 0.0
    gates: float = 0.0
    seen: set[str] = field(default_factory=set)

    def note(self, key: str, operations: float) -> None:
        """Count operations that depend on `key` and nothing else."""
        self.all += operations
        if key not in self.seen:
            self.seen.add(key)
            self.distinct += operations


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Return what a grid executes and what of it is distinct."""
    path = folder / f"{name}.yaml"
    policies, flip = GRIDS[name]
    path.write_text(SPEC.format(policies=policies, flip=flip))
    place = Workspace(folder)
    plan = make_plan(specfile.read(path), place)
    work = [work_of(r.training, r.data, float) for r in plan.replicates]
    shared = folder / "shared" / name
    jobs = [Job(trainings, place.cache, reuse=shared) for trainings in pack(work, 2, reuse=True)]
    executed = _executed(jobs)
    plain = _distinct([Job((each.training,), place.cache) for each in work])
    return {
        "grid": name,
        "replicates": len(plan.replicates),
        "plain_gflop": round(plain.all / 1e9, 3),
        "distinct_gflop": round(plain.distinct / 1e9, 3),
        "executed_gflop": round(executed.all / 1e9, 3),
        "gates_gflop": round(executed.gates / 1e9, 3),
        "rho": round(executed.all / plain.distinct, 4),
    }


def _executed(jobs: list[Job]) -> Work:
    """Run jobs as the harness does, and count."""
    work = Work()
    kept, tried = what_is_kept.kept, passes.tried  # type: ignore[attr-defined]

    def gate(made: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            before = counter.get_total_flops()
            try:
                return made(*args)
            finally:
                work.gates += counter.get_total_flops() - before

        return counted

    def checked(wanted: Wanted, folder: Path) -> dict[str, Tensor]:
        return kept(replace(wanted, check=gate(wanted.check)), folder)

    what_is_kept.kept = checked  # type: ignore[attr-defined]
    passes.tried = gate(tried)  # type: ignore[attr-defined]
    try:
        with FlopCounterMode(display=False) as counter:
            _run(jobs)
    finally:
        what_is_kept.kept, passes.tried = kept, tried  # type: ignore[attr-defined]
    work.all = counter.get_total_flops() - work.gates
    return work


def _distinct(jobs: list[Job]) -> Work:
    """Run jobs the plain way, and note what each piece of work depends on."""
    work, phase, steps = Work(), list[ResolvedPhase](), dict[tuple[str, tuple[int, ...]], float]()
    step, predict = Learner.step, classification.predict

    def noted_step(self: Learner, batch: Batch, lr: float) -> Tensor:
        images, targets = batch.inputs, batch.targets
        phase[:] = [self.phase]
        depends = [self.module.state_dict(), self.optimizer.state_dict(), plain(self.phase.groups), lr]
        key = _digest([*depends, list(self.phase.bn_stats), images, targets])
        shape = (_digest([plain(self.phase.groups), list(self.phase.bn_stats)]), tuple(images.shape))
        if shape in steps:
            loss = step(self, batch, lr)
        else:
            with FlopCounterMode(display=False) as counter:
                loss = step(self, batch, lr)
            steps[shape] = float(counter.get_total_flops())
        _note(work, self.module, self.phase, key, steps[shape], images)
        return loss

    def noted_predict(module: nn.Module, images: ImageSet, normalise: Callable[[Tensor], Tensor]) -> Tensor:
        key = _digest(["evaluated", module.state_dict(), images.images])
        with FlopCounterMode(display=False) as counter:
            found = predict(module, images, normalise)
        _note(work, module, phase[0], key, float(counter.get_total_flops()), images.images)
        return found

    Learner.step = noted_step  # type: ignore[method-assign]
    classification.predict = noted_predict  # type: ignore[assignment]
    try:
        _run(jobs)
    finally:
        Learner.step = step  # type: ignore[method-assign]
        classification.predict = predict
    return work


def _note(work: Work, module: nn.Module, phase: ResolvedPhase, key: str, operations: float, images: Tensor) -> None:
    """Note a pass over images, apart from what frozen stages make of each of them."""
    frozen = _frozen(phase)
    state = {name: tensor for name, tensor in module.state_dict().items() if _stage(name) in frozen}
    each = _forward(len(frozen))
    work.note(key, operations - each * len(images))
    kind = "evaluated" if images.dtype == torch.uint8 else "trained"  # in batches of another size, with other bits
    weights = _digest(state)
    for image in images:
        work.note(_digest([kind, weights, image]), each)


@lru_cache
def _layout() -> Layout:
    return layout_of(MODEL, CLASSES)


def _stage(name: str) -> str:
    return _layout().stage(name)


def _frozen(phase: ResolvedPhase) -> list[str]:
    """Return the stages, from the first on, of which nothing moves in a phase."""
    moving = {_stage(name) for name in phase.moving}
    return list(takewhile(lambda stage: stage not in moving, (stage for stage, _ in _layout().stages)))


@lru_cache
def _forward(stages: int) -> float:
    """Return the operations of the first stages on one image."""
    if not stages:
        return 0.0
    module = build_model(MODEL, CLASSES, seed=0).eval()
    cut = Cut((), _layout().stages[stages][1][0], ())
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        prefix_output(module, cut, torch.zeros(1, 3, SIZE, SIZE))
    return float(counter.get_total_flops())


def _digest(value: Any) -> str:
    """Return a digest of nested values by the bits of the tensors among them."""
    sha = hashlib.sha256()
    leaves, shape = tree_flatten(value)
    sha.update(str(shape).encode())
    for leaf in leaves:
        sha.update(leaf.detach().numpy().tobytes() if isinstance(leaf, Tensor) else repr(leaf).encode())
    return sha.hexdigest()


def _run(jobs: Sequence[Job]) -> None:
    for job in jobs:
        for record in perform(job, "cpu"):
            if isinstance(record, Failed):
                raise RuntimeError(record.reason)


def main(folder: Path, grids: Sequence[str] = tuple(GRIDS)) -> list[dict[str, Any]]:
    """Measure the grids, and write the table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [measure(name, folder) for name in grids]
    pd.DataFrame(rows).to_csv(folder / "redundancy.csv", index=False)
    return rows


if __name__ == "__main__":
    for row in main(Path(sys.argv[1])):
        print(row)
