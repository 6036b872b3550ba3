"""The layout of a model: names and shapes as plain data, so that planning needs no weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from harness.models.stages import is_under
from harness.models.zoo import Stages

_Value = TypeVar("_Value")


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
    backbone: tuple[tuple[str, str], ...] = ()
    """Name prefixes of the classification network that the backbone is taken from, each with its place in this one.

    What is not taken, the classifier, has the place "". Empty where this is a classification network.
    """

    @property
    def head(self) -> tuple[str, ...]:
        """Name prefixes of the head."""
        return dict(self.stages)["head"]

    def placed(self, named: Mapping[str, _Value]) -> dict[str, _Value]:
        """Return what goes by the names of the classification network by the names that it has here.

        Its classifier is left out, and names that it does not have stay as they are.
        """
        found = {}
        for name, value in named.items():
            old, new = next((each for each in self.backbone if is_under(name, each[0])), (name, name))
            if new:
                found[new + name.removeprefix(old)] = value
        return found

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
