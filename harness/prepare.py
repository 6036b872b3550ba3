"""What must be there before the first run is created: weights that fit, images that can be read and split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from harness import data
from harness.data import scenes
from harness.data.split import Parts, partition
from harness.errors import HarnessError
from harness.models import weights
from harness.models.build import build_model, layout_of
from harness.plan import Plan
from harness.training import Training


def prepare(plan: Plan, cache: Path) -> None:
    """Fetch and check weights, decode images into `cache`; raises HarnessError naming the file that is wrong."""
    for spec in (scenario.spec for scenario in plan.study.scenarios):
        if spec.weights and spec.weights.torchvision:
            weights.fetch(weights.torchvision_weights(spec.model.name, spec.weights.torchvision))
    needed = [*(p.training for p in plan.prerequisites), *plan.trainings.values()]
    made = {p.training.digest for p in plan.prerequisites}
    loading = {(t.model, t.classes, t.kept_classes, t.origin): t for each in needed for t in _loaded(each)}
    for training in loading.values():
        if training.origin and training.origin.content not in made:
            _check_fit(training)
    by_batch = sorted(needed, key=lambda t: t.train.batch_size)
    for training in {(t.data, t.data_root): t for t in by_batch}.values():  # of each, the one of the largest batch
        located = training.located_data
        if located.name != "digits":  # they are known to be well, and take a second to import
            parts = _parts(training, cache)
            if parts and len(parts.train) < training.train.batch_size:
                raise HarnessError(
                    f"{located.root}: once {parts.duplicates_dropped} copies are dropped, {len(parts.train)} training "
                    f"images are left, fewer than batch_size = {training.train.batch_size}"
                )


def _parts(training: Training, cache: Path) -> Parts | None:
    """Read every file of a training's images; returns which are in which split, None of those that are well."""
    located, content = training.located_data, training.data_content
    if training.task != "classification":
        return scenes.check(located, training.task, content, training.seed, cache)
    return partition(data.decode(located, content, cache), located, training.seed)


def _loaded(training: Training) -> Iterator[Training]:
    """Yield a training, and one that stands for its teacher, as far as the networks that they load go."""
    if training.origin:
        yield training
    if training.teacher:
        teacher = training.teacher
        yield replace(training, model=teacher.model, origin=teacher.origin, head=(), kept_classes=None)


def _check_fit(training: Training) -> None:
    assert training.origin is not None
    with torch.device("meta"):
        module = build_model(training.model, training.classes, seed=0, kept_classes=training.kept_classes)
    try:
        layout = layout_of(training.model, training.classes, training.kept_classes)
        state = layout.placed(weights.read(Path(training.origin.path)))
        weights.check_backbone(module, state, training.head, training.origin.partial)
    except HarnessError as error:
        raise HarnessError(f"weights {training.origin.path}: {error}") from None
