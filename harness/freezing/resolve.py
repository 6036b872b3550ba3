"""Policies and parameter rules resolved against a model: which names learn, with which factors. Pure, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypeVar

from harness.errors import HarnessError, unknown
from harness.freezing.policy import Codes, Phase, Policy
from harness.models.layout import Layout
from harness.recipe import ParamRule

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Group:
    """Parameters that learn alike."""

    names: tuple[str, ...]
    weight_decay: float
    lr_factor: float


@dataclass(frozen=True)
class ResolvedPhase:
    """A phase by the names of one model: whatever is not listed stays bit for bit."""

    start: float
    groups: tuple[Group, ...]
    bn_stats: tuple[str, ...]
    """Batch-norm modules whose running statistics follow the batches."""
    restart_schedule: bool

    @property
    def trainable(self) -> frozenset[str]:
        """Names of the parameters that learn."""
        return frozenset(name for group in self.groups for name in group.names)

    @property
    def moving(self) -> frozenset[str]:
        """Names of the parameters and buffers that may change."""
        return self.trainable | {f"{norm}.{name}" for norm in self.bn_stats for name in _STATISTICS}


def resolve(
    policy: Policy, layout: Layout, weight_decay: float, rules: Sequence[ParamRule] = ()
) -> tuple[ResolvedPhase, ...]:
    """Resolve the phases of `policy`; one with codes has a single phase in which nothing learns.

    Raises HarnessError for a selection that matches nothing, and for one that leaves nothing to learn.
    """
    if policy.codes:
        return (ResolvedPhase(0.0, (), (), False),)
    starts = [phase.start for phase in policy.phases]
    if starts[0] != 0 or starts != sorted(set(starts)):
        raise HarnessError(f"phases must start at 0 and then later and later, not at {starts}")
    return tuple(_resolve_phase(phase, policy.layer_decay, layout, weight_decay, rules) for phase in policy.phases)


def resolve_codes(policy: Policy, layout: Layout) -> Codes | None:
    """Return the codes of `policy` with their stage by name; raises HarnessError where the model has no such stage."""
    codes, before_head = policy.codes, _before_head(layout)
    if codes and codes.stage == "last":
        return replace(codes, stage=before_head[-1])
    if codes and codes.stage not in before_head:
        raise HarnessError(unknown("stage of codes", codes.stage, ["last", *before_head]))
    return codes


def _resolve_phase(
    phase: Phase, layer_decay: float, layout: Layout, weight_decay: float, rules: Sequence[ParamRule]
) -> ResolvedPhase:
    trainable = select(phase.trainable, [name for name, _ in layout.parameters], layout)
    if not trainable:
        raise HarnessError(f"trainable: {list(phase.trainable)} leaves nothing to learn")
    # The head is at full rate and the stage before it one factor down, as in BEiT.
    depth = {stage: number for number, (stage, _) in enumerate(reversed(layout.stages))}
    groups: dict[tuple[float, float], list[str]] = {}
    for name, shape in layout.parameters:
        if name in trainable:
            decay, lr_factor = weight_decay, phase.lr_factor * layer_decay ** depth[layout.stage(name)]
            for rule in rules:
                if rule.ndim == len(shape):
                    decay *= rule.weight_decay_factor
                    lr_factor *= rule.lr_factor
            groups.setdefault((decay, lr_factor), []).append(name)
    # A head is new: the statistics of its batch norms are nobody's to keep, and follow where the head learns.
    new = {name for name in layout.norms if layout.stage(name) == "head"}
    following = select(phase.bn_stats, layout.norms, layout) - new | {n for n in new if f"{n}.weight" in trainable}
    return ResolvedPhase(
        start=phase.start,
        groups=tuple(Group(tuple(names), *factors) for factors, names in groups.items()),
        bn_stats=tuple(name for name in layout.norms if name in following),
        restart_schedule=phase.restart_schedule,
    )


def select(selection: Sequence[str], names: Sequence[str], layout: Layout) -> set[str]:
    """Return those of `names` (parameters or batch norms of the layout) that `selection` means.

    Raises HarnessError for an entry that matches nothing in the model. A part of the model without batch norm is no
    error: there a policy such as `head_bn` simply is `head`. The language is that of `policies.py`.
    """
    chosen: set[str] = set()
    for entry in selection:
        positive = entry.removeprefix("not ").strip()
        matched = _match(positive, names, layout)
        chosen = chosen - matched if entry.startswith("not ") else chosen | matched
    return chosen


def _match(entry: str, names: Sequence[str], layout: Layout) -> set[str]:
    stages = dict(layout.stages)
    match entry.split():
        case ["all"]:
            return set(names)
        case ["none"]:
            return set()
        case ["bn"]:
            norms = {norm for norm in layout.norms if layout.stage(norm) != "head"}
            return {name for name in names if name in norms or name.rpartition(".")[0] in norms}
        case ["from", begin]:
            return _among(names, _from(begin, layout))
        case ["last", count]:
            last = _last(entry, count, _before_head(layout), "stages")
            return {name for name in names if layout.stage(name) in last}
        case ["last", count, "layers"]:
            return _among(names, [name for layer in _last(entry, count, _layers(layout), "layers") for name in layer])
        case [stage] if stage in stages:
            return {name for name in names if layout.stage(name) == stage}
    matched = {name for name in names if fnmatchcase(name, entry)}
    if not matched:
        known = ", ".join(["all", "none", "bn", *stages, "last N", "last N layers", "from NAME"])
        raise HarnessError(
            f"{entry!r} matches nothing; legal: {known}, or a glob over names such as {names[0] if names else '*'!r}"
        )
    return matched


def _among(names: Sequence[str], parameters: Sequence[str]) -> set[str]:
    """Return those of `names` that are among `parameters`; a batch norm is where its γ is."""
    return {name for name in names if name in parameters or f"{name}.weight" in parameters}


def _from(begin: str, layout: Layout) -> list[str]:
    prefixes = dict(layout.stages).get(begin, (begin,))
    names = [name for name, _ in layout.parameters]
    for index, name in enumerate(names):
        if any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes):
            return names[index:]
    known = ", ".join(stage for stage, _ in layout.stages)
    raise HarnessError(f"'from {begin}' begins nowhere; legal: {known}, or a module or parameter such as {names[0]!r}")


def _before_head(layout: Layout) -> list[str]:
    return [stage for stage, _ in layout.stages[:-1]]


def _layers(layout: Layout) -> list[list[str]]:
    """Return the parameters of each layer before the head: a weight, and the vectors up to the next one."""
    layers: list[list[str]] = []
    for name, shape in layout.parameters:
        if layout.stage(name) in _before_head(layout):
            if len(shape) in (2, 4):
                layers.append([])
            if layers:
                layers[-1].append(name)
    return layers


_Part = TypeVar("_Part")


def _last(entry: str, count: str, parts: Sequence[_Part], what: str) -> Sequence[_Part]:
    if not count.isdecimal() or not 1 <= int(count) <= len(parts):
        raise HarnessError(
            f"{entry!r} is not possible: the model has {len(parts)} {what} before the head, so N is 1 to {len(parts)}"
        )
    return parts[-int(count) :]
