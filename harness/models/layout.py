"""The layout of a model: names and shapes as plain data, so that planning needs no weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """What a policy can select in a model."""

    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    """Name and shape of each parameter, in the order of the model."""
    norms: tuple[str, ...]
    """Names of the batch-norm modules that keep running statistics."""
    stages: tuple[tuple[str, tuple[str, ...]], ...]
    """Each stage with the prefixes of the names in it, ordered from stem to head."""

    def stage(self, name: str) -> str:
        """Return the stage that holds the parameter or module `name`."""
        for stage, prefixes in self.stages:
            if any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes):
                return stage
        raise KeyError(f"{name} is in no stage of the model")
