"""Distillation: the soft term against NumPy, and what the teacher sees and how it is left."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.errors import HarnessError
from harness.learner import Learner, initial_model, teacher_of
from harness.models import weights
from harness.models.build import build_model
from harness.recipe import Conflict, Recipe, TeacherSpec
from harness.spec import Model
from harness.training import Origin, Teacher, Training
from harness.tricks import compose
from harness.tricks.distillation import Distillation, DistillationTrick
from harness.tricks.label_smoothing import LabelSmoothingTrick
from harness.tricks.mixup import MixupTrick
from tests.watching import CPU, changed, copy_of, run, two_steps, watch

TEACHER = Model(name="cifar_resnet20")


@pytest.fixture
def taught(tmp_path):
    """A function that returns a training of two steps with distillation and other tricks, its teacher made."""
    path = tmp_path / "teacher.pt"
    weights.save(build_model(TEACHER, 2, seed=9).state_dict(), path)

    def make(trick: DistillationTrick | None = None, seed: int = 0, **others) -> Training:
        training = two_steps({"distillation": trick or DistillationTrick(), **others}, seed=seed)
        return replace(training, teacher=Teacher(TEACHER, Origin("teacher", str(path))))

    return make


@pytest.fixture
def learners(monkeypatch):
    """Every learner that is made from now on."""
    made: list[Learner] = []
    begin = Learner.__init__

    def spy(self, *arguments):
        begin(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Learner, "__init__", spy)
    return made


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def logits(seed: int, scale: float = 5.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((7, 4))


# The soft term.


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_soft_term_is_that_of_the_paper(temperature):
    """He et al. 2018, §5.3: T²·ℓ(softmax(r/T), softmax(z/T)), with ℓ the cross-entropy."""
    z, r = logits(1), logits(2)
    p, q = softmax(r / temperature), softmax(z / temperature)
    expected = temperature**2 * -(p * np.log(q)).sum(1).mean()
    term = Distillation(temperature, 1.0, 1.0)(torch.from_numpy(z), torch.from_numpy(r))
    assert term.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("soft_weight", [1.0, 0.3])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_gradient_is_t_times_the_difference_of_the_softened_predictions(temperature, soft_weight):
    """∂/∂z of T²·ℓ is T·(softmax(z/T) − softmax(r/T)), here averaged over the batch (Hinton et al. 2015, §2.1)."""
    z, r = logits(1), logits(2)
    student = torch.from_numpy(z).requires_grad_()
    Distillation(temperature, 1.0, soft_weight)(student, torch.from_numpy(r)).backward()
    expected = soft_weight * temperature * (softmax(z / temperature) - softmax(r / temperature)) / len(z)
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_gradient_keeps_its_size_at_high_temperature():
    """What T² is for: the limit is (z − r)/K, for logits of mean zero (Hinton et al. 2015, eq. 4)."""
    z, r = (values - values.mean(1, keepdims=True) for values in (logits(1, 1.0), logits(2, 1.0)))
    student = torch.from_numpy(z).requires_grad_()
    Distillation(1e4, 1.0, 1.0)(student, torch.from_numpy(r)).backward()
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy() * len(z), (z - r) / z.shape[1], atol=1e-3)


def test_trick_adds_its_term_and_owns_the_teacher():
    trick = DistillationTrick(4.0, 0.5, 2.0, TeacherSpec(model="resnet50"))
    assert trick(Recipe()) == Recipe(loss_terms=(Distillation(4.0, 0.5, 2.0),), teacher=TeacherSpec(model="resnet50"))


def test_two_teachers_conflict():
    with pytest.raises(Conflict, match="would own the teacher of the recipe; only one can"):
        compose({"a": DistillationTrick(2.0), "b": DistillationTrick(4.0)})


# Inside a training.


@pytest.mark.parametrize(("hard", "soft"), [(1.0, 1.0), (0.5, 1.0), (0.0, 2.0)])
def test_loss_is_the_weighted_sum(taught, tmp_path, hard, soft):
    training = taught(DistillationTrick(4.0, hard, soft), label_smoothing=LabelSmoothingTrick(0.1))
    first = watch(training, tmp_path)[0]
    module = initial_model(training, CPU).train()
    teacher = build_model(TEACHER, 2, seed=9).eval()
    with torch.no_grad():
        z, r = module(first.images), teacher(first.images)
    term = 16 * F.cross_entropy(z / 4, F.softmax(r / 4, 1))
    expected = hard * F.cross_entropy(z, first.targets) + soft * term
    assert first.loss == pytest.approx(expected.item(), rel=1e-5)
    assert first.targets.max() == pytest.approx(0.9)  # the hard term's targets alone are smooth


def test_student_sees_what_it_would_without_a_teacher(taught, tmp_path):
    alone, with_teacher = watch(two_steps(), tmp_path), watch(taught(), tmp_path)
    for one, other in zip(alone, with_teacher, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)
    assert not changed(alone[0].before, with_teacher[0].before)
    assert changed(alone[-1].after, with_teacher[-1].after) >= {"conv1.weight", "fc.weight"}


def test_teacher_sees_the_students_mixed_images(taught, tmp_path, monkeypatch):
    seen = []

    def watched(training, device):
        teacher = teacher_of(training, device)
        assert teacher
        teacher.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
        return teacher

    plain = watch(two_steps(), tmp_path)
    monkeypatch.setattr("harness.learner.teacher_of", watched)
    steps = watch(taught(mixup=MixupTrick(1.0)), tmp_path)
    assert len(seen) == len(steps) == 2
    assert all(torch.equal(images, step.images) for images, step in zip(seen, steps, strict=True))
    assert not any(torch.equal(images, step.images) for images, step in zip(seen, plain, strict=True))


def test_teacher_evaluates_takes_no_gradient_and_stays(taught, tmp_path, learners):
    run(taught(), tmp_path)
    (learner,) = learners
    teacher = learner._teacher
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not changed(copy_of(build_model(TEACHER, 2, seed=9).state_dict()), copy_of(teacher.state_dict()))
    assert not {*teacher.parameters()} & {p for group in learner.optimizer.param_groups for p in group["params"]}
    assert len(learner.module.state_dict()) == len(build_model(Model(name="cifar_resnet8"), 2, seed=0).state_dict())


def test_teacher_of_every_seed_is_the_one_in_the_file(taught):
    one, other = (teacher_of(taught(seed=seed), CPU) for seed in (0, 1))
    assert one
    assert other
    assert not changed(copy_of(one.state_dict()), copy_of(other.state_dict()))


def test_a_training_without_a_teacher_has_none():
    assert teacher_of(two_steps(), CPU) is None


def test_a_teacher_of_other_classes_is_refused(taught):
    training = taught()
    weights.save(build_model(TEACHER, 3, seed=9).state_dict(), Path(training.teacher.origin.path))
    with pytest.raises(HarnessError, match=r"of another shape: fc\.bias"):
        teacher_of(training, CPU)


def test_parameters_as_a_user_writes_them(read_trick):
    assert read_trick("distillation: ") == DistillationTrick(20.0, 1.0, 1.0, TeacherSpec())
    written = "distillation: {temperature: 4, hard_weight: 0.5, teacher: {model: resnet50, epochs: 9}}"
    assert read_trick(written) == DistillationTrick(4.0, 0.5, 1.0, TeacherSpec("resnet50", 9))


@pytest.mark.parametrize(
    "parameter", ["temperature: 0", "temperature: .inf", "hard_weight: -1", "soft_weight: 0", "soft_weight: '1'"]
)
def test_parameters_out_of_range_name_their_place(read_trick, parameter):
    name = parameter.partition(":")[0]
    with pytest.raises(HarnessError, match=rf"tiny.yaml:10: tricks\.distillation\.{name}"):
        read_trick(f"distillation: {{{parameter}}}")
