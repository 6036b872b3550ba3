"""A plan as JSON data: what `harness plan --json` prints, and what a grid keeps in the store for its report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.digest import digest
from harness.leading import family, leaders
from harness.packing import steps_per_epoch
from harness.prefix.cut import Cut, cuts_of, endless_views, refusal
from harness.schedule import phase_ends
from harness.tasks.metrics import score_of
from harness.tricks import TRICKS
from harness.versions import versions

if TYPE_CHECKING:
    from harness.designs import Built
    from harness.family import Family
    from harness.plan import Cell, Choice, Plan, Replicate
    from harness.spec import Data, Levels, Model
    from harness.tasks.metrics import Metric
    from harness.training import Training


def summarise(plan: Plan) -> dict[str, Any]:
    """Return what is planned; it suffices to report on the grid without its data or weights."""
    spec = plan.study.spec
    scenarios = plan.study.scenarios
    first, task = scenarios[0].levels, spec.task
    return {
        "name": spec.name,
        **({} if task == "classification" else {"task": task}),
        "about": spec.about,
        "grid": plan.study.grid,
        "policies": {name: spec.policy(name).about for name in spec.policies},
        "axes": {axis: list(dict.fromkeys(s.levels[i][1] for s in scenarios)) for i, (axis, _) in enumerate(first)},
        "seeds": list(spec.seeds),
        **outline(plan),
        "primary": _primary(plan.family) if plan.family else None,
        "versions": versions(),
        "judgements": [
            {
                "cell": j.cell.name,
                "policy": j.cell.policy,
                "tricks": list(j.cell.tricks),
                "levels": dict(j.cell.levels),
                "verdict": j.verdict,
                "reason": j.reason,
            }
            for j in plan.judgements
        ],
        "tuning": {cell: _choice(choice, score_of(task)) for cell, choice in plan.choices.items()},
        "candidates": len({candidate.training.digest for candidate in plan.candidates}),
        "diagnostics": spec.diagnostics.model_dump(),
        "replicates": len(plan.replicates),
        "trainings": len(plan.trainings),
        "prerequisites": [
            {
                "digest": p.training.digest,
                "role": p.role,
                "what": f"{p.role}: {describe_model(p.training.model)} on {describe_data(p.training.data)}"
                + (f", with {' + '.join(p.tricks)}" if p.tricks else ""),
                "epochs": p.training.train.epochs,
            }
            for p in plan.prerequisites
        ],
        "settings": _settings(plan),
    }


def outline(plan: Plan) -> dict[str, Any]:
    """Return what effects are named by: the tricks, the cells, and the designs that asked for them."""
    digests: dict[Cell, dict[str, str]] = {}
    for replicate in plan.replicates:
        digests.setdefault(replicate.cell, {})[str(replicate.seed)] = replicate.training.digest
    names = {kind: name for name, kind in TRICKS.items()}
    return {
        "tricks": {
            label: {"trick": names[type(trick)], **asdict(trick)}  # type: ignore[call-overload]
            for label, trick in plan.study.tricks.items()
        },
        "cells": [
            {
                "cell": cell.name,
                "policy": cell.policy,
                "tricks": list(cell.tricks),
                "levels": dict(cell.levels),
                "classes": training.classes,
                "digests": digests[cell],
                "tested_on": _tested_on(training.data, training.data_content),
                **({"source": training.origin.content} if training.origin else {}),
            }
            for cell, training in ((cell, replicate.training) for cell, replicate in plan.first.items())
        ],
        "designs": _designs(plan),
        "held": [[*pair] for pair in plan.study.spec.primary.pairs] if plan.study.spec.primary else [],
    }


@lru_cache
def _tested_on(data: Data, content: str) -> str:
    """Return what stands for the test images of a data section, whose files are known by `content`."""
    drawn = dict.fromkeys(("train_per_class", "train_images"))
    return digest([data.model_copy(update=drawn), content])


def reused(plan: Plan) -> list[dict[str, Any]]:
    """Return the stages that are computed once, and up to which share of training, with the cells of which that is so.

    Where there are none, and where they are computed once for evaluation alone, there is a reason why. `teacher` is
    whether the teacher sees each view once.
    """
    if not plan.study.spec.execution.reuse:
        return []
    found: dict[tuple[tuple[tuple[tuple[str, ...], float], ...], str, bool], list[str]] = {}
    for cell in plan.programs:
        training = plan.first[cell].training
        cuts = cuts_of(training, plan.facts.layout(training.model, training.classes, training.kept_classes))
        why_none, endless = refusal(training, cuts), endless_views(training)
        stages = () if why_none else _until(training, cuts)
        teacher = training.teacher is not None and not endless and training.train.compile == "none"
        found.setdefault((stages, why_none or endless, teacher), []).append(cell.name)
    return [
        {
            "stages": [[list(names), until] for names, until in stages],
            "reason": reason,
            "teacher": teacher,
            "cells": cells,
        }
        for (stages, reason, teacher), cells in found.items()
    ]


def _until(training: Training, cuts: tuple[Cut | None, ...]) -> tuple[tuple[tuple[str, ...], float], ...]:
    """Return the frozen stages, each with the share of training until which nothing in them moves."""
    ends = zip(cuts, phase_ends(training.phases), strict=True)
    return tuple({cut.stages: end for cut, end in ends if cut}.items())


def led(plan: Plan) -> list[dict[str, Any]]:
    """Return which cells have their leading epochs in common with another one's, and how many."""
    if not plan.study.spec.execution.reuse:
        return []
    first = {replicate.training.digest: replicate for replicate in reversed(plan.replicates)}
    related: dict[str, list[Replicate]] = {}
    for replicate in reversed(first.values()):
        if replicate.seed == plan.study.spec.seeds[0]:
            related.setdefault(family(replicate.training), []).append(replicate)
    found: dict[tuple[str, int, int], list[str]] = {}
    for cells in related.values():
        steps = steps_per_epoch(cells[0].training, cells[0].data)
        for follower, (leader, epochs) in leaders([cell.training for cell in cells], steps).items():
            own = first[follower]
            where = (first[leader].cell.policy, epochs, own.training.train.epochs)
            found.setdefault(where, []).append(own.cell.name)
    return [
        {"leader": leader, "epochs": epochs, "of": total, "cells": cells}
        for (leader, epochs, total), cells in found.items()
    ]


def _designs(plan: Plan) -> list[dict[str, Any]]:
    """Return the distinct designs, each with the policies and the scenarios that have it.

    A design that policies have in different scenarios has an entry for each of these, so that an entry always speaks
    of all its policies in all its scenarios. Plans kept by earlier versions have none of this.
    """
    where: dict[Built, dict[str, list[Levels]]] = {}
    for designed in plan.designs:
        for built in dict.fromkeys(designed.designs):
            where.setdefault(built, {}).setdefault(designed.policy, []).append(designed.levels)
    entries = []
    for built, by_policy in where.items():
        together: dict[tuple[Levels, ...], list[str]] = {}
        for policy, levels in by_policy.items():
            together.setdefault(tuple(levels), []).append(policy)
        entries += [
            {
                "policies": policies,
                "levels": [dict(each) for each in levels],
                "kind": built.kind,
                "factors": list(built.factors),
                "orders": [list(order) for order in built.orders],
                "sampled": built.sampled,
                "resolution": built.resolution,
                "aliases": list(built.aliases),
                "note": built.note,
                "sets": [list(tricks) for tricks in built.sets],
            }
            for levels, policies in together.items()
        ]
    return entries


def _settings(plan: Plan) -> dict[str, Any]:
    """Return the settings that all scenarios share, and the range of what differs between them."""
    spec, scenarios = plan.study.spec, plan.study.scenarios
    return {
        "model": describe_model(spec.model),
        "weights": describe_weights(plan),
        "data": describe_data(spec.data),
        "train images drawn by seed": any(s.spec.data.drawn_by_seed for s in scenarios),
        "classes": plan.replicates[0].training.classes,
        "train images per seed": _range(r.data.train_size for r in plan.replicates),
        "steps per epoch": _range(r.data.train_size // r.training.train.batch_size for r in plan.replicates),
        **spec.train.model_dump(mode="json"),
    }


def _primary(family: Family) -> dict[str, Any]:
    return {
        "members": [dict(member) for member in family.members],
        "bound": family.bound,
        "sd": family.sd,
        "scales": list(family.scales),
        "power": family.power,
    }


def _range(counts: Iterable[int]) -> str:
    """Return a count, or those of the scenarios."""
    return " or ".join(map(str, sorted(set(counts))))


def _choice(choice: Choice, score: Metric) -> dict[str, Any]:
    tried = [[lr, None if math.isnan(value) else value] for lr, value in choice.val]
    return {"lr": choice.lr, "at_edge": choice.at_edge, score.val: tried}


def describe_model(model: Model) -> str:
    """Return the network by name, with what is edited in it and what is put on it."""
    edits = {
        "variant a": model.variant != "b",
        "deep stem": model.deep_stem,
        "average-pooled shortcuts": model.avg_down,
    }
    named = ", ".join(edit for edit, made in edits.items() if made)
    backbone = f"{model.name} ({named})" if named else model.name
    return f"{model.head} on {backbone}" if model.head else backbone


def describe_data(data: Any) -> str:
    """Return the data section in a few words."""
    folder = data.name == "image_folder" and data.root
    parts = [f"image folder {data.root.rsplit('/', 1)[-1]}" if folder else data.name]
    if data.classes:
        shown = data.classes if len(data.classes) <= 6 else (*data.classes[:5], "…")
        parts.append(f"classes {', '.join(shown)}")
    parts += data.shift
    parts.append(f"{data.image_size} px")
    if data.train_per_class:
        parts.append(f"{data.train_per_class} training images a class")
    if data.train_images:
        parts.append(f"{data.train_images} training images")
    return ", ".join(parts)


def describe_weights(plan: Plan) -> str:
    """Return where the pretrained weights come from, in a few words."""
    source = plan.study.spec.weights
    if source is None:
        return "random"
    if source.pretrain:
        return f"pretrained on {describe_data(source.pretrain.data)}"
    return f"torchvision {source.torchvision}" if source.torchvision else f"file {source.checkpoint}"
