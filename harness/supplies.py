"""What trainings of one process need and leave as it is: made once, and kept while it may be asked for again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from harness import data
from harness.data import scenes
from harness.digest import digest
from harness.freezing.check import State
from harness.learner import initial_model, seed_layers
from harness.models import weights
from harness.models.build import layout_of
from harness.start import Start
from harness.training import Origin, Training

_Thing = TypeVar("_Thing")


class Supplies:
    """Supplies the trainings of one process on one device; trainings that need the same should follow one another."""

    def __init__(self, cache: Path, device: torch.device, reuse: Path | None = None) -> None:
        """`reuse` is a folder of what processes share of frozen parts and leading phases; None shares nothing."""
        self.cache, self.device, self.reuse = cache, device, reuse
        self._splits: _Kept[Any] = _Kept()
        self._sources: _Kept[State] = _Kept()
        self._starts: _Kept[Start] = _Kept()
        self._views: _Kept[Tensor] = _Kept()

    def splits(self, training: Training) -> Any:
        """Return the images of a training, as its task has them; raises HarnessError where they are not as planned."""
        located, content, seed = training.located_data, training.data_content, training.seed

        def load() -> Any:
            if training.task == "classification":
                return data.load(located, content, seed, self.cache, self.device)
            return scenes.load(located, training.task, content, seed, self.cache, self.device)

        return self._splits.get((located, training.task, content, seed), load)

    def source(self, origin: Origin | None) -> State:
        """Return the weights that a training begins from, empty where it begins from random ones."""
        return self._sources.get(origin.path, lambda: weights.read(Path(origin.path))) if origin else {}

    def start(self, training: Training) -> Start:
        """Return the network that a training begins from, and leave torch's generator as when it is built."""
        start = self._starts.get(_start_of(training), lambda: self._initial(training))
        seed_layers(training)
        return start

    def views(self, path: Path, place: Callable[[], Tensor]) -> Tensor:
        """Return what frozen stages made of images, kept at `path`, where `place` puts it: on the device, maybe."""
        return self._views.get(path, place)

    def _initial(self, training: Training) -> Start:
        source = self.source(training.origin)
        layout = layout_of(training.model, training.classes, training.kept_classes)
        return Start(initial_model(training, self.device, source), layout.placed(source))


def _start_of(training: Training) -> str:
    """Return what stands for all that a network depends on before its first step."""
    named = (training.model, training.classes, training.kept_classes, training.head, training.origin)
    size = training.data.image_size if training.model.head else None  # which the anchors of detectors go by
    return digest([*named, training.recipe.inits, training.seed, training.train.channels_last, size])


class _Kept(Generic[_Thing]):
    """The two things of a kind that were asked for last, by a key: a job puts what needs the same side by side."""

    def __init__(self) -> None:
        self._things: OrderedDict[Hashable, _Thing] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _Thing]) -> _Thing:
        if key not in self._things:
            while len(self._things) > 1:  # before another takes its own memory
                self._things.popitem(last=False)
            self._things[key] = make()
        self._things.move_to_end(key)
        return self._things[key]
