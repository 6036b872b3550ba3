"""Reading a spec: YAML text to a checked Spec, or one error that names file, line, value and legal values."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from harness.digest import digest
from harness.errors import HarnessError, PlacedError, unknown
from harness.places import Location, Places
from harness.spec import Levels, Spec, TrickSpec
from harness.spec.axes import scenarios
from harness.tricks import TRICKS, Trick


@dataclass(frozen=True)
class Scenario:
    """One combination of the levels of a study's axes, and the spec it makes."""

    levels: Levels
    spec: Spec
    source_tricks: dict[str, Trick]
    """Label to trick, of the source task."""


@dataclass(frozen=True)
class Study:
    """A spec as read: checked, with its tricks made, and where it came from."""

    spec: Spec
    scenarios: tuple[Scenario, ...]
    """One where there is no axis."""
    tricks: dict[str, Trick]
    """Label to trick, parameters checked, in the order of the spec."""
    path: Path
    text: str
    """What stood in the file."""
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

    @contextmanager
    def supposing(self, scenario: Scenario) -> Iterator[None]:
        """Say of a HarnessError raised inside with which levels of the axes it came about."""
        try:
            yield
        except HarnessError as error:
            if not scenario.levels:
                raise
            place = self.places.at(("axes",))
            raise PlacedError(f"{place}: with {_shown(scenario.levels)}: {error}") from None


def read(path: Path, overrides: Sequence[str] = (), text: str | None = None) -> Study:
    """Read the spec at `path`, with `a.b=value` overrides; raises HarnessError for anything that is wrong with it.

    `text` is what stood there at another time, to be read in its place.
    """
    written = _text(path) if text is None else text
    document = _parse(path, written)
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
    if found := [f"{places.at(where)}: {what}" for where, what in spec.faults]:
        raise HarnessError("\n".join(found))
    tricks = _tricks(spec.tricks, ("tricks",), places)
    grid = digest(_identity(json.loads(text)))
    folder = path.resolve().parent
    made = tuple(_scenario(spec, text, levels, settings, folder, places) for levels, settings in scenarios(spec.axes))
    return Study(_rooted(spec, folder), made, tricks, path, written, tuple(overrides), grid, places)


def _scenario(
    spec: Spec, text: str, levels: Levels, settings: dict[str, Any], folder: Path, places: Places
) -> Scenario:
    """Return the spec that a combination of levels makes, checked as a whole like any other."""
    if not levels:
        return Scenario((), _rooted(spec, folder), _source_tricks(spec, places))
    written = json.loads(text)
    for key, value in settings.items():
        *parents, last = key.split(".")
        section = written
        for parent in parents:
            section[parent] = section.get(parent) or {}
            section = section[parent]
            if not isinstance(section, dict):
                raise HarnessError(f"{places.at(('axes', key))}: {parent!r} is no section, but {section!r}")
        section[last] = value
    try:
        made = Spec.model_validate_json(json.dumps(written))
    except ValidationError as error:
        raise HarnessError(f"{places.at(('axes',))}: with {_shown(levels)}: {places.explain(error)}") from None
    try:
        tricks = _source_tricks(made, places)
    except HarnessError as error:
        raise HarnessError(f"{places.at(('axes',))}: with {_shown(levels)}: {error}") from None
    return Scenario(levels, _rooted(made, folder), tricks)


def _shown(levels: Levels) -> str:
    return ", ".join(f"{axis} = {level}" for axis, level in levels)


def _identity(written: dict[str, Any]) -> dict[str, Any]:
    """Return what the user wrote without what changes no number of any training."""
    silent = ("about", "throughput", "keep_weights", "execution", "primary")
    kept = {key: value for key, value in written.items() if key not in silent}
    if isinstance(kept["policies"], dict):
        kept["policies"] = {
            name: {key: value for key, value in (policy or {}).items() if key not in ("about", "source")}
            for name, policy in kept["policies"].items()
        }
    kept["data"] = _images_of(kept["data"])
    weights = kept.get("weights") or {}
    if weights.get("pretrain"):
        source = {**weights["pretrain"], "data": _images_of(weights["pretrain"]["data"])}
        kept["weights"] = {**weights, "pretrain": source}
    return kept


def _images_of(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in ("download", "stream", "workers")}


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
    primary = spec.primary
    if primary and primary.pilot:
        primary = primary.model_copy(update={"pilot": str((folder / primary.pilot).resolve())})
    return spec.model_copy(update={"data": data_at(spec.data), "weights": weights, "primary": primary})


def _source_tricks(spec: Spec, places: Places) -> dict[str, Trick]:
    source = spec.weights.pretrain if spec.weights else None
    return _tricks(source.tricks, ("weights", "pretrain", "tricks"), places) if source else {}


def _tricks(given: Mapping[str, TrickSpec | None], section: Location, places: Places) -> dict[str, Trick]:
    return {label: _trick(label, each, (*section, label), places) for label, each in given.items()}


def _trick(label: str, given: TrickSpec | None, place: Location, places: Places) -> Trick:
    name = (given.trick if given else None) or label
    if name not in TRICKS:
        where = (*place, "trick") if given and given.trick else place
        raise HarnessError(f"{places.at(where)}: {unknown('trick', name, TRICKS)}")
    kind = TRICKS[name]
    parameters = dict(given.model_extra or {}) if given else {}
    legal = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for parameter in parameters:
        if parameter not in legal:
            raise HarnessError(
                f"{places.at((*place, parameter))}: {unknown(f'parameter of {name}', parameter, legal or ['(none)'])}"
            )
    try:
        return TypeAdapter(kind).validate_json(json.dumps(parameters), strict=True)
    except ValidationError as error:
        raise HarnessError(places.explain(error, place)) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot read spec {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"cannot read spec {path}: it is no UTF-8 text ({error.reason})") from None


def _parse(path: Path, text: str) -> CommentedMap:
    try:
        document = YAML(typ="rt").load(text)
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
