"""Axes: settings that the grid varies besides policies and tricks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any

Levels = tuple[tuple[str, str], ...]
"""Name and level of each axis, in the order of the spec: what tells one scenario from another."""
Axes = dict[str, list[Any] | dict[str, dict[str, Any]]]
"""A setting such as `train.lr` with a list of values, or a name with levels that each set several settings."""

SECTIONS = ("model", "weights", "data", "train")
"""Sections of a spec whose settings may vary."""


def name_of(key: str) -> str:
    """Return the name of the axis `key`: the last part of a setting, such as `lr` for `train.lr`.

    Settings of the source task are told from the target's: `weights.pretrain.seed` is `source_seed`.
    """
    *parents, last = key.split(".")
    name = parents[-1] if last == "name" and parents else last
    return f"source_{name}" if "pretrain" in parents else name


def scenarios(axes: Axes) -> Iterator[tuple[Levels, dict[str, Any]]]:
    """Yield each combination of levels with the settings it makes; one empty combination where there is no axis."""
    choices = [list(_levels(key, values)) for key, values in axes.items()]
    for combination in product(*choices):
        settings: dict[str, Any] = {}
        for _, _, made in combination:
            settings |= made
        yield tuple((name, level) for name, level, _ in combination), settings


def _levels(key: str, values: list[Any] | dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    if isinstance(values, Mapping):
        yield from ((key, level, settings) for level, settings in values.items())
    else:
        yield from ((name_of(key), level_name(value), {key: value}) for value in values)


def level_name(value: Any) -> str:
    """Return a level as a person reads it: `0.1`, `invert+rotate90`, `none` for nothing."""
    if isinstance(value, list):
        return "+".join(map(level_name, value)) or "none"
    if isinstance(value, dict):
        return " ".join(key if part is None else level_name(part) for key, part in value.items())
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def names_of(axes: Axes) -> list[str]:
    """Return the names of the axes, in their order."""
    return [key if isinstance(values, dict) else name_of(key) for key, values in axes.items()]


def levels_of(axes: Axes) -> dict[str, list[str]]:
    """Return the levels of each axis by its name."""
    return {
        name: [level for _, level, _ in _levels(key, values)]
        for name, (key, values) in zip(names_of(axes), axes.items(), strict=True)
    }


def settings_of(key: str, values: list[Any] | dict[str, dict[str, Any]]) -> list[str]:
    """Return the settings that the axis `key` varies."""
    return list(dict.fromkeys(setting for _, _, made in _levels(key, values) for setting in made))


def check(axes: Axes) -> Axes:
    """Return `axes`; raises ValueError for what cannot vary or is varied twice, and for what looks alike."""
    for key, values in axes.items():
        for setting in settings_of(key, values):
            if setting.split(".")[0] not in SECTIONS:
                legal = ", ".join(SECTIONS)
                raise ValueError(f"{setting!r} cannot vary; an axis is a setting of {legal}, such as train.lr")
        labels = [level for _, level, _ in _levels(key, values)]
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"axis {key!r} needs levels that differ, not {labels}")
        for label in labels:
            # In the name of a cell, `|` stands between its parts.
            if not label.strip() or "|" in label or "\n" in label:
                raise ValueError(f"axis {key!r}: {label!r} cannot name a level; use a few words without '|'")
    names = names_of(axes)
    if len(set(names)) < len(names):
        raise ValueError(f"two axes are named alike: {', '.join(names)}; name one yourself, with levels that set it")
    for one, other in combinations(axes, 2):
        for ours, theirs in product(settings_of(one, axes[one]), settings_of(other, axes[other])):
            if f"{ours}.".startswith(f"{theirs}.") or f"{theirs}.".startswith(f"{ours}."):
                raise ValueError(f"the axes {one!r} and {other!r} both set {max(ours, theirs, key=len)}")
    return axes
