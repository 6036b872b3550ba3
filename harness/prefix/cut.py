"""Where the frozen prefix of a training ends, or why nothing can be kept of it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.models.layout import Layout
from harness.training import Training
from harness.wording import NOTHING_FROZEN


def only_head_learns(training: Training) -> bool:
    """Whether all that learns is the head on what a frozen network makes, in float32 and whole batches."""
    from harness.models.build import layout_of  # here, as below, so that planning anew does not wait for torch

    cut = cut_of(training)
    if isinstance(cut, str) or training.recipe.precision or training.train.accumulate > 1:
        return False
    layout = layout_of(training.model, training.classes, training.kept_classes)
    return len(cut.stages) == len(layout.stages) - 1 and layout.head == (cut.entry,)


@dataclass(frozen=True)
class Cut:
    """A network in two: stages of which nothing ever moves, and what begins to learn after them."""

    frozen: tuple[str, ...]
    """Name prefixes of the frozen stages, from the stem on."""
    entry: str
    """The module where the rest begins."""
    stages: tuple[str, ...]
    """Names of the frozen stages."""


def cut_of(training: Training, layout: Layout | None = None) -> Cut | str:
    """Return where the frozen prefix ends, or the reason why it is not computed once, as a clause.

    `layout` is that of its network, where it is known.
    """
    augment, recipe = training.train.augment, training.recipe
    if training.codes:
        return "a solver takes the place of training, and computes its codes once anyway"
    if training.model.head:
        return "boxes and masks are found on the maps of several stages"
    if layout is None:
        from harness.models.build import layout_of

        layout = layout_of(training.model, training.classes, training.kept_classes)
    moving = frozenset().union(*(phase.moving for phase in training.phases))
    live = {layout.stage(name) for name in moving}
    frozen = []
    for stage, prefixes in layout.stages:
        if stage in live:
            break
        frozen.append((stage, prefixes))
    if not frozen:
        return NOTHING_FROZEN
    if augment.crop_padding or augment.resized_crop or augment.color_jitter:
        return "random crops or colours make every view of an image a new one"
    if recipe.augments:
        return "augmentation makes every view of an image a new one"
    if recipe.mixes:
        return "inputs are mixed"
    if training.train.batch_size % training.train.accumulate:
        return "batches come in parts of several sizes"
    if training.train.compile != "none":
        return "the network is compiled as a whole"
    if training.teacher:
        return "its teacher sees the images"
    if training.diagnose:
        return "batch norm is inspected on the images"
    entry = layout.stages[len(frozen)][1][0]
    prefixes = tuple(prefix for _, each in frozen for prefix in each)
    return Cut(prefixes, entry, tuple(stage for stage, _ in frozen))
