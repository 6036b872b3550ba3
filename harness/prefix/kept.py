"""What is kept for a training, phase by phase: asked for, computed where it is not there, and put near the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from harness.data import ImageSet, Splits
from harness.devices import device_name
from harness.prefix.cut import Cut, before_head, cuts_of, endless_views, refusal
from harness.prefix.passes import Need, evaluated_sets, teacher_views, trained_views
from harness.prefix.store import Refused, Wanted, kept
from harness.start import Start
from harness.supplies import Supplies
from harness.training import Training

_SHARE_OF_DEVICE = 0.25
"""Most of a GPU's free memory that what is kept may take."""

Placed = Callable[[], Tensor]
"""Returns a tensor where training reads it: on the device, if it has the room."""


@dataclass(frozen=True)
class Part:
    """What is kept for a phase."""

    cut: Cut | None = None
    views: Placed | None = None
    """What the stages before the cut make of each view; None where training begins at the images."""
    evaluated: Mapping[str, Tensor] = field(default_factory=dict)
    """What they make of the images of validation and test; empty where evaluation begins at the images."""


@dataclass(frozen=True)
class Kept:
    """What is kept for a training."""

    parts: tuple[Part, ...]
    """One for each phase."""
    teacher: Part = Part()
    """What is kept of its teacher, on the views alone."""
    notes: tuple[str, ...] = ()
    """What was computed at every step after all, and why."""

    @property
    def of_views(self) -> bool:
        """Whether anything is kept of the views that training sees."""
        return any(part.views for part in (self.teacher, *self.parts))


def kept_of(training: Training, start: Start, splits: Splits, supplies: Supplies, first: int = 0) -> Kept:
    """Return what is kept for a training from the phase of number `first` on, the earlier ones being over.

    Nothing is kept where the supplies have no folder for it, of streamed images, since they are too many, and where the
    network is compiled as a whole.
    """
    need = _need(training, start, splits, supplies)
    if need is None:
        return Kept((Part(),) * len(training.phases))
    asked, cuts = _Asked(need, supplies), cuts_of(training)
    finite = not endless_views(training)
    teacher = asked.of_teacher() if training.teacher and finite else Part()
    parts = [Part()] * len(cuts)
    if not refusal(training, cuts):
        skips = finite and (teacher.views is not None or not training.teacher)
        for number in reversed(range(first, len(cuts))):  # what is kept at an early cut is where a later one begins
            if cut := cuts[number]:
                parts[number] = asked.of_phase(number, cut, skips)
    return Kept(tuple(parts), teacher, tuple(dict.fromkeys(asked.notes)))


def _need(training: Training, start: Start, splits: Splits, supplies: Supplies) -> Need | None:
    evaluated = {"val": splits.val, "test": splits.test}
    held = {name: images for name, images in evaluated.items() if isinstance(images, ImageSet)}
    streamed = not isinstance(splits.train, ImageSet) or len(held) < len(evaluated)
    if supplies.reuse is None or streamed or training.train.compile != "none":
        return None
    assert isinstance(splits.train, ImageSet)
    device = supplies.device
    return Need(training, start, splits.train, held, device, device_name(device), supplies.reuse)


class _Asked:
    """Asks for what may be kept of a training, and notes what is not."""

    def __init__(self, need: Need, supplies: Supplies) -> None:
        self.notes: list[str] = []
        self._need, self._supplies = need, supplies

    def of_teacher(self) -> Part:
        """Return what is kept of the teacher."""
        training = self._need.training
        assert training.teacher is not None
        cut = before_head(training.teacher.model, training.classes)
        if cut is None:
            return Part()
        views = self._placed(lambda: teacher_views(self._need, cut), "teacher saw images at every step")
        return Part(cut, views) if views else Part()

    def of_phase(self, number: int, cut: Cut, skips: bool) -> Part:
        """Return what is kept for a phase; its training steps may skip the stages before `cut` or may not."""
        views = None
        if skips:
            phase = self._need.training.phases[number]
            views = self._placed(
                lambda: trained_views(self._need, cut, phase), "frozen part was computed at every step"
            )
        _, sets = self._tensors(lambda: evaluated_sets(self._need, cut), "frozen part was computed at every evaluation")
        return Part(cut, views, sets)

    def _tensors(self, wanted: Callable[[], Wanted], otherwise: str) -> tuple[Path, dict[str, Tensor]]:
        try:
            asked = wanted()
            return asked.path(self._need.folder), kept(asked, self._need.folder)
        except Refused as why:
            self.notes.append(f"its {otherwise}: {why}")
        except Exception as error:  # a shortcut that fails, a full disk among other reasons, ends no training
            self.notes.append(f"its {otherwise}: {type(error).__name__}: {error}")
        return Path(), {}

    def _placed(self, wanted: Callable[[], Wanted], otherwise: str) -> Placed | None:
        """Return the only tensor that is wanted, for when it is needed."""
        path, tensors = self._tensors(wanted, otherwise)
        if not tensors:
            return None
        (tensor,) = tensors.values()
        return lambda: self._supplies.views(path, lambda: _near(tensor, self._need.device))


def _near(views: Tensor, device: torch.device) -> Tensor:
    """Return them on the device where it has the room; else batches are copied to it one by one."""
    if device.type == "cuda" and views.nbytes < _SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]:
        return views.to(device)
    return views
