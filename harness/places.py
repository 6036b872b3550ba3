"""Where in a spec, or on the command line, a value was written: what every error begins with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from harness.errors import unknown
from harness.freezing.policy import Codes, Phase, Policy
from harness.recipe import TeacherSpec
from harness.spec import Spec, TrickSpec

Location = tuple[int | str, ...]
_DATACLASSES: dict[str, type] = {"codes": Codes, "phases": Phase, "teacher": TeacherSpec}
"""Parts of a spec that are no sections, by the key they are written under; else it is a policy."""


class Places:
    """Where in the file (or on the command line) each value was written."""

    def __init__(
        self, path: Path, document: CommentedMap, overrides: Sequence[str], faults: frozenset[tuple[Location, str]]
    ) -> None:
        """`faults` are place and message of what is wrong with the file itself: no override is to blame for it."""
        self._path, self._document, self._faults = path, document, faults
        self._overrides = {override.partition("=")[0]: override for override in overrides}

    def at(self, location: Location, whole: bool = False) -> str:
        """Return `file:line: a.b`, for the innermost part of `location` that was written.

        `whole` says that all of the section at `location` is at fault, overrides inside it first of all.
        """
        dotted = ".".join(str(part) for part in location)
        for key, override in self._overrides.items():
            if _covers(key, dotted) or (_covers(dotted, key) and (whole or not self._in_file(location))):
                return f"--set {override}"
        node: Any = self._document
        line = 1
        for part in location:
            try:
                if isinstance(node, CommentedMap):
                    line = node.lc.key(part)[0] + 1
                elif isinstance(node, CommentedSeq):
                    line = node.lc.item(part)[0] + 1
                node = node[part]
            except (KeyError, IndexError, TypeError):
                break
        return f"{self._path}:{line}: {dotted}" if dotted else f"{self._path}:{line}"

    def _in_file(self, location: Location) -> bool:
        # A key that an override added has no line.
        return bool(location) and location[0] in (self._document.lc.data or ())

    def explain(self, error: ValidationError, prefix: Location = ()) -> str:
        """Return one line per thing that is wrong, in the order of the file."""
        lines = [self._line(details, prefix) for details in _innermost(error.errors())]
        return "\n".join(dict.fromkeys(lines))

    def _line(self, details: ErrorDetails, prefix: Location) -> str:
        location = self._written((*prefix, *details["loc"]), key=details["type"] != "value_error")
        theirs = details["type"] == "value_error" and (details["loc"], details["msg"]) not in self._faults
        place = self.at(location, whole=theirs)
        if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            return f"{place}: {unknown('key', str(location[-1]), _siblings(location[:-1]))}"
        if details["type"] == "missing" and isinstance(details["loc"][-1], int):
            return f"{place}: value {details['loc'][-1] + 1} is missing"
        if details["type"] == "missing":
            return f"{self.at(location[:-1])}: key {str(location[-1])!r} is missing"
        message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if not details["msg"].startswith("Input should be "):
            return f"{place}: {message}"
        return f"{place}: {json.dumps(details['input'], default=str)} should be {message}"

    def _written(self, location: Location, key: bool) -> Location:
        """Drop the parts pydantic adds to say which alternative of a union it tried.

        `key` says that the last part is a key in any case, though it may be missing.
        """
        node: Any = self._document
        kept: list[int | str] = []
        for index, part in enumerate(location):
            if isinstance(node, dict) and (part in node or (key and index == len(location) - 1)):
                kept.append(part)
                node = node.get(part)
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                kept.append(part)
                node = node[part]
        return tuple(kept)


def _covers(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer + ".")


def _innermost(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Of the alternatives of a union that failed at one place, keep those that got furthest."""
    return [d for d in details if not any(d is not e and _under(e["loc"], d["loc"]) for e in details)]


def _under(inner: Location, outer: Location) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _siblings(location: Location) -> list[str]:
    """Return the legal keys of the section at `location` of a spec."""
    model: Any = Spec
    for part in (part for part in location if not isinstance(part, int)):
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            break
        model = _model_in(field.annotation)
    inside_trick = model is TrickSpec and len(location) > 2
    return list(model.model_fields) if model and not inside_trick else _dataclass_keys(location)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the first section inside an annotation such as `tuple[Literal["x"] | Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)


def _dataclass_keys(location: Location) -> list[str]:
    inner = next((kind for part, kind in _DATACLASSES.items() if part in location), Policy)
    return [field.name for field in dataclasses.fields(inner)]
