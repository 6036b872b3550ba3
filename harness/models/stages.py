"""The stages of a network: known, or as a spec describes them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.models.zoo import MODELS, Stages

if TYPE_CHECKING:
    from torch import nn

    from harness.spec import Model


def stages_of(model: Model, module: nn.Module) -> Stages:
    """Return the stages of `module`, which is `model` built, with the prefixes of the names in them.

    Raises HarnessError where a pattern of the spec matches nothing, or a parameter is not in exactly one stage.
    """
    if model.stages is None:
        return MODELS[model.name].stages
    parameters = [name for name, _ in module.named_parameters()]
    names = [*(name for name, _ in module.named_modules() if name), *parameters]
    stages = tuple(
        (stage, tuple(prefix for pattern in patterns for prefix in _outermost(pattern, names, model.name)))
        for stage, patterns in model.stages
    )
    for parameter in parameters:
        holders = [stage for stage, prefixes in stages if any(is_under(parameter, prefix) for prefix in prefixes)]
        if len(holders) != 1:
            found = f"in stages {', '.join(holders)}" if holders else "in no stage"
            raise HarnessError(f"parameter {parameter!r} of {model.name} is {found}; each belongs in exactly one")
    return stages


def is_under(name: str, prefix: str) -> bool:
    """Whether `name` is `prefix` or lies below it."""
    return name == prefix or name.startswith(prefix + ".")


def _outermost(pattern: str, names: list[str], model: str) -> list[str]:
    """Return the names that match `pattern`, without those below another of them."""
    matched = [name for name in names if fnmatchcase(name, pattern)]
    if not matched:
        roots = dict.fromkeys(name.partition(".")[0] for name in names)
        raise HarnessError(f"{pattern!r} matches no name in {model}, whose outermost names are {', '.join(roots)}")
    return [name for name in matched if not any(is_under(name, other) for other in matched if other != name)]
