"""Reading a spec: YAML text to a checked Spec, or one error that names file, line, value and legal values."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from harness.digest import digest
from harness.errors import HarnessError, PlacedError, unknown
from harness.spec import Spec, TrickSpec
from harness.tricks import TRICKS, Trick

Location = tuple[int | str, ...]


@dataclass(frozen=True)
class Study:
    """A spec as read: checked, with its tricks made, and where it came from."""

    spec: Spec
    tricks: dict[str, Trick]
    """Label to trick, parameters checked, in the order of the spec."""
    path: Path
    overrides: tuple[str, ...]
    grid: str
    """Identity of the grid: what the user wrote and no default, so that a version with new keys finds it again."""
    places: Places

    @contextmanager
    def placing(self, *location: int | str) -> Iterator[None]:
        """Say of a HarnessError raised inside where in the spec its cause was written."""
        try:
            yield
        except PlacedError:
            raise
        except HarnessError as error:
            raise PlacedError(f"{self.places.at(location)}: {error}") from None


def read(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read the spec at `path`, with `a.b=value` overrides; raises HarnessError for anything that is wrong with it."""
    document = _parse(path)
    original = copy.deepcopy(document)
    for override in overrides:
        _override(document, override)
    places = Places(path, document, overrides, _faults(original) if overrides else frozenset())
    try:
        text = json.dumps(document, default=str)
    except TypeError as error:
        raise HarnessError(f"{path}: a key must be a name: {error}") from None
    try:
        # Strict JSON mode: lists serve as tuples, and no string is taken for a number.
        spec = Spec.model_validate_json(text)
    except ValidationError as error:
        raise HarnessError(places.explain(error)) from None
    tricks = {label: _trick(label, given, places) for label, given in spec.tricks.items()}
    grid = digest(_identity(json.loads(text)))
    return Study(_rooted(spec, path.resolve().parent), tricks, path, tuple(overrides), grid, places)


def _identity(written: dict[str, Any]) -> dict[str, Any]:
    """Return what the user wrote without what changes no number of any training."""
    kept = {key: value for key, value in written.items() if key not in ("about", "throughput", "keep_weights")}
    if isinstance(kept["policies"], dict):
        kept["policies"] = {
            name: {key: value for key, value in (policy or {}).items() if key not in ("about", "source")}
            for name, policy in kept["policies"].items()
        }
    return kept


def _rooted(spec: Spec, folder: Path) -> Spec:
    """Return the spec with its paths absolute: they are written relative to its own folder."""

    def data_at(data: Any) -> Any:
        return data.model_copy(update={"root": str((folder / data.root).resolve())}) if data.root else data

    weights = spec.weights
    if weights and weights.pretrain:
        source = weights.pretrain.model_copy(update={"data": data_at(weights.pretrain.data)})
        weights = weights.model_copy(update={"pretrain": source})
    elif weights and weights.checkpoint:
        weights = weights.model_copy(update={"checkpoint": str((folder / weights.checkpoint).resolve())})
    return spec.model_copy(update={"data": data_at(spec.data), "weights": weights})


def _trick(label: str, given: TrickSpec | None, places: Places) -> Trick:
    name = (given.trick if given else None) or label
    if name not in TRICKS:
        where: Location = ("tricks", label, "trick") if given and given.trick else ("tricks", label)
        raise HarnessError(f"{places.at(where)}: {unknown('trick', name, TRICKS)}")
    kind = TRICKS[name]
    parameters = dict(given.model_extra or {}) if given else {}
    legal = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for parameter in parameters:
        if parameter not in legal:
            where = ("tricks", label, parameter)
            raise HarnessError(f"{places.at(where)}: {unknown(f'parameter of {name}', parameter, legal or ['(none)'])}")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(parameters), strict=True)
    except ValidationError as error:
        raise HarnessError(places.explain(error, ("tricks", label))) from None


def _parse(path: Path) -> CommentedMap:
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"cannot read spec {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"cannot read spec {path}: it is no UTF-8 text ({error.reason})") from None
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise HarnessError(f"{path}{line}: no valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise HarnessError(f"{path}: no valid YAML: {error}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # what YAML's own constructors raise
        raise HarnessError(f"{path}: no valid YAML value: {error}") from None
    if not isinstance(document, CommentedMap):
        raise HarnessError(f"{path}: a spec is a mapping of keys; legal: {', '.join(Spec.model_fields)}")
    return document


def _override(document: CommentedMap, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise HarnessError(f"--set {override}: write it as a.b=value")
    *parents, last = key.split(".")
    node: Any = document
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = CommentedMap()
        node = node[parent]
        if not isinstance(node, CommentedMap):
            raise HarnessError(f"--set {override}: {parent!r} is no section of the spec")
    try:
        value = YAML(typ="safe").load(text)
        json.dumps(value, default=str)  # refuses what refers to itself
    except (YAMLError, ValueError, TypeError, AttributeError) as error:  # the latter from YAML's own constructors
        raise HarnessError(f"--set {override}: {text!r} is no valid YAML value") from error
    node[last] = value


def _faults(document: CommentedMap) -> frozenset[tuple[Location, str]]:
    try:
        Spec.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        return frozenset((details["loc"], details["msg"]) for details in error.errors())
    except TypeError:
        pass
    return frozenset()


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
        location = (*prefix, *self._written(details["loc"]))
        theirs = details["type"] == "value_error" and (details["loc"], details["msg"]) not in self._faults
        place = self.at(location, whole=theirs)
        if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            return f"{place}: {unknown('key', str(location[-1]), _siblings(location[:-1]))}"
        if details["type"] == "missing":
            return f"{self.at(location[:-1])}: key {str(location[-1])!r} is missing"
        message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if not details["msg"].startswith("Input should be "):
            return f"{place}: {message}"
        return f"{place}: {json.dumps(details['input'], default=str)} should be {message}"

    def _written(self, location: Location) -> Location:
        """Drop the parts pydantic adds to say which alternative of a union it tried."""
        node: Any = self._document
        kept: list[int | str] = []
        for index, part in enumerate(location):
            if isinstance(node, dict) and (part in node or index == len(location) - 1):
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
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            break
        model = _model_in(field.annotation)
    return list(model.model_fields) if model else _dataclass_keys(location)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the first section inside an annotation such as `tuple[Literal["x"] | Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)


def _dataclass_keys(location: Location) -> list[str]:
    from harness.freezing.policies import Phase, Policy

    return [field.name for field in dataclasses.fields(Phase if "phases" in location else Policy)]
