"""Tricks of the source task, and what of them is left in what begins with its network."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from harness import cli, specfile, transfer
from harness.contrasts import of_plan
from harness.effects import cells, effects
from harness.errors import HarnessError
from harness.findings import findings
from harness.planning import make_plan
from harness.plots.transfer import transfer as drawn
from harness.stats import two_way_t
from harness.summary import summarise
from harness.tasks.metrics import TOP1
from harness.tricks.cosine import CosineDecay
from harness.tricks.label_smoothing import Smoothing
from tests.grids import grid_from, plan_of

RECIPES = "axes={pretraining: {plain: {}, more: {weights.pretrain.tricks: [cosine]}}, weights.pretrain.seed: [0, 1]}"
LEVELS = [{"pretraining": recipe, "source_seed": seed} for recipe in ("plain", "more") for seed in "012"]


@pytest.fixture
def planned(write_spec, workspace):
    """A function that plans the tiny study, fully fine-tuned without tricks, with overrides."""
    fixed = ["policies=[full]", "tricks={}"]
    return lambda *overrides: make_plan(specfile.read(write_spec(), [*fixed, *overrides]), workspace)


def pretraining(plan):
    (found,) = (p for p in plan.prerequisites if p.role == "pretraining")
    return found


# The training of the source network.


def test_tricks_of_the_source_are_in_its_training_alone(planned):
    plan = planned("weights.pretrain.tricks={label_smoothing: {epsilon: 0.2}, cosine: }")
    source = pretraining(plan).training
    assert source.recipe.decay == CosineDecay()
    assert source.recipe.target_maps == (Smoothing(0.2),)
    targets = [replicate.training for replicate in plan.replicates]
    assert all(training.recipe.decay is None and not training.recipe.target_maps for training in targets)
    assert {training.origin.content for training in targets} == {source.digest}
    assert source.digest != pretraining(planned()).training.digest


def test_a_source_without_tricks_is_the_training_that_it_was(planned):
    assert pretraining(planned("weights.pretrain.tricks=[]")).training == pretraining(planned()).training


def test_rates_and_rules_of_the_source_end_where_those_of_a_cell_do(planned):
    plain, source = (
        pretraining(plan).training
        for plan in (planned(), planned("weights.pretrain.tricks=[linear_scaling, no_bias_decay]"))
    )
    assert source.train.lr == plain.train.lr * plain.train.batch_size / 256
    decays = {name: group.weight_decay for group in source.phases[0].groups for name in group.names}
    assert decays["conv1.weight"] == 1e-4
    assert decays["fc.bias"] == 0
    assert source.recipe == plain.recipe


def test_a_teacher_of_the_source_comes_before_it(planned):
    plan = planned("weights.pretrain.tricks={distillation: {teacher: {model: cifar_resnet20, epochs: 2}}}")
    teacher, source = plan.prerequisites
    assert [teacher.role, source.role] == ["source teacher", "pretraining"]
    assert teacher.training.model.name == "cifar_resnet20"
    assert teacher.training.train.epochs == 2
    assert teacher.training.data == source.training.data
    assert source.training.teacher.origin.content == teacher.training.digest
    assert all(replicate.training.teacher is None for replicate in plan.replicates)


def test_the_plan_tells_source_networks_apart_by_their_tricks(planned):
    told = [p["what"] for p in summarise(planned(RECIPES))["prerequisites"]]
    assert [", with cosine" in what for what in told] == [False, False, True, True]


@pytest.mark.parametrize(
    ("tricks", "said"),
    [
        ("[resnet_d]", "what edits the network is a trick of the study, or a setting of `model`"),
        ("{warmup: {epochs: 5}}", "warmup"),
        ("[cosin]", "cosin"),
        ("{cosine: {strength: 1}}", "strength"),
    ],
)
def test_tricks_that_a_source_cannot_have_are_refused_where_they_stand(planned, tricks, said):
    with pytest.raises(HarnessError, match=said) as error:
        planned(f"weights.pretrain.tricks={tricks}")
    assert "weights.pretrain.tricks" in str(error.value)


def test_a_source_task_has_images_with_one_class(planned):
    with pytest.raises(HarnessError, match="digit_scenes has boxes or masks"):
        planned("weights.pretrain.data={name: digit_scenes, image_size: 32}")


# One scenario against another.


def of_scenarios(plan):
    return [contrast for contrast in of_plan(summarise(plan)) if contrast.kind == "scenario"]


def test_scenarios_are_compared_where_their_test_images_are_the_same(planned):
    (found,) = of_scenarios(planned("axes={train.lr: [0.01, 0.02]}"))
    assert found.weights == {"full | baseline | lr 0.02": 1, "full | baseline | lr 0.01": -1}
    assert (found.against, found.scenario) == ("lr 0.01", "lr 0.02")
    (fewer,) = of_scenarios(planned("axes={data.train_per_class: [8, 9]}"))
    assert fewer.scenario == "train_per_class 9"
    assert not of_scenarios(planned("axes={data.shift: [[], [invert]]}"))
    assert not of_scenarios(planned("axes={data.split_seed: [0, 1]}"))


def test_source_networks_are_a_sample_and_not_compared(planned):
    assert not of_scenarios(planned("axes={weights.pretrain.seed: [0, 1]}"))
    assert [c.scenario for c in of_scenarios(planned(RECIPES))] == [
        f"pretraining more, source_seed {seed}" for seed in (0, 1)
    ]


# What the report makes of it.


@pytest.fixture
def transferred():
    """A grid of two recipes of three source networks each, and what it came out as [recipe, source, seed]."""
    drawn = np.random.default_rng(3).normal(0.5, 0.1, (2, 3, 4))
    plan = plan_of(["one_in"], "", ("full",), LEVELS, seeds=4)
    for cell in plan["cells"]:
        at = cell["levels"]
        cell |= {"tested_on": "digits", "source": f"{at['pretraining']} {at['source_seed']}"}
    order = {"plain": 0, "more": 1}
    grid = grid_from(plan, lambda _, at, __, seed: drawn[order[at["pretraining"]], int(at["source_seed"]), seed])
    first = [(cell["source"], 0.8 + 0.01 * i) for i, cell in enumerate(plan["cells"])]
    own = pd.DataFrame([{"digest": d, "what": "", "epochs": 1, TOP1.test: top1} for d, top1 in first])
    return replace(grid, prerequisites=own), drawn


def test_each_source_network_is_a_point(transferred):
    grid, drawn = transferred
    found = transfer.frame(grid, cells(grid.runs))
    assert list(found["scenario"]) == ["pretraining plain"] * 3 + ["pretraining more"] * 3
    assert list(found["source_top1"]) == pytest.approx([0.80, 0.81, 0.82, 0.83, 0.84, 0.85])
    assert list(found["score"]) == pytest.approx(drawn.mean(axis=2).ravel().tolist())


def test_differences_are_over_seeds_and_source_networks(transferred):
    grid, drawn = transferred
    found = transfer.frame(grid, cells(grid.runs))
    table = transfer.table(found, effects(grid), TOP1)
    assert table is not None
    wanted = two_way_t((drawn[1] - drawn[0]).T)
    assert list(table["source networks"]) == [3, 3]
    assert list(table["full: against the first, points"]) == ["–", f"{100 * wanted.estimate:+.1f}".replace("-", "−")]
    low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in (wanted.low, wanted.high))
    assert table["full: 95 % interval"].iloc[1] == f"{low} to {high}"


def test_the_figure_says_how_far_ranks_agree(transferred):
    grid, drawn_values = transferred
    found = transfer.frame(grid, cells(grid.runs))
    figure = drawn(found)
    assert figure is not None
    (panel,) = [axes for axes in figure.axes if axes.get_visible()]
    points = np.concatenate([np.asarray(line.get_xydata()) for line in panel.lines])
    assert points[:, 1].tolist() == pytest.approx((100 * drawn_values.mean(axis=2)).ravel().tolist())
    ranks = float(pd.DataFrame(points).rank().corr().to_numpy()[0, 1])
    assert f"{ranks:+.2f}".replace("-", "−") in panel.texts[0].get_text()
    plt.close("all")


def test_one_source_network_for_all_shows_nothing(transferred):
    grid, _ = transferred
    for cell in grid.plan["cells"]:
        cell["source"] = "plain 0"
    found = transfer.frame(grid, cells(grid.runs))
    assert found.empty
    assert transfer.table(found, effects(grid), TOP1) is None
    assert drawn(found) is None


def test_a_study_of_recipes_of_the_source_runs_to_its_report(write_spec, workspace):
    path = write_spec(("policies: [full, head]", "policies: [full]"), ("tricks: {warmup: {epochs: 1}, mixup: }", ""))
    path.write_text(path.read_text() + RECIPES.replace("axes=", "axes: ", 1) + "\n")
    assert cli.main(["run", str(path), "--inline"]) == 0
    report = (workspace.root / "results" / "tiny" / "report.md").read_text()
    assert "## Source networks" in report
    assert "Over source networks, under full against pretraining plain: pretraining more" in report


def test_a_reference_of_each_axis_has_its_own_sentence():
    levels = [{"lr": lr, **level} for lr in ("0.1", "0.2") for level in LEVELS]
    plan = plan_of(["one_in"], "", ("full",), levels, seeds=4)
    for cell in plan["cells"]:
        cell["tested_on"] = "digits"
    drawn = np.random.default_rng(3).normal(0.5, 0.1, (len(levels), 4))
    grid = grid_from(plan, lambda _, at, __, seed: drawn[levels.index(dict(at)), seed])
    said = [s for s in findings(cells(grid.runs), effects(grid), 4) if s.startswith("Over source networks")]
    assert sorted(s.split(": ")[0].split("against ")[1] for s in said) == [
        "lr 0.1, pretraining more",
        "lr 0.1, pretraining plain",
        "lr 0.2, pretraining plain",
    ]


def test_ranks_are_told_of_networks_that_stand_once(transferred):
    grid, _ = transferred
    found = transfer.frame(grid, cells(grid.runs))
    for few in (found.iloc[:4], found.assign(source="one network")):
        figure = drawn(few)
        assert figure is not None
        assert not [text for axes in figure.axes for text in axes.texts]
    plt.close("all")


def test_a_scenario_may_be_what_a_study_is_made_to_judge(planned):
    plan = planned("axes={train.lr: [0.01, 0.02]}", "primary={contrasts: [{kind: scenario, policy: full}], sd: 0.02}")
    assert plan.family is not None
    assert [member["scenario"] for member in plan.family.members] == ["lr 0.02"]
