"""What the trainings of a scenario are made of: effective recipes, edits of both networks, teachers."""

import shutil
from pathlib import Path

import pytest
import torch

from harness import specfile
from harness.errors import HarnessError
from harness.ground import Ground
from harness.models.build import build_model
from harness.planning import make_plan
from harness.prepare import prepare
from harness.recipe import Recipe
from harness.spec import Model
from harness.tricks.zero_gamma import ZeroGammaTrick

MINI = "model={name: mini_resnet14, variant: a}"
ALL_IMAGES = 'data={name: digits, classes: ["5", "6", "7"], image_size: 8}'
"""The target's data with the same training images for every seed."""


@pytest.fixture
def planned(write_spec, workspace):
    """A function that plans the tiny study, fully fine-tuned, with overrides."""
    return lambda *overrides: make_plan(specfile.read(write_spec(), ["policies=[full]", *overrides]), workspace)


@pytest.fixture
def refused(planned):
    """A function that returns why the tiny study with overrides cannot be planned."""

    def reason(*overrides):
        with pytest.raises(HarnessError) as error:
            planned(*overrides)
        return str(error.value)

    return reason


@pytest.fixture
def checkpoint(workspace):
    """A function that saves a model of so many classes beside the spec."""

    def save(model, classes, name="teacher.pt"):
        path = workspace.root / "experiments" / name
        torch.save(build_model(Model(name=model), classes, seed=0).state_dict(), path)
        return path

    return save


def training(plan, tricks="baseline", seed=0):
    return next(r.training for r in plan.replicates if r.cell.trick_set == tricks and r.seed == seed)


def of_role(plan, role):
    return [p for p in plan.prerequisites if p.role == role]


# The effective training.


def test_linear_scaling_ends_in_the_learning_rate(planned):
    plan = planned("tricks={linear_scaling: , half: {trick: linear_scaling, reference: 16}}")
    assert training(plan, "linear_scaling").train.lr == 0.05 * 8 / 256
    assert training(plan, "half").train.lr == 0.05 * 8 / 16
    assert training(plan, "half").recipe == Recipe()


def test_a_rate_scaled_is_the_training_at_that_rate(planned):
    scaled = training(planned("tricks={half: {trick: linear_scaling, reference: 16}}"), "half")
    assert scaled.digest == training(planned("train.lr=0.025")).digest
    assert scaled.digest != training(planned()).digest


def test_rates_of_two_scenarios_are_scaled_alike(planned):
    plan = planned("tricks={half: {trick: linear_scaling, reference: 16}}", "axes={train.batch_size: [8, 24]}")
    assert [r.training.train.lr for r in plan.replicates if r.cell.tricks] == [
        0.05 * (size / 16) for size in (8, 8, 24, 24)
    ]


def test_rules_of_parameters_end_in_the_phases(planned):
    made = training(planned("tricks=[no_bias_decay]"), "no_bias_decay")
    assert made.recipe == Recipe()
    decays = {name: group.weight_decay for group in made.phases[0].groups for name in group.names}
    assert decays["conv1.weight"] == decays["fc.weight"] == 1e-4
    assert decays["fc.bias"] == decays["bn1.weight"] == decays["bn1.bias"] == 0


# Edits of the source's network, the target's, or both.


@pytest.mark.parametrize(
    ("where", "source", "target"), [("source", True, False), ("target", False, True), ("both", True, True)]
)
def test_a_surgery_reaches_the_networks_it_is_meant_for(planned, where, source, target):
    plan = planned(MINI, f"tricks={{resnet_d: {{where: {where}}}}}")
    base, edited = training(plan), training(plan, "resnet_d")
    made = {p.training.digest: p.training for p in plan.prerequisites}
    assert made[base.origin.content].model.avg_down is base.model.avg_down is False
    assert made[edited.origin.content].model.avg_down is source
    assert edited.model.avg_down is target
    assert len(made) == 1 + source
    assert edited.recipe == Recipe()


@pytest.mark.parametrize(
    ("where", "source", "target"), [("source", True, False), ("target", False, True), ("both", True, True)]
)
def test_an_init_reaches_the_networks_it_is_meant_for(planned, where, source, target):
    plan = planned(f"tricks={{zero_gamma: {{where: {where}}}}}", "destructive=run")
    made = {p.training.digest: p.training for p in plan.prerequisites}
    edited = training(plan, "zero_gamma")
    assert bool(made[edited.origin.content].recipe.inits) is source
    assert bool(edited.recipe.inits) is target
    assert not training(plan).recipe.inits
    assert not made[training(plan).origin.content].recipe.inits


def test_an_init_of_the_target_is_none_of_the_source_that_it_asks_for_first(write_spec, workspace):
    study = specfile.read(write_spec())
    ground = Ground(study, study.scenarios[0], workspace)
    ground.trainings(study.spec.policy("full"), ZeroGammaTrick("target")(Recipe()), [0])
    (source,) = ground.prerequisites.values()
    assert source.training.recipe == Recipe()


def test_edits_of_the_source_are_nothing_to_weights_that_are_there(planned, checkpoint):
    checkpoint("mini_resnet14", 10, "net.pt")
    plan = planned(MINI, "weights={checkpoint: net.pt}", "tricks={resnet_d: {where: source}}")
    assert plan.prerequisites == ()
    assert {j.verdict for j in plan.judgements if j.cell.tricks} == {"noop"}


def test_every_pretraining_is_made_once(planned):
    plan = planned(MINI, "tricks=[resnet_b, resnet_d, cosine]", "designs=[one_in, all]", "policies=[full, head]")
    assert [(p.training.model.variant, p.training.model.avg_down) for p in plan.prerequisites] == [
        ("a", False),
        ("b", False),
        ("a", True),
        ("b", True),
    ]


# Images.


def test_source_images_that_the_network_cannot_take_are_told_where_they_are_written(refused):
    message = refused("model.name=vgg16", "data.image_size=32")
    assert "tiny.yaml:5: weights.pretrain.data.image_size: vgg16 cannot be trained on images of 8 pixels" in message


def test_target_images_that_the_network_cannot_take_are_told_with_their_scenario(refused):
    override = "axes={data.image_size: [32, 8]}"
    message = refused("model.name=vgg16", "weights=null", override)
    assert message.startswith(f"--set {override}: with image_size = 8: ")
    assert "vgg16 cannot be trained on images of 8 pixels" in message


# Teachers.


def test_seeds_that_draw_their_images_have_a_teacher_each(planned):
    """One that had seen other images would tell what it knows of them."""
    plan = planned("tricks=[distillation]")
    teachers = {p.training.digest: p.training.seed for p in of_role(plan, "teacher")}
    assert list(teachers.values()) == [0, 1]
    for seed in (0, 1):
        assert teachers[training(plan, "distillation", seed).teacher.origin.content] == seed


def test_seeds_that_share_their_images_share_the_teacher(planned):
    plan = planned("tricks=[distillation]", ALL_IMAGES)
    (teacher,) = of_role(plan, "teacher")
    assert teacher.training.seed == 0
    contents = {training(plan, "distillation", seed).teacher.origin.content for seed in (0, 1)}
    assert contents == {teacher.training.digest}


def test_a_teacher_is_the_full_fine_tuning_without_tricks(planned):
    """So where the study has that cell, its digest is that of the baseline."""
    plan = planned("tricks={distillation: , mixup: }", "designs=[one_in, all]")
    teachers = [p.training for p in of_role(plan, "teacher")]
    assert [t.digest for t in teachers] == [training(plan, seed=seed).digest for seed in (0, 1)]
    assert all(Path(t.save_to).name.startswith(t.digest) for t in teachers)


def test_pretraining_comes_before_the_teachers_that_need_it(planned):
    plan = planned(MINI, "tricks=[distillation, resnet_d]", "designs=[one_in, all]")
    assert [p.role for p in plan.prerequisites] == ["pretraining", "pretraining", "teacher", "teacher"]
    assert {p.training.origin.content for p in of_role(plan, "teacher")} == {plan.prerequisites[0].training.digest}


def test_a_teacher_may_be_another_network_trained_longer(planned):
    plan = planned("tricks={distillation: {teacher: {model: cifar_resnet20, epochs: 3}}}")
    teacher = of_role(plan, "teacher")[0].training
    assert (teacher.model.name, teacher.train.epochs) == ("cifar_resnet20", 3)
    assert teacher.origin is None  # the source network's weights fit no other
    student = training(plan, "distillation")
    assert (student.model.name, student.train.epochs) == ("cifar_resnet8", 2)
    assert student.teacher.model.name == "cifar_resnet20"


def test_two_cells_with_one_teacher_share_it(planned):
    levels = "tricks={hot: {trick: distillation, temperature: 20}, cold: {trick: distillation, temperature: 2}}"
    plan = planned(levels, ALL_IMAGES, "policies=[full, head]")
    assert len(of_role(plan, "teacher")) == 1
    assert len(plan.trainings) == 2 * 3 * 2


@pytest.mark.parametrize(
    "teacher", ["{model: cifar_resnet20}", "{epochs: 4}", "{model: cifar_resnet20, checkpoint: teacher.pt}"]
)
def test_another_teacher_is_another_training(planned, checkpoint, teacher):
    checkpoint("cifar_resnet20", 3)
    digests = [
        training(planned(f"tricks={{distillation: {given}}}"), "distillation").digest
        for given in ("", f"{{teacher: {teacher}}}")
    ]
    assert digests[0] != digests[1]


def test_a_teacher_from_a_file_lies_beside_the_spec_and_counts_by_content(planned, checkpoint):
    path = checkpoint("cifar_resnet8", 3)
    plan = planned("tricks={distillation: {teacher: {checkpoint: teacher.pt}}}")
    assert of_role(plan, "teacher") == []
    first = training(plan, "distillation")
    assert first.teacher.origin.path == str(path)
    shutil.copy(path, path.with_name("copy.pt"))
    again = training(planned("tricks={distillation: {teacher: {checkpoint: copy.pt}}}"), "distillation")
    assert again.digest == first.digest
    torch.save(build_model(Model(name="cifar_resnet8"), 3, seed=1).state_dict(), path)
    changed = training(planned("tricks={distillation: {teacher: {checkpoint: teacher.pt}}}"), "distillation")
    assert changed.digest != first.digest


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("{checkpoint: none.pt}", ["none.pt", "No such file"]),
        ("{model: cifar_resnet9}", ["unknown model of the teacher 'cifar_resnet9'", "cifar_resnet20"]),
        ("{model: vgg16}", ["vgg16 cannot be trained on images of 8 pixels"]),
        ("{modle: vgg16}", ["unknown key 'modle'", "model, epochs, checkpoint"]),
        ("{epochs: 0}", ["0 should be greater than 0"]),
    ],
)
def test_what_is_wrong_with_a_teacher_is_told_where_the_trick_is_written(write_spec, workspace, teacher, words):
    path = write_spec(("tricks: {warmup: {epochs: 1}, mixup: }", f"tricks: {{distillation: {{teacher: {teacher}}}}}"))
    with pytest.raises(HarnessError) as error:
        make_plan(specfile.read(path), workspace)
    assert str(error.value).startswith(f"{path}:10: tricks.distillation")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("model", "classes"), [("cifar_resnet8", 4), ("cifar_resnet20", 3)])
def test_a_teacher_that_does_not_fit_stops_the_run_before_it_starts(planned, checkpoint, workspace, model, classes):
    path = checkpoint(model, classes)
    plan = planned("tricks={distillation: {teacher: {checkpoint: teacher.pt}}}")
    with pytest.raises(HarnessError, match="do not fit the model") as error:
        prepare(plan, workspace.cache)
    assert str(path) in str(error.value)


def test_a_checkpoint_that_fits_one_model_of_two_stops_the_run(planned, checkpoint, workspace):
    checkpoint("cifar_resnet8", 10, "net.pt")
    fits = "axes={model.name: [cifar_resnet8]}"
    weights = "weights={checkpoint: net.pt}"
    prepare(planned(weights, fits), workspace.cache)
    plan = planned(weights, "axes={model.name: [cifar_resnet8, cifar_resnet20]}")
    with pytest.raises(HarnessError, match="do not fit the model"):
        prepare(plan, workspace.cache)


def test_weights_of_every_scenario_are_fetched(planned, workspace, monkeypatch):
    """And what cannot be had is told before anything runs."""
    fetched: list[object] = []
    monkeypatch.setattr("harness.prepare.weights.fetch", fetched.append)
    monkeypatch.setattr("harness.prepare._check_fit", lambda _training: None)
    plan = planned(
        "model.name=resnet18",
        "weights={torchvision: IMAGENET1K_V1}",
        "axes={model.name: [resnet18, resnet34]}",
    )
    prepare(plan, workspace.cache)
    assert [str(entry) for entry in fetched] == ["ResNet18_Weights.IMAGENET1K_V1", "ResNet34_Weights.IMAGENET1K_V1"]


def test_steps_of_an_epoch_leave_out_the_batch_that_is_not_full(write_spec, workspace):
    study = specfile.read(write_spec(), ["train.batch_size=7"])
    ground = Ground(study, study.scenarios[0], workspace)
    assert (ground.data.train_size, ground.steps_per_epoch) == (24, 3)
