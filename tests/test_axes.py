"""Axes: names of scenarios and cells, the settings they make, what is refused, and effects within each scenario."""

import numpy as np
import pandas as pd
import pytest

from harness import histories, specfile
from harness.budget import frontier
from harness.effects import COLUMNS, cells, effects
from harness.errors import HarnessError
from harness.foreign import grid_of
from harness.planning import make_plan
from harness.pooling import over_data
from harness.results import axes_of, runs_frame
from harness.spec.axes import Axes, check, name_of, scenarios
from harness.spec.study import RESERVED_OF_AXES
from harness.summary import summarise
from tests.grids import grid_from, plan_of
from tests.samples import VERSIONS, fake_run


@pytest.fixture
def write_axes(write_spec):
    """A function that writes the tiny spec, one policy without tricks, with axes on line 13, and returns its path."""

    def write(axes, *replacements):
        return write_spec(
            ("[full, head]", "[full]"),
            ("tricks: {warmup: {epochs: 1}, mixup: }", "tricks: []"),
            ("seeds: 2", f"seeds: 2\naxes: {axes}"),
            *replacements,
        )

    return write


@pytest.fixture
def planned(write_axes, workspace):
    """A function that plans the tiny spec with axes."""
    return lambda axes, *overrides: make_plan(specfile.read(write_axes(axes), overrides), workspace)


@pytest.fixture
def refused(write_axes, workspace):
    """A function that returns why a spec with such axes is refused, and checks that the line of the axes is named."""

    def reason(axes, *replacements):
        path = write_axes(axes, *replacements)
        with pytest.raises(HarnessError) as error:
            make_plan(specfile.read(path), workspace)
        assert str(error.value).startswith(f"{path}:13: axes"), error.value
        return str(error.value)

    return reason


def cell_names(plan):
    return [cell.name for cell in plan.programs]


# Names and combinations.


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("train.lr", "lr"),
        ("train.weight_decay", "weight_decay"),
        ("train.optimizer", "optimizer"),
        ("train.optimizer.name", "optimizer"),
        ("model.name", "model"),
        ("data.shift", "shift"),
        ("data.name", "data"),
        ("weights", "weights"),
        ("weights.pretrain.seed", "source_seed"),
        ("weights.pretrain.data.name", "source_data"),
        ("weights.pretrain.train.epochs", "source_epochs"),
    ],
)
def test_an_axis_is_called_by_its_setting(key, name):
    assert name_of(key) == name


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0.1, 1e-4, 3], ["0.1", "0.0001", "3"]),
        (["cifar_resnet8", "resnet18"], ["cifar_resnet8", "resnet18"]),
        ([[], ["invert"], ["invert", "rotate90"]], ["none", "invert", "invert+rotate90"]),
        ([None, 8], ["none", "8"]),
        ([True, False], ["true", "false"]),
        ([{"name": "SGD"}, {"name": "SGD", "options": {"momentum": 0.5}}], ["SGD", "SGD 0.5"]),
    ],
)
def test_levels_read_as_a_person_writes_them(values, levels):
    assert [made for ((_, made),), _ in scenarios({"train.lr": values})] == levels


def test_scenarios_are_the_product_in_the_order_of_the_spec():
    found = scenarios(
        {
            "train.lr": [0.1, 0.2],
            "length": {"short": {"train.epochs": 1}, "long": {"train.epochs": 9, "train.augment.flip": True}},
        }
    )
    assert list(found) == [
        ((("lr", "0.1"), ("length", "short")), {"train.lr": 0.1, "train.epochs": 1}),
        ((("lr", "0.1"), ("length", "long")), {"train.lr": 0.1, "train.epochs": 9, "train.augment.flip": True}),
        ((("lr", "0.2"), ("length", "short")), {"train.lr": 0.2, "train.epochs": 1}),
        ((("lr", "0.2"), ("length", "long")), {"train.lr": 0.2, "train.epochs": 9, "train.augment.flip": True}),
    ]


def test_no_axis_is_one_scenario_without_a_name():
    assert list(scenarios({})) == [((), {})]


def test_cells_are_named_by_their_scenario(planned):
    plan = planned("{data.shift: [[], [invert]], length: {short: {train.epochs: 1}, long: {train.epochs: 3}}}")
    assert cell_names(plan) == [
        f"full | baseline | shift {shift}, length {length}"
        for shift in ("none", "invert")
        for length in ("short", "long")
    ]
    assert [cell.trick_set for cell in plan.programs] == ["baseline"] * 4
    assert len(plan.replicates) == 4 * 2
    assert {j.cell.levels for j in plan.judgements} == {cell.levels for cell in plan.programs}


def test_a_study_without_axes_names_its_cells_as_ever(plan):
    assert cell_names(plan)[:2] == ["full | baseline", "full | warmup"]
    assert {cell.levels for cell in plan.programs} == {()}


# What each axis reaches.

TARGET = [
    ("train.lr", "[0.01, 0.02]", lambda t: t.train.lr, [0.01, 0.02]),
    ("train.weight_decay", "[0, 0.01]", lambda t: t.phases[0].groups[0].weight_decay, [0, 0.01]),
    ("train.epochs", "[1, 3]", lambda t: t.train.epochs, [1, 3]),
    ("train.batch_size", "[4, 12]", lambda t: t.train.batch_size, [4, 12]),
    ("train.optimizer", "[SGD, AdamW]", lambda t: t.train.optimizer.name, ["SGD", "AdamW"]),
    ("train.optimizer.name", "[SGD, RMSprop]", lambda t: t.train.optimizer.name, ["SGD", "RMSprop"]),
    ("data.train_per_class", "[9, 10]", lambda t: t.data.train_per_class, [9, 10]),
    ("data.shift", "[[], [invert, rotate90]]", lambda t: t.data.shift, [(), ("invert", "rotate90")]),
    ("data.image_size", "[8, 16]", lambda t: t.data.image_size, [8, 16]),
    ("model.name", "[cifar_resnet8, cifar_resnet20]", lambda t: t.model.name, ["cifar_resnet8", "cifar_resnet20"]),
    ("weights", "[null, {pretrain: SOURCE}]", lambda t: t.origin is None, [True, False]),
]
SOURCE = '{data: {name: digits, classes: ["0", "1"], image_size: 8}, train: {epochs: 1, batch_size: 8, lr: 0.05}}'


@pytest.mark.parametrize(("key", "values", "read", "expected"), TARGET, ids=[key for key, *_ in TARGET])
def test_a_level_reaches_its_training_and_no_other(planned, key, values, read, expected):
    plan = planned(f"{{{key}: {values.replace('SOURCE', SOURCE)}}}")
    by_cell = {cell: [r for r in plan.replicates if r.cell == cell] for cell in plan.programs}
    assert [{read(r.training) for r in found} for found in by_cell.values()] == [{value} for value in expected]
    assert len(plan.trainings) == len(plan.replicates) == 2 * 2
    assert {j.verdict for j in plan.judgements} == {"valid"}


def test_source_seeds_are_a_pretraining_each(planned):
    plan = planned("{weights.pretrain.seed: [0, 1]}")
    assert cell_names(plan) == [f"full | baseline | source_seed {seed}" for seed in (0, 1)]
    sources = {p.training.digest: p.training.seed for p in plan.prerequisites}
    assert list(sources.values()) == [0, 1]
    assert [sources[r.training.origin.content] for r in plan.replicates] == [0, 0, 1, 1]
    assert len(plan.trainings) == 4


def test_a_model_is_pretrained_once_for_all_scenarios_that_share_it(planned):
    plan = planned("{model.name: [cifar_resnet8, cifar_resnet20], train.lr: [0.01, 0.02]}")
    assert [p.training.model.name for p in plan.prerequisites] == ["cifar_resnet8", "cifar_resnet20"]
    assert {r.training.model for r in plan.replicates if r.training.origin == plan.replicates[0].training.origin} == {
        plan.prerequisites[0].training.model
    }


def test_a_level_that_changes_no_number_is_a_noop(planned):
    plan = planned("{data.workers: [0, 1]}")
    (noop,) = [j for j in plan.judgements if j.verdict == "noop"]
    assert noop.cell.name == "full | baseline | workers 1"
    assert "'full | baseline | workers 0'" in noop.reason
    assert (len(plan.replicates), len(plan.trainings)) == (4, 2)


def test_a_policy_that_one_model_cannot_have_is_judged_there_alone(planned):
    plan = planned("{model.name: [cifar_resnet8, resnet18]}", "policies=[full, last_3_stages, last_3_fc]")
    invalid = {j.cell.name for j in plan.judgements if j.verdict == "invalid"}
    assert invalid == {f"last_3_fc | baseline | model {model}" for model in ("cifar_resnet8", "resnet18")}
    assert len(plan.programs) == 4


def test_a_level_is_written_into_a_section_that_the_spec_leaves_out(planned):
    plan = planned("{train.decay.factor: [0.1, 0.5]}")
    assert [r.training.train.decay.factor for r in plan.replicates] == [0.1, 0.1, 0.5, 0.5]


def test_paths_of_levels_are_relative_to_the_spec(planned, workspace):
    for name in ("a", "b"):
        (workspace.root / "experiments" / f"{name}.pt").write_bytes(name.encode())
    plan = planned("{weights.checkpoint: [a.pt, b.pt]}", "weights={checkpoint: a.pt}")
    origins = [r.training.origin.path for r in plan.replicates]
    assert origins == [str(workspace.root / "experiments" / f"{name}.pt") for name in "aabb"]


# What is refused, each with its line.


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ("{trian.lr: [0.1, 0.2]}", ["'trian.lr' cannot vary", "model, weights, data, train", "train.lr"]),
        ("{seeds: [1, 2]}", ["'seeds' cannot vary"]),
        ("{mine: {one: {policies: [full]}, two: {policies: [head]}}}", ["'policies' cannot vary"]),
        ("{train.lr: [0.1, 0.1]}", ["levels that differ", "'0.1'"]),
        ("{train.lr: []}", ["levels that differ"]),
        ("{data.shift: [[], null]}", ["levels that differ", "'none'"]),
        ("{data.seed: [1], weights.seed: [2]}", ["named alike: seed, seed"]),
        ("{train.lr: [0.1], lr: {one: {train.epochs: 1}}}", ["named alike: lr, lr"]),
        ("{train.lr: [0.1, 0.2], how: {one: {train.lr: 0.3}}}", ["'train.lr' and 'how' both set train.lr"]),
        (
            "{train.optimizer.name: [SGD], how: {one: {train.optimizer: AdamW}}}",
            ["'train.optimizer.name' and 'how' both set train.optimizer.name"],
        ),
        ("{how: {'a | b': {train.lr: 0.1}, c: {train.lr: 0.2}}}", ["'a | b' cannot name a level"]),
        ("{how: {'': {train.lr: 0.1}, c: {train.lr: 0.2}}}", ["'' cannot name a level"]),
        ("{data.split_seed.seed: [1, 2]}", ["'seed' names a column already"]),
        ("{'a b': {c: {train.lr: 0.1}}}", ["'a b' cannot name"]),
        ("{train.lr: [0.1, -1]}", ["with lr = -1", "train.lr", "greater than 0"]),
        ("{train.lrr: [0.1, 1]}", ["with lrr = 0.1", "unknown key 'lrr'", "weight_decay"]),
        ("{model.name: [cifar_resnet8, cifar_resnet9]}", ["with model = cifar_resnet9", "unknown model"]),
        ("{train.epochs.x: [1, 2]}", ["'epochs' is no section, but 2"]),
        ("{train.batch_size: [8, 25]}", ["with batch_size = 25", "25 is more than the 24 training images"]),
        ("{data.image_size: [8, 16], train.augment.crop_padding: [1, 9]}", ["with image_size = 8, crop_padding = 9"]),
    ],
)
def test_what_cannot_be_an_axis_is_refused_with_its_line(refused, axes, words):
    message = refused(axes)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "name", ["policy", "status", "test_top1", "train_s", "kind", "metric", "step", "layer", "low", "scenario", "gain"]
)
def test_an_axis_cannot_take_the_name_of_a_column(refused, name):
    assert f"{name!r} names a column already" in refused(f"{{{name}: {{a: {{train.lr: 0.1}}, b: {{train.lr: 1}}}}}}")


def test_an_axis_cannot_take_the_name_of_a_trick(refused):
    tricks = ("tricks: []", "tricks: [mixup]")
    assert "'mixup' names a column already" in refused("{mixup: {a: {train.lr: 0.1}}}", tricks)


def test_every_column_of_a_table_with_axes_is_reserved():
    """The table of effects has its scenario in words, not an axis a column."""
    others = {"cell", "policy", "seed"}
    grid = grid_from(
        plan_of(["one_in"], "a", levels=[{"data": "x"}, {"data": "y"}]),
        lambda _, levels, tricks, seed: 0.1 * (seed + 2 * len(tricks)) + 0.01 * (levels["data"] == "x"),
    )
    pooled = over_data(grid.runs, np.random.default_rng(0))
    best = frontier(cells(grid.runs).assign(train_s=1.0))
    made = {*pooled.columns, *best.columns} - {"data", "a"}
    assert {*made, *histories.CURVE_TYPES, *histories.FIGURE_COLUMNS, *others} <= RESERVED_OF_AXES


def test_params_may_vary(planned):
    """They are columns of no table but params of runs, which an axis of the same name then says."""
    assert len(planned("{how: {a: {train.lr: 0.1}}, train.epochs: [1, 2]}").programs) == 2


def test_the_learning_rate_does_not_vary_where_it_is_chosen(write_axes):
    path = write_axes("{train.lr: [0.1, 0.2]}\ntune: {lr: [0.1, 0.2]}")
    with pytest.raises(HarnessError, match=r"tiny.yaml:14: tune: .* train\.lr can be no axis"):
        specfile.read(path)


def test_check_returns_what_it_was_given():
    axes: Axes = {"train.lr": [0.1, 0.2], "length": {"short": {"train.epochs": 1}, "long": {"train.epochs": 2}}}
    assert check(axes) is axes


def test_axes_are_part_of_the_grids_identity(write_axes):
    grids = [specfile.read(write_axes(axes)).grid for axes in ("{train.lr: [0.1]}", "{train.lr: [0.2]}", "{}")]
    assert len(set(grids)) == 3


# Frames.


def frames(plan, top1):
    """Return the frames of a plan whose replicates all finished, with test top-1 by cell and seed."""
    planned = summarise(plan) | {"versions": VERSIONS}
    runs = [
        fake_run(r.cell.name, r.seed, tags={"harness.digest": r.training.digest}, test_top1=top1(r), val_top1=0.5)
        for r in plan.replicates
    ]
    found = runs_frame(planned, runs)
    return found, cells(found), effects(grid_of(found))


def test_effects_are_paired_within_their_scenario(planned):
    plan = planned("{train.lr: [0.1, 0.2]}", "tricks={cosine: }", "policies=[full, head]")
    base = {"0.1": 0.2, "0.2": 0.6}
    gain = {("0.1", "full"): 0.01, ("0.2", "full"): 0.02, ("0.1", "head"): 0.03, ("0.2", "head"): 0.04}

    def top1(replicate):
        lr, policy = dict(replicate.cell.levels)["lr"], replicate.cell.policy
        own = base[lr] - (0.1 if policy == "head" else 0) + 0.001 * replicate.seed
        return own + (gain[lr, policy] * (1 + replicate.seed) if replicate.cell.tricks else 0)

    runs, table, found = frames(plan, top1)
    assert axes_of(runs) == axes_of(table) == ["lr"]
    assert axes_of(found) == []
    assert list(runs.columns[:3]) == ["lr", "policy", "cosine"]
    assert list(table.columns[:3]) == ["cell", "lr", "policy"]
    assert list(found.columns) == [*COLUMNS]
    top = found[found["metric"] == "test_top1"]
    tricks = {(r["scenario"], r["policy"]): r["estimate"] for r in top[top["kind"] == "one_in"].to_dict("records")}
    assert tricks == {(f"lr {lr}", policy): pytest.approx(1.5 * value) for (lr, policy), value in gain.items()}
    policies = top[top["kind"] == "policy"].to_dict("records")
    assert [(r["scenario"], r["policy"], round(r["estimate"], 9)) for r in policies] == [
        ("lr 0.1", "head", -0.1),
        ("lr 0.2", "head", -0.1),
    ]
    crossed = top[top["kind"] == "interaction"].to_dict("records")
    assert [(r["scenario"], r["policy"], r["against"], round(r["estimate"] / 1.5, 9)) for r in crossed] == [
        ("lr 0.1", "head", "full", 0.02),
        ("lr 0.2", "full", "lr 0.1", 0.01),
        ("lr 0.2", "head", "full", 0.02),
        ("lr 0.2", "head", "lr 0.1", 0.01),
    ]
    assert (top["n"] == 2).all()


def test_frames_without_axes_have_no_other_columns(plan):
    runs, table, found = frames(plan, lambda replicate: 0.5 + 0.1 * replicate.seed)
    assert list(runs.columns[:5]) == ["policy", "warmup", "mixup", "seed", "cell"]
    assert list(table.columns[:4]) == ["cell", "policy", "warmup", "mixup"]
    assert list(found.columns) == [*COLUMNS]
    assert axes_of(runs) == axes_of(table) == axes_of(found) == []


def test_a_plan_kept_before_there_were_axes_is_read_as_ever(plan):
    planned = summarise(plan) | {"versions": VERSIONS}
    old = {key: value for key, value in planned.items() if key != "axes"}
    old["cells"] = [{key: value for key, value in cell.items() if key != "levels"} for cell in planned["cells"]]
    pd.testing.assert_frame_equal(runs_frame(old, []), runs_frame(planned, []))
