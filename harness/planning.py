"""Spec to Plan: which cells a study has, and the trainings of each. It writes only a cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain

from harness.data import Survey
from harness.designs import TrickSet, build, run_of, union
from harness.earlier import ROLES
from harness.errors import HarnessError
from harness.facts import Facts
from harness.family import family_of
from harness.freezing.policies import Policy
from harness.ground import Ground
from harness.judging import Judged, judge, left_out, left_out_always, why_not
from harness.plan import Candidate, Cell, Choice, Designed, Judgement, Plan, Replicate
from harness.recipe import Conflict, Recipe
from harness.spec import Data
from harness.specfile import Study
from harness.summary import outline
from harness.tricks import compose
from harness.workspace import Workspace


def make_plan(study: Study, workspace: Workspace, choices: Mapping[str, Choice] | None = None) -> Plan:
    """Expand a study, with the learning rates of `choices`; raises HarnessError where it cannot mean anything."""
    surveys: dict[Data, Survey] = {}
    facts = Facts(workspace.facts)
    grounds, parts = [], []
    for scenario in study.scenarios:
        with study.supposing(scenario):
            grounds.append(Ground(study, scenario, workspace, facts, surveys))
            parts.append(_Expansion(study, grounds[-1], choices or {}))
    judgements = tuple(chain.from_iterable(part.judgements for part in parts))
    replicates = tuple(chain.from_iterable(part.replicates for part in parts))
    if not replicates:
        reasons = "; ".join(f"{j.cell.name}: {j.reason}" for j in judgements if j.reason)
        raise HarnessError(f"{study.path}: the grid is empty: {reasons}")
    prerequisites = {digest: p for ground in grounds for digest, p in ground.prerequisites.items()}
    plan = Plan(
        study,
        replicates,
        _noops(judgements, replicates),
        tuple(chain.from_iterable(part.designs for part in parts)),
        tuple(sorted(prerequisites.values(), key=lambda p: ROLES.index(p.role))),
        tuple(chain.from_iterable(part.candidates for part in parts)),
        choices or {},
        facts=facts,
    )
    with study.placing("primary", "contrasts"):
        return replace(plan, family=family_of(study.spec.primary, outline(plan), facts))


def _noops(judgements: tuple[Judgement, ...], replicates: tuple[Replicate, ...]) -> tuple[Judgement, ...]:
    """Return the judgements, with cells told that are the same training as one before them."""
    programs = {replicate.cell: replicate.program for replicate in replicates}
    first = {program: cell for cell, program in reversed(programs.items())}

    def told(judgement: Judgement) -> Judgement:
        twin = first[programs[judgement.cell]] if judgement.cell in programs else judgement.cell
        if twin == judgement.cell:
            return judgement
        return Judgement(judgement.cell, "noop", f"the same training as {twin.name!r}, whose runs it shares")

    return tuple(told(judgement) for judgement in judgements)


class _Expansion:
    """The cells of one scenario."""

    def __init__(self, study: Study, ground: Ground, choices: Mapping[str, Choice]) -> None:
        self._study, self._ground, self._choices = study, ground, choices
        self.judgements: list[Judgement] = []
        self.designs: list[Designed] = []
        self.replicates: list[Replicate] = []
        self.candidates: list[Candidate] = []
        with study.placing("train", "optimizer"):
            ground.facts.check_optimizer(ground.spec.train.optimizer, ground.spec.train.fused)
        for name in ground.spec.policies:
            self._expand(name, ground.spec.policy(name))

    def _expand(self, name: str, policy: Policy) -> None:
        spec, levels = self._ground.spec, dict(self._ground.scenario.levels)
        if reason := left_out_always(spec, name, levels):
            self.judgements.append(Judgement(self._cell(name, ()), "excluded", reason))
            return
        refused = why_not(self._ground, policy)
        if refused and spec.policies[name]:  # one that the user wrote is an error, not a judgement
            with self._study.placing("policies", name):
                raise HarnessError(refused)
        if refused:
            self.judgements.append(Judgement(self._cell(name, ()), "invalid", refused))
            return
        judged = {
            label: Judged("excluded", reason)
            if (reason := left_out_always(spec, name, levels, label))
            else judge(self._ground, policy, trick)
            for label, trick in self._study.tricks.items()
        }
        for label, found in judged.items():
            if found and not self._runs(found):
                self.judgements.append(Judgement(self._cell(name, (label,)), found.verdict, found.reason))
        # A trick that cannot run leaves the policy's design as a factor, so that the design stays balanced.
        labels = [label for label, found in judged.items() if found is None or self._runs(found)]
        try:
            designs = build(spec.designs, labels, [label for label in judged if label not in labels])
        except ValueError as error:
            with self._study.placing("designs"):
                raise HarnessError(f"under {name}: {error}") from None
        ran = [s for s in union(designs) if self._add(self._cell(name, s), policy, [judged[label] for label in s])]
        left = tuple(run_of(design, ran) for design in designs)
        self.designs.append(Designed(name, self._ground.scenario.levels, left))

    def _runs(self, judged: Judged) -> bool:
        return judged.verdict == "destructive" and self._ground.spec.destructive == "run"

    def _cell(self, policy: str, tricks: TrickSet) -> Cell:
        return Cell(policy, tricks, tuple(self._study.tricks), self._ground.scenario.levels)

    def _add(self, cell: Cell, policy: Policy, judged: list[Judged | None]) -> bool:
        """Judge a cell and make its trainings; returns whether it runs."""
        reason = left_out(self._ground.spec, cell.policy, cell.tricks, dict(cell.levels))
        if reason:
            self.judgements.append(Judgement(cell, "excluded", reason))
            return False
        tricks = {label: self._study.tricks[label] for label in cell.tricks}
        try:
            recipe = compose(tricks)
            self._ground.layout(policy, recipe)
        except (Conflict, ValueError) as conflict:
            self.judgements.append(Judgement(cell, "invalid", str(conflict)))
            return False
        harm = "; ".join(dict.fromkeys(found.reason for found in judged if found))
        self.judgements.append(Judgement(cell, "destructive", harm) if harm else Judgement(cell, "valid"))
        spec, data = self._ground.spec, self._ground.data
        choice = self._choices.get(cell.name)
        lr = choice.lr if choice else None
        teaching = [label for label, trick in tricks.items() if trick(Recipe()).teacher]
        with self._study.placing("tricks", *teaching):
            trainings = self._ground.trainings(policy, recipe, spec.seeds, lr)
        program = trainings[0].digest
        self.replicates += [Replicate(cell, made.seed, made, program, data) for made in trainings]
        if spec.tune and not policy.codes:  # a solver has no learning rate
            self.candidates += [
                Candidate(cell, rate, made.seed, replace(made, save_to=None, diagnose=False), data)
                for rate in spec.tune.lr
                for made in self._ground.trainings(policy, recipe, spec.tune.seeds, rate)
            ]
        return True
