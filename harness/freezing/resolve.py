"""Policies and parameter rules resolved against a model: which names learn, with which factors. Pure, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harness.errors import HarnessError
from harness.freezing.policies import Phase, Policy
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
    """Resolve the phases of `policy`.

    Raises HarnessError for a selection that matches nothing, and for one that leaves nothing to learn.
    """
    starts = [phase.start for phase in policy.phases]
    if starts[0] != 0 or starts != sorted(set(starts)):
        raise HarnessError(f"phases must start at 0 and then later and later, not at {starts}")
    return tuple(_resolve_phase(phase, layout, weight_decay, rules) for phase in policy.phases)


def _resolve_phase(phase: Phase, layout: Layout, weight_decay: float, rules: Sequence[ParamRule]) -> ResolvedPhase:
    parameters = [name for name, _ in layout.parameters]
    trainable = select(phase.trainable, parameters, layout)
    if not trainable:
        raise HarnessError(f"trainable: {list(phase.trainable)} leaves nothing to learn")
    groups: dict[tuple[float, float], list[str]] = {}
    for name, shape in layout.parameters:
        if name in trainable:
            decay, lr_factor = weight_decay, phase.lr_factor
            for rule in rules:
                if rule.ndim == len(shape):
                    decay *= rule.weight_decay_factor
                    lr_factor *= rule.lr_factor
            groups.setdefault((decay, lr_factor), []).append(name)
    following = select(phase.bn_stats, layout.norms, layout)
    return ResolvedPhase(
        start=phase.start,
        groups=tuple(Group(tuple(names), *factors) for factors, names in groups.items()),
        bn_stats=tuple(name for name in layout.norms if name in following),
        restart_schedule=phase.restart_schedule,
    )


def select(selection: Sequence[str], names: Sequence[str], layout: Layout) -> set[str]:
    """Return those of `names` (parameters or batch norms of the layout) that `selection` means.

    Raises HarnessError for an entry that matches nothing in the model. `bn` is no error on a model without batch norm:
    there a policy such as `head_bn` simply is `head`.
    """
    chosen: set[str] = set()
    for entry in selection:
        positive = entry.removeprefix("not ").strip()
        matched = _match(positive, names, layout)
        chosen = chosen - matched if entry.startswith("not ") else chosen | matched
    return chosen


def _match(entry: str, names: Sequence[str], layout: Layout) -> set[str]:
    stages = dict(layout.stages)
    if entry in ("all", "none"):
        return set(names) if entry == "all" else set()
    if entry == "bn":
        return {name for name in names if name in layout.norms or name.rpartition(".")[0] in layout.norms}
    matched = {name for name in names if (layout.stage(name) == entry if entry in stages else fnmatchcase(name, entry))}
    if not matched:
        known = ", ".join(["all", "none", "bn", *stages])
        raise HarnessError(
            f"{entry!r} matches nothing; legal: {known}, or a glob over names such as {names[0] if names else '*'!r}"
        )
    return matched
