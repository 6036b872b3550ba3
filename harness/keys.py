"""Every key of a spec, with its default and what it means: read off the classes that a spec is checked by."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.errors import HarnessError, unknown
from harness.spec import Spec


@dataclass(frozen=True)
class Key:
    """A key of a spec, by its path from the top."""

    path: str
    default: str
    about: str


_BY_NAME = ("policies", "tricks")
"""What has commands of its own that list it."""


def keys(under: str = "") -> list[Key]:
    """Return the keys of a spec in the order of its classes: all of them, or those of one section, as `train`.

    Raises HarnessError where there is no such key.
    """
    every = [*_keys(Spec, "")]
    found = [key for key in every if not under or key.path == under or key.path.startswith(f"{under}.")]
    if not found:
        raise HarnessError(unknown("key of a spec", under, [key.path for key in every if "." not in key.path]))
    return found


def _keys(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        path, inner = prefix + name, [*_sections(field.annotation)]
        again = bool(prefix) and name in Spec.model_fields
        about = field.description or (inspect.getdoc(inner[0]) if inner else "") or ""
        about = f"As `{name}` of the study." if again and inner else " ".join(about.partition("\n\n")[0].split())
        legal = ", ".join(_legal(field.annotation))
        about = f"{about} Legal: {legal}." if legal and not inner else about
        yield Key(path, _default(field), re.sub(r"\bNone\b", "null", about).strip())
        if len(inner) == 1 and not again and name not in _BY_NAME:
            yield from _keys(inner[0], f"{path}.")


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return the sections that a type is made of."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _legal(annotation: Any) -> list[str]:
    """Return the words that a type allows."""
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for part in get_args(annotation) for word in _legal(part)]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value in ({}, (), ""):
        return ""
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
