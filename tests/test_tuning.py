"""Tuning: which rate is chosen, on which trainings, and what the grid makes of it."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from harness import specfile
from harness.errors import HarnessError
from harness.plan import Cell, Choice
from harness.planning import make_plan
from harness.summary import summarise
from harness.tuning import choose

TUNE = "tune={lr: [0.01, 0.05, 0.2], seeds: 2}"
NAN = math.nan


@pytest.fixture
def planned(write_spec, workspace):
    """A function that plans the tiny study with overrides and choices."""

    def plan(*overrides, choices=None):
        return make_plan(specfile.read(write_spec(), overrides), workspace, choices)

    return plan


def chosen(by_rate, cell="full | baseline"):
    """Return the choice for a cell whose candidates had these validation top-1, by rate and in order of seeds."""
    policy, _, tricks = cell.partition(" | ")
    named = Cell(policy, () if tricks == "baseline" else (tricks,), ("warmup", "mixup"))
    candidates: list[Any] = []
    top1: dict[str, float] = {}
    for lr, values in by_rate.items():
        for seed, value in enumerate(values):
            digest = f"{cell} {lr} {seed}"
            candidates.append(SimpleNamespace(cell=named, lr=lr, training=SimpleNamespace(digest=digest)))
            top1[digest] = value
    (choice,) = choose(candidates, top1).items()
    assert choice[0] == cell
    return choice[1]


# The choice.


def test_the_highest_mean_is_chosen():
    choice = chosen({0.01: [0.5, 0.6], 0.1: [0.9, 0.3], 1.0: [0.4, 0.6]})
    assert choice.lr == 0.1
    assert choice.val == ((0.01, pytest.approx(0.55)), (0.1, pytest.approx(0.6)), (1.0, 0.5))
    assert not choice.at_edge


def test_of_two_alike_the_lower_rate_is_chosen():
    choice = chosen({0.1: [0.25, 0.75], 0.01: [0.5, 0.5], 1.0: [0.1, 0.1]})
    assert (choice.lr, choice.at_edge) == (0.01, True)
    assert [lr for lr, _ in choice.val] == [0.01, 0.1, 1.0]
    assert chosen({0.01: [0.1], 0.1: [0.5], 1.0: [0.5], 2.0: [0.1]}).lr == 0.1


def test_a_rate_that_diverged_once_is_not_chosen():
    assert chosen({0.01: [0.2, 0.2], 0.1: [0.3, 0.3], 1.0: [0.9, NAN]}).lr == 0.1
    assert chosen({0.01: [NAN, 0.9], 0.1: [NAN, NAN], 1.0: [0.0, 0.0]}).lr == 1.0


def test_where_all_diverged_the_lowest_is_chosen_and_says_so():
    choice = chosen({0.01: [NAN, 0.5], 0.1: [0.5, NAN], 1.0: [NAN, NAN]})
    assert (choice.lr, choice.at_edge) == (0.01, True)
    assert all(math.isnan(mean) for _, mean in choice.val)


@pytest.mark.parametrize(("best", "edge"), [(0.01, True), (0.05, False), (0.1, False), (1.0, True)])
def test_a_choice_at_the_end_of_the_list_is_flagged(best, edge):
    choice = chosen({lr: [0.5 + (lr == best)] for lr in (0.01, 0.05, 0.1, 1.0)})
    assert (choice.lr, choice.at_edge) == (best, edge)


def test_each_cell_has_a_choice_of_its_own(planned):
    plan = planned(TUNE)
    best = {cell.name: rate for cell, rate in zip(plan.programs, [0.01, 0.05, 0.2] * 2, strict=True)}
    top1 = {c.training.digest: 0.5 + (c.lr == best[c.cell.name]) for c in plan.candidates}
    assert {cell: choice.lr for cell, choice in choose(plan.candidates, top1).items()} == best


# The candidates.


def test_every_cell_has_the_same_budget(planned):
    plan = planned(TUNE)
    tried = {cell: [(c.lr, c.seed) for c in plan.candidates if c.cell == cell] for cell in plan.programs}
    grid = [(lr, seed) for lr in (0.01, 0.05, 0.2) for seed in (1_000_000, 1_000_001)]
    assert tried == dict.fromkeys(plan.programs, grid)
    assert len({c.training.digest for c in plan.candidates}) == 6 * 6


def test_a_candidate_is_its_cells_training_but_for_rate_and_seed(planned):
    plan = planned("tune={lr: [0.01, 0.05], seeds: [7]}")
    for candidate in plan.candidates:
        own = next(r.training for r in plan.replicates if r.cell == candidate.cell)
        assert (candidate.training.train.lr, candidate.training.seed) == (candidate.lr, 7)
        assert candidate.training.phases == own.phases
        assert candidate.training.recipe == own.recipe
        assert candidate.training.train.model_copy(update={"lr": own.train.lr}) == own.train


def test_candidates_are_no_replicates(planned):
    plan = planned(TUNE)
    assert not {c.training.digest for c in plan.candidates} & set(plan.trainings)
    assert {r.seed for r in plan.replicates} == {0, 1}


def test_cells_that_are_one_training_are_tried_once(planned):
    plan = planned(TUNE, "train.weight_decay=0", "tricks=[no_bias_decay]", "policies=[full]")
    assert len(plan.candidates) == 2 * 6
    assert len({c.training.digest for c in plan.candidates}) == 6
    assert summarise(plan)["candidates"] == 6


def test_a_solver_has_no_rate_to_choose(planned):
    plan = planned(TUNE, "policies=[head, svm_codes]", "tricks={}")
    assert {c.cell.policy for c in plan.candidates} == {"head"}


def test_rates_are_tried_as_the_batch_scales_them(planned):
    plan = planned("tune={lr: [0.01, 0.05], seeds: [7]}", "tricks={s: {trick: linear_scaling, reference: 16}}")
    rates = [(c.lr, c.training.train.lr) for c in plan.candidates if c.cell.name == "full | s"]
    assert rates == [(0.01, 0.005), (0.05, 0.025)]


def test_teachers_of_candidates_are_made_first_too(planned):
    """Each tuning seed draws training images of its own."""
    plan = planned("tune={lr: [0.01, 0.05], seeds: [7]}", "tricks=[distillation]")
    made = {p.training.digest: p.training.seed for p in plan.prerequisites if p.role == "teacher"}
    assert sorted(made.values()) == [0, 1, 7]
    taught = [c.training for c in plan.candidates if c.cell.tricks]
    assert {made[training.teacher.origin.content] for training in taught} == {7}


# The grid with its choices.


def test_the_chosen_rate_serves_all_seeds_of_its_cell(planned):
    rates = {"full | baseline": 0.01, "full | mixup": 0.2}
    choices = {cell: Choice(lr, ((0.01, 0.5), (lr, 0.6))) for cell, lr in rates.items()}
    plan = planned(TUNE, choices=choices)
    by_cell = {cell.name: {r.training.train.lr for r in plan.replicates if r.cell == cell} for cell in plan.programs}
    assert by_cell == {cell.name: {rates.get(cell.name, 0.05)} for cell in plan.programs}
    assert [c.training for c in plan.candidates] == [c.training for c in planned(TUNE).candidates]


def test_the_plan_keeps_what_was_chosen_and_by_what(planned):
    choice = Choice(0.2, ((0.05, 0.5), (0.2, 0.6)))
    kept = summarise(planned(TUNE, choices={"full | mixup": choice}))["tuning"]["full | mixup"]
    assert (kept["lr"], kept["at_edge"]) == (0.2, True)
    assert [tuple(pair) for pair in kept["val_top1"]] == [(0.05, 0.5), (0.2, 0.6)]


def test_nothing_is_tried_where_nothing_is_tuned(plan):
    assert plan.candidates == ()
    assert plan.choices == {}


def test_a_study_that_tunes_is_another_grid(write_spec):
    path = write_spec(("seeds: 2", "seeds: 2\ntune: {lr: [0.01, 0.05]}"))
    grids = {specfile.read(path, given).grid for given in ([], ["tune=null"], ["tune.seeds=3"], ["tune.lr=[1, 2]"])}
    assert len(grids) == 4


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        ("{lr: [0.01, 0.05], seeds: [1, 5]}", ["flatters", "[1]"]),
        ("{lr: [0.05, 0.01]}", ["ascending"]),
        ("{lr: [0.05, 0.05]}", ["each once"]),
        ("{lr: [0.05]}", ["at least 2"]),
        ("{lr: [0, 0.05]}", ["greater than 0"]),
        ("{lr: [0.01, 0.05], seeds: [5, 5]}", ["named twice"]),
        ("{lr: [0.01, 0.05], seeds: 0}", ["at least 1"]),
        ("{lr: [0.01, 0.05], seeds: -1}", ["at least 1"]),
        ("{rates: [0.01, 0.05]}", ["'rates'", "lr, seeds"]),
    ],
)
def test_a_tuning_that_means_nothing_is_refused_with_its_line(write_spec, tune, words):
    path = write_spec(("seeds: 2", f"seeds: 2\ntune: {tune}"))
    with pytest.raises(HarnessError) as error:
        specfile.read(path)
    assert str(error.value).startswith(f"{path}:13: tune")
    for word in words:
        assert word in str(error.value)


def test_seeds_of_tuning_are_by_default_outside_any_study(write_spec):
    path = write_spec(("seeds: 2", "seeds: 10000\ntune: {lr: [0.01, 0.05]}"))
    tune = specfile.read(path).spec.tune
    assert tune
    assert tune.seeds == (1_000_000, 1_000_001)
