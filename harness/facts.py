"""Facts that take torch, or seconds, to find out: kept, so that planning anew waits for neither.

The files may be deleted at any time, and a fact is found out anew where they cannot be read or written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.digest import digest, file_digest
from harness.models.layout import Layout
from harness.versions import version_of

if TYPE_CHECKING:
    from harness.family import Family
    from harness.freezing.resolve import ResolvedPhase
    from harness.spec import Model, OptimizerSpec


@dataclass(frozen=True)
class Published:
    """Weights that torchvision publishes."""

    url: str
    path: str
    """Where torchvision keeps the file, downloaded or not."""
    classes: int


@dataclass(frozen=True)
class Facts:
    """Remembers what pure functions returned."""

    folder: Path | None = None
    """A file a fact; None remembers for as long as this object lives."""
    _known: dict[tuple[str, Hashable], Any] = field(default_factory=dict, repr=False)

    def recall(
        self, what: str, given: Hashable, find: Callable[[], Any], read: Callable[[Any], Any] = lambda found: found
    ) -> Any:
        """Return what `find` returns, `read` from its JSON; what it raises is not remembered.

        It must follow from `what`, from `given` (plain data, as `digest` takes it), from torch and from the code.
        """
        if (what, given) not in self._known:
            path = self.folder / f"{digest([what, given, _code()])}.json" if self.folder else None
            found = _kept(path)
            if found is None:
                text = json.dumps(find())
                found = json.loads(text)
                _keep(path, text)
            self._known[what, given] = read(found)
        return self._known[what, given]

    def layout(self, model: Model, classes: int, kept_classes: int | None = None) -> Layout:
        """Return what `layout_of` does, or raise what it raises."""

        def find() -> dict[str, Any]:
            from harness.models.build import layout_of

            return asdict(layout_of(model, classes, kept_classes))

        def read(found: dict[str, Any]) -> Layout:
            return Layout(**{name: _tuples(value) for name, value in found.items()})

        layout: Layout = self.recall("layout", (model, classes, kept_classes), find, read)
        return layout

    def check_image_size(self, model: Model, classes: int, image_size: int) -> None:
        """Raise HarnessError where `model` cannot be trained on images of `image_size` pixels on a side."""

        def find() -> bool:
            from harness.models.build import check_image_size

            check_image_size(model, classes, image_size)
            return True

        self.recall("takes images", (model, classes, image_size), find)

    def check_step(
        self, model: Model, classes: int, image_size: int, batch_size: int, phases: Sequence[ResolvedPhase]
    ) -> None:
        """Raise ValueError where a batch cannot be trained on: batch norm would see one value per channel."""

        def find() -> bool:
            import torch

            from harness.freezing.apply import training_mode
            from harness.models.build import build_model
            from harness.models.dense import run_on_shapes

            with torch.device("meta"):
                module = build_model(model, classes, seed=0, image_size=image_size)
                images = torch.empty(batch_size, 3, image_size, image_size)
            for phase in phases:
                training_mode(module, phase)
                try:
                    run_on_shapes(module, images)
                except ValueError as error:
                    name = f"{model.head} on {model.name}" if model.head else model.name
                    raise ValueError(f"{name} cannot be trained on a batch of {batch_size}: {error}") from error
            return True

        self.recall("step", (model, classes, image_size, batch_size, tuple(phases)), find)

    def check_optimizer(self, spec: OptimizerSpec, fused: bool) -> None:
        """Raise HarnessError for an optimizer, an option or a value that torch does not have."""

        def find() -> bool:
            from harness import optimizers

            optimizers.check(spec, fused)
            return True

        self.recall("optimizer", (digest(spec), fused), find)

    def torchvision(self, model: str, name: str) -> Published:
        """Return what torchvision says of its weights `name` of `model`; raises HarnessError with the legal names."""

        def find() -> dict[str, Any]:
            from harness.models import weights

            entry = weights.torchvision_weights(model, name)
            path = str(weights.torchvision_path(entry))
            return {"url": entry.url, "path": path, "classes": len(entry.meta["categories"])}

        home = tuple(os.environ.get(variable, "") for variable in ("TORCH_HOME", "XDG_CACHE_HOME", "HOME"))
        published: Published = self.recall("torchvision", (model, name, home), find, lambda found: Published(**found))
        return published

    def classes_of(self, checkpoint: Path, model: Model) -> int:
        """Return the classes of the classifier in a checkpoint of `model`; raises HarnessError where it has none."""

        def find() -> int:
            from harness.models import weights

            return weights.classes_of(checkpoint, self.layout(model, 2).head)

        classes: int = self.recall("classes", (file_digest(checkpoint), model), find)
        return classes

    def sd_of_differences(self, pilot: Path, policies: Sequence[str]) -> float:
        """Return the spread that an earlier study had; raises HarnessError where its table says nothing of it."""

        def find() -> float:
            from harness.pilot import sd_of_differences

            return sd_of_differences(pilot, policies)

        sd: float = self.recall("pilot", (file_digest(pilot, "the pilot"), *policies), find)
        return sd

    def power_lines(self, family: Family, seeds: int) -> list[str]:
        """Return what a family can show with so many seeds."""

        def find() -> list[str]:
            from harness.claims import power_lines

            return power_lines(family, seeds)

        lines: list[str] = self.recall("power", (digest(family), seeds), find)
        return lines


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@cache
def _code() -> str:
    """Return what stands for torch, and for this package as its files are now."""
    package = Path(__file__).parent
    files = sorted((str(path.relative_to(package)), path.stat()) for path in package.rglob("*.py"))
    marks = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files]
    return digest([version_of("torch"), version_of("torchvision"), *marks])


def _kept(path: Path | None) -> Any:
    """Return what a file holds; None where there is none, or none that is whole."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_bytes()) if path else None
    return None


def _keep(path: Path | None, text: str) -> None:
    if path:
        draft = path.with_suffix(f".{os.getpid()}.part")
        with suppress(OSError):  # a full disk, or a folder that is not ours to write
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, path)
