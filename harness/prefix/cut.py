"""Where the frozen prefix of a training ends, phase by phase, and why what it makes of training images is not kept."""

from __future__ import annotations

from dataclasses import dataclass

from harness.models.layout import Layout
from harness.spec import Model
from harness.training import Training
from harness.wording import NOTHING_FROZEN


@dataclass(frozen=True)
class Cut:
    """A network in two: stages of which nothing has moved, and what comes after them."""

    frozen: tuple[str, ...]
    """Name prefixes of the frozen stages, from the stem on."""
    entry: str
    """The module where the rest begins."""
    stages: tuple[str, ...]
    """Names of the frozen stages."""


def cuts_of(training: Training, layout: Layout | None = None) -> tuple[Cut | None, ...]:
    """Return for each phase where the stages end of which nothing has moved by its end; None where there are none.

    There are never more of them in a phase than in the one before. `layout` is that of its network, where it is known.
    """
    layout = layout or _layout_of(training)
    moved: frozenset[str] = frozenset()
    cuts = []
    for phase in training.phases:
        moved |= {layout.stage(name) for name in phase.moving}
        count = next(number for number, (stage, _) in enumerate([*layout.stages, ("", ())]) if stage in {*moved, ""})
        cuts.append(cut_at(layout, count))
    return tuple(cuts)


def cut_at(layout: Layout, count: int) -> Cut | None:
    """Return the cut after so many stages; None where that leaves nothing on one of its sides."""
    if not 0 < count < len(layout.stages):
        return None
    before = layout.stages[:count]
    prefixes = tuple(prefix for _, each in before for prefix in each)
    return Cut(prefixes, layout.stages[count][1][0], tuple(stage for stage, _ in before))


def rest_of(training: Training, cut: Cut) -> tuple[str, ...]:
    """Return the name prefixes of the stages after a cut."""
    return tuple(
        name for stage, prefixes in _layout_of(training).stages if stage not in cut.stages for name in prefixes
    )


def before_head(model: Model, classes: int) -> Cut | None:
    """Return the cut of a network before its head; None where that is all of it."""
    from harness.models.build import layout_of  # here, as below, so that planning anew does not wait for torch

    layout = layout_of(model, classes)
    return cut_at(layout, len(layout.stages) - 1)


def shallower(training: Training, cut: Cut) -> list[Cut]:
    """Return the cuts of the network that are before `cut`, the nearest first."""
    layout = _layout_of(training)
    found = [cut_at(layout, count) for count in range(len(cut.stages) - 1, 0, -1)]
    return [each for each in found if each]


def refusal(training: Training, cuts: tuple[Cut | None, ...]) -> str:
    """Return why nothing is kept of what its frozen stages make of images, as a clause; empty where something is."""
    if training.codes:
        return "a solver takes the place of training, and computes its codes once anyway"
    if training.model.head:
        return "boxes and masks are found on the maps of several stages"
    if not cuts[0]:
        return NOTHING_FROZEN
    if training.train.compile != "none":
        return "the network is compiled as a whole"
    return ""


def endless_views(training: Training) -> str:
    """Return why training sees no image twice as it was, or in batches of several sizes; empty where neither is so."""
    augment, recipe = training.train.augment, training.recipe
    if augment.crop_padding or augment.resized_crop or augment.color_jitter:
        return "random crops or colours make every view of an image a new one"
    if recipe.augments:
        return "augmentation makes every view of an image a new one"
    if recipe.mixes:
        return "inputs are mixed"
    if training.train.batch_size % training.train.accumulate:
        return "batches come in parts of several sizes"
    return ""


def only_head_learns(training: Training) -> bool:
    """Whether every step is that of one head, by cross-entropy in float32 and whole batches, on what is kept."""
    train = training.train
    if training.codes or training.teacher or training.recipe.precision or train.accumulate > 1:
        return False
    layout, cuts = _layout_of(training), cuts_of(training)
    if refusal(training, cuts) or endless_views(training):
        return False
    return all(cut is not None and layout.head == (cut.entry,) for cut in cuts)


def _layout_of(training: Training) -> Layout:
    from harness.models.build import layout_of

    return layout_of(training.model, training.classes, training.kept_classes)
