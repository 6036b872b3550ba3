"""Spec to Plan: the cells, what each trains, what they share, what cannot run and why. It writes only a cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

from harness.data import Survey
from harness.designs import Built, TrickSet, build, run_of, union
from harness.earlier import ROLES, Prerequisite
from harness.errors import HarnessError
from harness.facts import Facts
from harness.family import Family, family_of
from harness.freezing.policies import Policy
from harness.ground import Ground
from harness.judging import Judged, Verdict, judge, left_out, left_out_always, why_not
from harness.recipe import Conflict, Recipe
from harness.spec import Data, Levels
from harness.specfile import Study
from harness.summary import outline
from harness.training import Training
from harness.tricks import compose
from harness.wording import cell_name, set_name
from harness.workspace import Workspace


@dataclass(frozen=True)
class Cell:
    """One policy with one trick set, in one scenario."""

    policy: str
    tricks: TrickSet
    all_tricks: TrickSet
    """Those of the whole study, so that a set of nearly all has a short name."""
    levels: Levels = ()

    @property
    def trick_set(self) -> str:
        """The name of the trick set; one of nearly all goes by what it lacks."""
        return set_name(self.tricks, self.all_tricks)

    @property
    def axes(self) -> list[str]:
        """The names of the axes."""
        return [axis for axis, _ in self.levels]

    @property
    def scenario(self) -> str:
        """The levels of the axes; empty where there is no axis."""
        return ", ".join(f"{axis} {level}" for axis, level in self.levels)

    @property
    def name(self) -> str:
        """The name people read, without the seed."""
        return cell_name(self.policy, self.tricks, self.all_tricks, self.scenario)


@dataclass(frozen=True)
class Replicate:
    """One cell at one seed, and the training it needs."""

    cell: Cell
    seed: int
    training: Training
    program: str
    """Digest of the training at the first seed: replicates that differ by seed alone have one program."""
    data: Survey
    planned: str = ""
    """Digest of the training that was planned, where it did not fit its device and this one stands for it."""

    @property
    def name(self) -> str:
        """The name people read."""
        return f"{self.cell.name} | seed {self.seed}"

    def in_smaller_parts(self) -> Replicate | None:
        """Return it with batches in twice as many parts, which is another training; None where they are too small."""
        train = self.training.train
        if train.records_graphs or 4 * train.accumulate > train.batch_size:  # batch norm wants more than one image
            return None
        made = replace(self.training, train=train.model_copy(update={"accumulate": 2 * train.accumulate}))
        return replace(self, training=made, program=made.digest, planned=self.planned or self.training.digest)


@dataclass(frozen=True)
class Judgement:
    """What can be said of a cell before it runs."""

    cell: Cell
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Designed:
    """The designs of one policy in one scenario, over the tricks that can run there."""

    policy: str
    levels: Levels
    designs: tuple[Built, ...]


@dataclass(frozen=True)
class Candidate:
    """One learning rate tried for one cell at one tuning seed."""

    cell: Cell
    lr: float
    seed: int
    training: Training
    data: Survey


@dataclass(frozen=True)
class Choice:
    """The learning rate of a cell, and what it was chosen by."""

    lr: float
    val: tuple[tuple[float, float], ...]
    """Each rate with its mean score on validation over the tuning seeds; NaN where all diverged."""

    @property
    def at_edge(self) -> bool:
        """Whether the best rate ends the list, so that a better one may lie beyond it."""
        return self.lr in (self.val[0][0], self.val[-1][0])


@dataclass(frozen=True)
class Plan:
    """All that a spec asks for."""

    study: Study
    replicates: tuple[Replicate, ...]
    judgements: tuple[Judgement, ...]
    """One for each cell asked for, in order; invalid and excluded ones have no replicates."""
    designs: tuple[Designed, ...]
    """One for each policy that can run and scenario."""
    prerequisites: tuple[Prerequisite, ...]
    """What is trained once, before the replicates, in an order in which each finds what it needs."""
    candidates: tuple[Candidate, ...]
    """What is tried to choose learning rates; none where the spec tunes nothing."""
    choices: Mapping[str, Choice]
    """Learning rates chosen so far, by name of cell."""
    family: Family | None = None
    """The primary contrasts."""
    facts: Facts = field(default_factory=Facts, compare=False, repr=False)
    """What was found out for it."""

    @property
    def trainings(self) -> dict[str, Training]:
        """The distinct trainings of the replicates by digest, in order."""
        return {r.training.digest: r.training for r in self.replicates}

    @property
    def probed(self) -> list[tuple[str, str, Training]]:
        """What the probe of speed measures, if any: name, program and training of each cell, and of each teacher."""
        if self.study.spec.throughput is None:
            return []
        cells = [(cell.name, found.program, found.training) for cell, found in self.first.items()]
        teachers = {p.program: p for p in self.prerequisites if p.role == "teacher"}
        return cells + [(f"teacher {p.training.model.name}", program, p.at_seed_0) for program, p in teachers.items()]

    @property
    def programs(self) -> dict[Cell, str]:
        """The cells that run, in order, each with its program."""
        return {cell: replicate.program for cell, replicate in self.first.items()}

    @cached_property
    def first(self) -> dict[Cell, Replicate]:
        """The cells that run, in order, each with its first replicate."""
        found = {replicate.cell: replicate for replicate in reversed(self.replicates)}
        return dict(reversed(found.items()))


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
        harm = [found for found in judged if found]
        self.judgements.append(Judgement(cell, harm[0].verdict, harm[0].reason) if harm else Judgement(cell, "valid"))
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
