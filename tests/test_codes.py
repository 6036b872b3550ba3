from collections.abc import Callable
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from harness import codes, data
from harness import probe as probing
from harness.codes import Linear, codes_of, loss, solve
from harness.data import ImageSet
from harness.data.normalise import Normalise
from harness.execute.inline import InlineExecutor
from harness.execute.job import Job
from harness.freezing.check import FreezeViolation
from harness.freezing.policy import Codes, Policy, Solver
from harness.freezing.resolve import resolve
from harness.learner import initial_model
from harness.models import weights
from harness.models.build import layout_of
from harness.records import Epoch, Finished, Started
from harness.seeds import derive
from harness.spec import Data
from harness.supplies import Supplies
from harness.training import Training
from tests.samples import predicted
from tests.watching import CPU, SMALL, copy_of, two_steps

FOUR_CLASSES = Data(name="digits", classes=("3", "5", "8", "9"), image_size=8, train_per_class=10)
CS = (1e-4, 1e-3, 1e-2, 1e-1)


def coded(solver="svm", stage="stage3", cs=CS, rectified=True, images=FOUR_CLASSES, **changes) -> Training:
    """Return a training whose network stays, on 40 images of four classes."""
    spec = Codes(solver, stage, rectified, cs)
    classes = len(images.classes)
    phases = resolve(Policy(codes=spec), layout_of(SMALL, classes), 0.0)
    return replace(two_steps(), data=images, classes=classes, codes=spec, phases=phases, **changes)


def run(training, cache) -> tuple[Epoch, Finished]:
    epoch, finished = codes.fit(training, Supplies(cache, CPU))
    assert isinstance(epoch, Epoch)
    assert isinstance(finished, Finished)
    return epoch, finished


def by_hand(training, cache) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the codes of the last stage and the labels of each split, by the network's own layers."""
    net: Any = initial_model(training, CPU).eval()
    splits = data.load(training.located_data, training.data_content, training.seed, cache, CPU)
    mean, std = (torch.tensor(values)[:, None, None] for values in (training.data.mean, training.data.std))
    found = {}
    for name in ("train", "val", "test"):
        part = getattr(splits, name)
        with torch.no_grad():
            maps = F.relu(net.bn1(net.conv1((part.images / 255 - mean) / std)))
            maps = net.layer3(net.layer2(net.layer1(maps)))
        found[name] = maps.flatten(2).mean(2).double().numpy(), part.labels.numpy()
    return found


CLASSIFIERS: dict[Solver, Callable[[float], Any]] = {
    "svm": lambda c: LinearSVC(C=c, max_iter=10_000, random_state=derive(0, "codes") % 2**32),
    "softmax": lambda c: LogisticRegression(C=c, max_iter=10_000),
}


@pytest.mark.parametrize("solver", CLASSIFIERS)
def test_codes_are_what_scikit_learn_makes_of_features_computed_by_hand(solver, tmp_path):
    training = coded(solver)
    epoch, finished = run(training, tmp_path)
    parts = by_hand(training, tmp_path)
    fitted = [make_pipeline(StandardScaler(), CLASSIFIERS[solver](c)).fit(*parts["train"]) for c in CS]
    tops = [pipeline.score(*parts["val"]) for pipeline in fitted]
    best = int(np.argmax(tops))
    predictions = fitted[best].predict(parts["test"][0])
    assert len(set(tops)) > 1
    assert (epoch.epoch, epoch.step, epoch.val) == (1, 0, {"top1": tops[best]})
    np.testing.assert_array_equal(predicted(finished), (predictions, parts["test"][1]))
    assert finished.test["top1"] == (predictions == parts["test"][1]).mean() > 0.5
    assert finished.trainable_params == 4 * 64 + 4
    assert finished.notes[0].startswith(f"C = {CS[best]:g} was chosen on validation out of 0.0001, 0.001, 0.01, 0.1")
    assert finished.digest == epoch.digest == training.digest


def test_the_weights_are_those_for_codes_as_they_are(tmp_path):
    """The standardising is folded into them."""
    features, labels = by_hand(coded(), tmp_path)["train"]
    for solver, classifier in CLASSIFIERS.items():
        linear = solve(solver, 0.01, features, labels, derive(0, "codes") % 2**32)
        pipeline = make_pipeline(StandardScaler(), classifier(0.01)).fit(features, labels)
        np.testing.assert_allclose(linear.scores(features), pipeline.decision_function(features), atol=1e-9)
        assert linear.converged


def test_two_classes_have_one_row_of_scores(tmp_path):
    pair = FOUR_CLASSES.model_copy(update={"classes": ("5", "6")})
    for solver, classifier in CLASSIFIERS.items():
        training = coded(solver, images=pair, cs=(0.01,))
        _, finished = run(training, tmp_path)
        parts = by_hand(training, tmp_path)
        pipeline = make_pipeline(StandardScaler(), classifier(0.01)).fit(*parts["train"])
        assert (predicted(finished)[0] == pipeline.predict(parts["test"][0])).all()
        assert finished.trainable_params == 64 + 1
        assert predicted(finished)[0].dtype == np.int64


def test_the_loss_of_a_softmax_is_the_cross_entropy():
    scores = np.array([[0.0, log(3.0)], [log(4.0), 0.0]])
    assert loss("softmax", scores, np.array([1, 1])) == pytest.approx((log(4 / 3) + log(5)) / 2)
    assert loss("softmax", np.array([[log(3.0)], [-log(4.0)]]), np.array([1, 1])) == pytest.approx(
        (log(4 / 3) + log(5)) / 2
    )


def test_the_loss_of_an_svm_is_the_squared_hinge_summed_over_the_classes():
    scores = np.array([[2.0, -0.5, -3.0], [0.0, 0.5, 0.0]])
    first, second = 0 + 0.5**2 + 0, 1 + 0.5**2 + 1
    assert loss("svm", scores, np.array([0, 1])) == pytest.approx((first + second) / 2)
    assert loss("svm", np.array([[0.5], [0.5]]), np.array([1, 0])) == pytest.approx((0.5**2 + 1.5**2) / 2)


@pytest.mark.parametrize("solver", CLASSIFIERS)
def test_the_training_loss_is_that_of_the_chosen_classifier_on_the_training_images(solver, tmp_path):
    training = coded(solver, cs=(0.01,))
    epoch, _ = run(training, tmp_path)
    features, labels = by_hand(training, tmp_path)["train"]
    pipeline = make_pipeline(StandardScaler(), CLASSIFIERS[solver](0.01)).fit(features, labels)
    scores = pipeline.decision_function(features)
    if solver == "softmax":
        expected = -np.log(pipeline.predict_proba(features)[np.arange(len(labels)), labels]).mean()
    else:
        expected = (np.maximum(0, 1 - scores * (2 * np.eye(4)[labels] - 1)) ** 2).sum() / len(labels)
    assert epoch.train_loss == pytest.approx(expected)


class Net(nn.Module):
    """Two stages, the first a convolution, both followed by a ReLU that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(5)
        self.hidden, self.drop, self.head = nn.Linear(5, 7), nn.Dropout(0.9), nn.Linear(7, 2)

    def forward(self, images):
        maps = self.relu(self.norm(self.conv(images)))
        return self.head(self.drop(self.relu(self.hidden(maps.mean(dim=(2, 3))))))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.mark.parametrize("rectified", [True, False])
def test_codes_are_the_output_of_the_module_averaged_over_its_pixels(net, rectified):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (300, 3, 8, 8), generator=generator, dtype=torch.uint8)  # more than one batch
    before = copy_of(net.state_dict())
    normalise = Normalise(FOUR_CLASSES, CPU)
    found = {
        name: codes_of(net, name, ImageSet(images, torch.zeros(300)), normalise, rectified)
        for name in ("norm", "hidden")
    }
    net.eval()
    with torch.no_grad():
        maps = net.norm(net.conv(normalise(images)))
        hidden = net.hidden(F.relu(maps).mean(dim=(2, 3)))
    if rectified:
        maps, hidden = maps.clamp(min=0), hidden.clamp(min=0)
    assert (hidden < 0).any() != rectified
    for name, expected in {"norm": maps.mean(dim=(2, 3)), "hidden": hidden}.items():
        np.testing.assert_allclose(found[name], expected.double().numpy(), atol=1e-6)
        assert found[name].dtype == np.float64
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not net.norm._forward_hooks


def test_the_stage_and_the_rectifying_are_those_of_the_training(tmp_path, monkeypatch):
    asked = []

    def spy(module, name, images, normalise, rectified):
        asked.append((name, rectified, len(images)))
        return codes_of(module, name, images, normalise, rectified)

    monkeypatch.setattr(codes, "codes_of", spy)
    run(coded(stage="stem", rectified=False), tmp_path)
    # The stem ends in a ReLU, its last module. Training comes first; test last, when C is chosen.
    assert [(name, rectified) for name, rectified, _ in asked] == 3 * [("relu", False)]
    assert asked[0][2] == 40


def linear(c: float, converged: bool = True, right: bool = True) -> Linear:
    """Return a classifier of two classes that is always right on codes of the sign of the class, or always wrong."""
    return Linear(c, np.array([[1.0 if right else -1.0]]), np.zeros(1), converged)


NOTES = {
    "inside": ((1.0, 2.0, 3.0), linear(2.0), ("C = 2 was chosen on validation out of 1, 2, 3",)),
    "low edge": ((1.0, 2.0), linear(1.0), ("C = 1 was chosen on validation out of 1, 2, at the edge of the list",)),
    "high edge": ((1.0, 2.0), linear(2.0), ("C = 2 was chosen on validation out of 1, 2, at the edge of the list",)),
    "no choice": ((1.0,), linear(1.0), ("C = 1 was chosen on validation out of 1",)),
}


@pytest.mark.parametrize(("cs", "chosen", "notes"), NOTES.values(), ids=NOTES)
def test_a_choice_at_the_edge_of_the_list_is_said(cs, chosen, notes):
    assert codes._notes(cs, chosen, [linear(c) for c in cs]) == notes


def test_of_two_alike_the_smaller_c_is_chosen(tmp_path, monkeypatch):
    right = {1e-4: False, 1e-3: True, 1e-2: True, 1e-1: False}
    pair = FOUR_CLASSES.model_copy(update={"classes": ("5", "6")})
    monkeypatch.setattr(codes, "solve", lambda _solver, c, *_: linear(c, right=right[c]))
    monkeypatch.setattr(codes, "codes_of", lambda _m, _n, images, *_: 2.0 * images.labels.numpy()[:, None] - 1)
    epoch, finished = run(coded(images=pair), tmp_path)
    assert finished.notes == ("C = 0.001 was chosen on validation out of 0.0001, 0.001, 0.01, 0.1",)
    assert (epoch.val, finished.test) == ({"top1": 1.0}, {"top1": 1.0})


def test_a_solver_that_gives_up_warns_and_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(codes, "_MOST_ITERATIONS", 1)
    with pytest.warns(ConvergenceWarning):
        _, finished = run(coded("softmax", cs=(1e-2, 1e-1)), tmp_path)
    assert finished.notes[1] == "the solver did not converge at C = 0.01, 0.1"


def test_same_seed_same_bits_and_another_seed_others(tmp_path):
    for solver in CLASSIFIERS:
        results = [run(coded(solver, seed=seed), tmp_path)[1] for seed in (0, 0, 1)]
        first, again, other = (result.weights_sha256 for result in results)
        assert first == again != other


def test_no_global_generator_is_drawn_from(tmp_path):
    training = coded()
    initial_model(training, CPU)  # it seeds torch's generator, for layers that draw
    ours, theirs = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    run(training, tmp_path)
    assert torch.equal(torch.get_rng_state(), ours)
    assert (np.random.get_state(legacy=False)["state"]["key"] == theirs).all()


def test_what_is_kept_is_the_backbone_as_it_was_and_the_coefficients(tmp_path):
    path = tmp_path / "kept.pt"
    training = coded(save_to=str(path))
    _, finished = run(training, tmp_path)
    kept, start = weights.read(path), initial_model(training, CPU).state_dict()
    assert set(kept) == set(start) - {"fc.weight", "fc.bias"} | {"codes.weight", "codes.bias"}
    assert all(torch.equal(kept[name], start[name]) for name in set(kept) & set(start))
    scores = by_hand(training, tmp_path)["test"][0] @ kept["codes.weight"].numpy().T + kept["codes.bias"].numpy()
    assert (scores.argmax(1) == finished.test_predictions).all()
    assert run(replace(training, save_to=None), tmp_path)[1].weights_sha256 == finished.weights_sha256


def test_a_network_that_changes_is_a_violation(tmp_path, monkeypatch):
    def careless(module, *arguments):
        module.bn1.running_mean.add_(1e-3)
        return codes_of(module, *arguments)

    monkeypatch.setattr(codes, "codes_of", careless)
    with pytest.raises(FreezeViolation, match=r"frozen but moved: bn1\.running_mean"):
        run(coded(), tmp_path)


def test_codes_are_part_of_a_trainings_identity():
    digests = {
        coded(solver, stage, cs, rectified).digest
        for solver, stage, cs, rectified in [
            ("svm", "stage3", CS, True),
            ("softmax", "stage3", CS, True),
            ("svm", "stage2", CS, True),
            ("svm", "stage3", CS[1:], True),
            ("svm", "stage3", CS, False),
        ]
    }
    assert len(digests) == 5


def test_a_worker_takes_the_solver_in_place_of_the_loop(tmp_path):
    records = list(InlineExecutor("cpu").run([Job((coded(), two_steps()), tmp_path)]))
    assert [type(record) for record in records] == 2 * [Started, Epoch, Finished]


def test_the_probe_leaves_them_out(tmp_path, monkeypatch):
    """Not by failing, which would hide a training that can be measured."""
    monkeypatch.setattr(probing, "_peak_memory", lambda *_: 1)
    monkeypatch.setattr(probing, "_images_per_s", lambda *_: 1.0)
    other = two_steps()
    assert [record.digest for record in probing.probe((coded(), other), 2, 1, tmp_path, CPU)] == 2 * [other.digest]
