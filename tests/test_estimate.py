"""The estimate of a plan: operations counted by hand, and seconds that scale with what is trained."""

import pytest
import torch
from torch import nn

from harness import estimate as estimating
from harness import flops, specfile
from harness.estimate import estimate
from harness.facts import Facts
from harness.models.build import build_model
from harness.planning import make_plan
from harness.spec import Model
from tests.watching import two_steps


@pytest.fixture
def planned(write_spec, workspace):
    """A function that plans the tiny study with overrides."""
    return lambda *overrides: make_plan(specfile.read(write_spec(), overrides), workspace)


@pytest.fixture
def steady(monkeypatch):
    """A machine on which the forward pass of any image takes a second, and its training three times that at most."""
    monkeypatch.setattr(flops, "seconds_per_image", lambda _training, _device: 1.0)
    monkeypatch.setattr(flops, "of_forward", lambda _training: 30.0)
    monkeypatch.setattr(flops, "of_training", lambda training: min(90.0, 25.0 + len(training.phases[0].trainable)))


def layers_of(training):
    """Operations of one image by layer, multiply and add counted apart, convolutions and linear layers alone."""
    counts = {}

    def count(module, _inputs, output):
        places = output.shape[2] * output.shape[3] if isinstance(module, nn.Conv2d) else 1
        counts[module] = 2 * module.weight.numel() * places

    module = build_model(training.model, training.classes, seed=0).eval()
    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.Linear):
            child.register_forward_hook(count)
    side = training.data.image_size
    module(torch.zeros(1, 3, side, side))
    return list(counts.values())


def training_of(plan, policy, tricks="baseline"):
    return next(r.training for r in plan.replicates if r.cell.name == f"{policy} | {tricks}")


# Operations.


def test_forward_pass_is_its_convolutions_and_its_classifier(plan):
    training = training_of(plan, "full")
    assert flops.of_forward(training) == sum(layers_of(training))


@pytest.mark.parametrize("model", ["cifar_resnet8", "resnet18"])
def test_full_training_is_three_times_the_forward_pass(planned, model):
    """Forward, gradient of the weights, gradient of the input; the images themselves need none."""
    training = training_of(planned(f"model.name={model}", "weights=null", "data.image_size=32"), "full")
    layers = layers_of(training)
    counted = flops.of_training(training)
    assert counted == 3 * sum(layers) - layers[0]
    assert 2.7 < counted / sum(layers) < 3


def test_head_training_is_the_forward_pass_and_the_gradient_of_the_classifier(plan):
    training = training_of(plan, "head")
    layers = layers_of(training)
    assert flops.of_training(training) == sum(layers) + layers[-1]
    assert flops.of_training(training) < 0.4 * flops.of_training(training_of(plan, "full"))


def test_phases_count_by_the_steps_they_take(planned):
    phases = "[{trainable: [head]}, {trainable: [all], bn_stats: [all], start: 0.25}]"
    plan = planned(f"policies={{full: , head: , thawed: {{phases: {phases}}}}}", "train.epochs=4")
    full, head, thawed = (flops.of_training(training_of(plan, name)) for name in ("full", "head", "thawed"))
    assert thawed == pytest.approx(0.25 * head + 0.75 * full)


# Seconds.


def test_estimate_of_a_real_plan_is_positive(plan):
    found = estimate(plan, jobs=1, device="cpu")
    assert found.trainings_s > 0
    assert found.prerequisites_s > 0
    assert found.probe_s > 0
    assert found.tuning_s == 0
    assert found.total_s == found.trainings_s + found.prerequisites_s + found.probe_s


def test_estimate_changes_nothing_it_should_not(plan, workspace):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    before = files(workspace)
    estimate(plan, jobs=1, device="cpu")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert files(workspace) == before


def files(workspace):
    return sorted(path for path in workspace.root.rglob("*") if not path.is_relative_to(workspace.cache))


@pytest.mark.usefixtures("steady")
def test_training_is_its_steps_and_its_evaluations(planned):
    """One training of everything: 2 epochs of 3 steps of 8 images, validated each epoch and tested once."""
    plan = planned("policies=[full]", "tricks={}", "seeds=1", "weights=null")
    training = training_of(plan, "full")
    factor = (25 + len(training.phases[0].trainable)) / 30
    steps = 2 * 3 * 8 * factor * estimating._OVERHEAD
    found = plan.replicates[0].data
    assert estimate(plan, 1, "cpu").trainings_s == pytest.approx(steps + 2 * found.val_size + found.test_size)


@pytest.mark.usefixtures("steady")
def test_seconds_scale_with_the_epochs(planned):
    """All but the one look at the test images, at the end of each of the twelve trainings."""
    two, four = planned(), planned("train.epochs=4")
    tested = 12 * two.replicates[0].data.test_size
    shorter, longer = (estimate(plan, 1, "cpu") for plan in (two, four))
    assert longer.trainings_s - tested == pytest.approx(2 * (shorter.trainings_s - tested))
    assert longer.prerequisites_s == shorter.prerequisites_s
    assert longer.probe_s == shorter.probe_s


@pytest.mark.usefixtures("steady")
def test_seconds_scale_with_the_seeds(planned):
    one, three = (estimate(planned(f"seeds={n}"), 1, "cpu") for n in (1, 3))
    assert three.trainings_s == pytest.approx(3 * one.trainings_s)
    assert (three.probe_s, three.prerequisites_s) == (one.probe_s, one.prerequisites_s)  # once for all seeds


@pytest.mark.usefixtures("steady")
def test_cells_that_share_a_training_cost_it_once(planned):
    alone = planned("train.weight_decay=0", "tricks={}")
    shared = planned("train.weight_decay=0", "tricks={no_bias_decay: }")
    assert len(shared.replicates) == 2 * len(alone.replicates)
    assert estimate(shared, 1, "cpu") == estimate(alone, 1, "cpu")


@pytest.mark.usefixtures("steady")
def test_jobs_divide_the_trainings_and_nothing_else(plan):
    one, two, many = (estimate(plan, jobs, "cpu") for jobs in (1, 2, 1000))
    assert two.trainings_s == pytest.approx(one.trainings_s / 2)
    assert many.trainings_s == pytest.approx(one.trainings_s / 12)  # as many jobs as there are trainings
    assert (many.prerequisites_s, many.probe_s) == (one.prerequisites_s, one.probe_s)


@pytest.mark.usefixtures("steady")
def test_probe_scales_with_its_rounds_and_steps(planned):
    short, long = (estimate(planned(f"throughput={{rounds: {r}, steps: {s}}}"), 1, "cpu") for r, s in ((2, 1), (6, 4)))
    assert long.probe_s == pytest.approx((6 * 7) / (2 * 2) * short.probe_s)
    assert estimate(planned("throughput=null"), 1, "cpu").probe_s == 0


@pytest.mark.usefixtures("steady")
def test_source_task_counts_where_the_plan_pretrains(planned):
    assert estimate(planned("weights=null"), 1, "cpu").prerequisites_s == 0
    more = planned("weights.pretrain.train.epochs=3")
    source = more.prerequisites[0].data
    once, thrice = (estimate(plan, 1, "cpu").prerequisites_s for plan in (planned(), more))
    assert thrice - source.test_size == pytest.approx(3 * (once - source.test_size))


@pytest.mark.usefixtures("steady")
def test_source_images_of_another_size_are_timed_at_that_size(planned, monkeypatch):
    monkeypatch.setattr(flops, "seconds_per_image", lambda training, _device: training.data.image_size**2)
    small, large = (planned(f"weights.pretrain.data.image_size={size}") for size in (8, 16))
    ratio = estimate(large, 1, "cpu").prerequisites_s / estimate(small, 1, "cpu").prerequisites_s
    assert ratio == pytest.approx(4)
    assert estimate(large, 1, "cpu").trainings_s == estimate(small, 1, "cpu").trainings_s


def test_edited_networks_are_timed_and_counted_apart(monkeypatch):
    edited = two_steps(model=Model(name="mini_resnet14", variant="a"))
    plain = two_steps(model=Model(name="mini_resnet14"))
    assert plain.phases == edited.phases
    monkeypatch.setattr(flops, "seconds_per_image", lambda t, _device: {"a": 2.0, "b": 1.0}[t.model.variant])
    monkeypatch.setattr(flops, "of_forward", lambda _training: 1.0)
    monkeypatch.setattr(flops, "of_training", lambda t: {"a": 3.0, "b": 1.0}[t.model.variant])
    clock = estimating._Clock("cpu", Facts())
    assert clock.step_s(edited) == pytest.approx(6 * clock.step_s(plain))


@pytest.mark.usefixtures("steady")
def test_tuning_costs_its_candidates_and_jobs_divide_them(planned):
    tuned = planned("tune={lr: [0.01, 0.05, 0.2], seeds: 2}")
    plain = estimate(planned(), 1, "cpu")
    one, two, many = (estimate(tuned, jobs, "cpu") for jobs in (1, 2, 1000))
    assert one.tuning_s == pytest.approx(plain.trainings_s / 2 * 6)  # six at each cell, in place of two seeds
    assert two.tuning_s == pytest.approx(one.tuning_s / 2)
    assert many.tuning_s == pytest.approx(one.tuning_s / 36)
    assert (one.trainings_s, one.probe_s) == (plain.trainings_s, plain.probe_s)
    assert one.total_s == pytest.approx(plain.total_s + one.tuning_s)
    assert plain.tuning_s == 0


@pytest.mark.usefixtures("steady")
def test_a_teacher_costs_its_training_its_probe_and_a_forward_pass_a_step(planned):
    plain = planned("policies=[full]", "tricks={}", "seeds=1")
    taught = planned("policies=[full]", "tricks=[distillation]", "seeds=1")
    before, after = estimate(plain, 1, "cpu"), estimate(taught, 1, "cpu")
    # The teacher is one more training of the baseline's own program, with which it is probed.
    assert after.prerequisites_s == pytest.approx(before.prerequisites_s + before.trainings_s)
    forward = 2 * 3 * 8 * estimating._OVERHEAD  # epochs × steps × images
    assert after.trainings_s == pytest.approx(2 * before.trainings_s + forward)
    assert after.probe_s == pytest.approx(2 * before.probe_s + forward * (2 * 1 * 2) / (2 * 3))
