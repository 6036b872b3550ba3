"""The layout of a model: names and shapes as plain data, so that planning needs no weights."""

from dataclasses import dataclass
from functools import cached_property

from harness.models.stages import is_under
from harness.models.zoo import Stages


@dataclass(frozen=True)
class Layout:
    """What a policy can select in a model."""

    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and shape of each parameter, in the order of the model."""
    norms: tuple[str, ...]
    """Names of the batch-norm modules that keep running statistics."""
    stages: Stages
    """Each stage with the prefixes of the names in it, ordered from stem to head."""
    last_norms: tuple[str, ...] = ()
    """Names of the batch norms that end the residual branches."""

    @property
    def head(self) -> tuple[str, ...]:
        """Name prefixes of the head."""
        return dict(self.stages)["head"]

    @cached_property
    def _known(self) -> dict[str, str]:
        return {name: self._find(name) for name in [*dict(self.parameters), *self.norms]}

    def stage(self, name: str) -> str:
        """Return the stage that holds the parameter or module `name`."""
        return self._known.get(name) or self._find(name)

    def _find(self, name: str) -> str:
        for stage, prefixes in self.stages:
            if any(is_under(name, prefix) for prefix in prefixes):
                return stage
        raise KeyError(f"{name} is in no stage of the model")
