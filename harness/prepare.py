"""What must be there before the first run is created: weights that fit, images that can be read and split."""

from __future__ import annotations

from pathlib import Path

import torch

from harness import data
from harness.data.split import partition
from harness.errors import HarnessError
from harness.models import weights
from harness.models.build import build_model
from harness.plan import Plan
from harness.training import Training


def prepare(plan: Plan, cache: Path) -> None:
    """Fetch and check weights, decode images into `cache`; raises HarnessError naming the file that is wrong."""
    spec = plan.study.spec
    if spec.weights and not spec.weights.pretrain:
        if spec.weights.torchvision:
            weights.fetch(weights.torchvision_weights(spec.model.name, spec.weights.torchvision))
        _check_fit(next((t for t in plan.trainings.values() if t.origin), None))
    needed = [*(p.training for p in plan.prerequisites), *plan.trainings.values()]
    for training in {(t.data, t.data_root): t for t in reversed(needed)}.values():
        located = training.located_data
        if located.name != "digits":  # they are known to be well, and take a second to import
            parts = partition(data.decode(located, training.data_content, cache), located, training.seed)
            if len(parts.train) < training.train.batch_size:
                raise HarnessError(
                    f"{located.root}: once {parts.duplicates_dropped} copies are dropped, {len(parts.train)} training "
                    f"images are left, fewer than batch_size = {training.train.batch_size}"
                )


def _check_fit(training: Training | None) -> None:
    if training is None or training.origin is None:
        return
    path = Path(training.origin.path)
    with torch.device("meta"):
        module = build_model(training.model, training.classes, seed=0)
    try:
        weights.check_backbone(module, weights.read(path), training.head)
    except HarnessError as error:
        raise HarnessError(f"weights {path}: {error}") from None
