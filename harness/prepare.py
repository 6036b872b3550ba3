"""What must be there before the first run is created: weights that fit, images that can be read and split."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch

from harness import data
from harness.data.split import partition
from harness.errors import HarnessError
from harness.models import weights
from harness.models.build import build_model
from harness.plan import Plan
from harness.spec import Model
from harness.training import Origin, Training


def prepare(plan: Plan, cache: Path) -> None:
    """Fetch and check weights, decode images into `cache`; raises HarnessError naming the file that is wrong."""
    for spec in (scenario.spec for scenario in plan.study.scenarios):
        if spec.weights and spec.weights.torchvision:
            weights.fetch(weights.torchvision_weights(spec.model.name, spec.weights.torchvision))
    needed = [*(p.training for p in plan.prerequisites), *plan.trainings.values()]
    made = {p.training.digest for p in plan.prerequisites}
    for model, classes, origin, left_alone in dict.fromkeys(chain.from_iterable(map(_loaded, needed))):
        if origin.content not in made:
            _check_fit(model, classes, Path(origin.path), left_alone)
    for training in {(t.data, t.data_root): t for t in reversed(needed)}.values():
        located = training.located_data
        if located.name != "digits":  # they are known to be well, and take a second to import
            parts = partition(data.decode(located, training.data_content, cache), located, training.seed)
            if len(parts.train) < training.train.batch_size:
                raise HarnessError(
                    f"{located.root}: once {parts.duplicates_dropped} copies are dropped, {len(parts.train)} training "
                    f"images are left, fewer than batch_size = {training.train.batch_size}"
                )


def _loaded(training: Training) -> Iterator[tuple[Model, int, Origin, tuple[str, ...]]]:
    """Yield each network that a training loads: model, classes, where from, and the prefixes it leaves alone."""
    if training.origin:
        yield training.model, training.classes, training.origin, training.head + training.fresh
    if training.teacher:
        yield training.teacher.model, training.classes, training.teacher.origin, ()


def _check_fit(model: Model, classes: int, path: Path, left_alone: tuple[str, ...]) -> None:
    with torch.device("meta"):
        module = build_model(model, classes, seed=0)
    try:
        weights.check_backbone(module, weights.read(path), left_alone)
    except HarnessError as error:
        raise HarnessError(f"weights {path}: {error}") from None
