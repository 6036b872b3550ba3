"""What the trainings of a process share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import data, supplies
from harness.bits import state_sha256
from harness.freezing.check import same_bits
from harness.learner import initial_model
from harness.models import weights
from harness.models.build import build_model, layout_of
from harness.records import Finished
from harness.spec import Model
from harness.supplies import Supplies
from harness.train import train
from harness.training import Origin, Training
from harness.tricks.ema import EmaTrick
from harness.tricks.zero_gamma import ZeroGammaTrick
from tests.watching import CPU, two_steps


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str], list[Any]]:
    """A function that has calls of a module's function noted."""

    def note(module: object, name: str) -> list[Any]:
        calls, own = [], getattr(module, name)

        def noted(*args: Any) -> Any:
            calls.append(args)
            return own(*args)

        monkeypatch.setattr(module, name, noted)
        return calls

    return note


def test_a_network_is_that_of_the_seed_and_nobody_elses(tmp_path: Path) -> None:
    given, training = Supplies(tmp_path, CPU), two_steps(policy="head")
    start = given.start(training)
    first = start.copy()
    for parameter in first.parameters():
        parameter.data.zero_()
    again = given.start(training)
    second = again.copy()
    theirs = initial_model(training, CPU).state_dict()
    assert all(same_bits(tensor, theirs[name]) for name, tensor in second.state_dict().items())
    assert all(same_bits(start.tensors[name], theirs[name]) for name in start.tensors)
    assert again is start


def test_networks_of_one_source_hold_its_weights_once_and_trainings_leave_them_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(initial_model(two_steps(seed=5), CPU).state_dict(), path)
    begun = [replace(two_steps(seed=seed), origin=Origin("content", str(path))) for seed in (0, 1)]
    given = Supplies(tmp_path, CPU)
    source = given.source(begun[0].origin)
    before = {name: tensor.clone() for name, tensor in source.items()}
    for training in begun:
        start = given.start(training)
        held = {name for name, tensor in start.tensors.items() if tensor.data_ptr() == source[name].data_ptr()}
        assert held == source.keys() - {"fc.weight", "fc.bias"}
        copied = start.copy().state_dict()
        assert all(tensor.data_ptr() != source[name].data_ptr() for name, tensor in copied.items())
        *_, end = train(training, given)
        assert isinstance(end, Finished)
    assert all(same_bits(tensor, before[name]) for name, tensor in source.items())


def test_layers_draw_what_they_draw_after_a_network_is_built(tmp_path: Path) -> None:
    given, training = Supplies(tmp_path, CPU), two_steps()
    initial_model(training, CPU)
    alone = torch.rand(3)
    for _ in range(2):
        given.start(training)
        assert torch.equal(torch.rand(3), alone)


def test_what_is_shared_is_made_once_and_what_differs_anew(
    tmp_path: Path, counted: Callable[[object, str], list[Any]]
) -> None:
    built, loaded, read = (
        counted(module, name) for module, name in ((supplies, "initial_model"), (data, "load"), (weights, "read"))
    )
    path = tmp_path / "w.pt"
    torch.save(initial_model(two_steps(seed=5), CPU).state_dict(), path)
    given, one = Supplies(tmp_path, CPU), two_steps(policy="head")
    origin = replace(one, origin=Origin("content", str(path)))
    for training in (one, two_steps(policy="full", lr=0.3), two_steps(epochs=7)):
        given.splits(training)
        given.start(training)
    assert (len(built), len(loaded), len(read)) == (1, 1, 0)
    for training in (origin, replace(origin, seed=1), two_steps({"zero_gamma": ZeroGammaTrick()})):
        given.splits(training)
        given.start(training)
        given.source(training.origin)
    assert (len(built), len(loaded), len(read)) == (4, 2, 1)


def test_no_more_than_two_of_a_kind_are_kept(tmp_path: Path, counted: Callable[[object, str], list[Any]]) -> None:
    built, given = counted(supplies, "initial_model"), Supplies(tmp_path, CPU)
    for seed in (0, 1, 0, 2, 0, 1):
        given.start(two_steps(seed=seed))
    assert [training.seed for training, *_ in built] == [0, 1, 2, 1]


def sized(training: Training, size: int) -> Training:
    return replace(training, data=training.data.model_copy(update={"image_size": size}))


def test_a_detector_begins_with_the_backbone_of_a_classifier(tmp_path: Path) -> None:
    """And says so: nothing but its head is not in the weights that it was made from."""
    model = Model(name="mini_resnet14", head="faster_rcnn")
    classifier = build_model(Model(name="mini_resnet14"), 5, seed=7).state_dict()
    torch.save(classifier, tmp_path / "w.pt")
    training = sized(
        replace(
            two_steps(model=model), head=layout_of(model, 2).head, origin=Origin("content", str(tmp_path / "w.pt"))
        ),
        40,
    )
    start = Supplies(tmp_path, CPU).start(training)
    state = start.copy().state_dict()
    backbone = {name for name in state if name.startswith("backbone.body.")}
    assert {f"backbone.body.{name}" for name in classifier if not name.startswith("fc.")} == backbone
    assert all(same_bits(state[name], classifier[name.removeprefix("backbone.body.")]) for name in backbone)
    assert set(start.changed(state, frozenset())) == set(state) - backbone


def test_detectors_of_images_of_two_sizes_are_two_networks(tmp_path: Path) -> None:
    """Their anchors differ; of classification networks one serves all sizes."""
    model, given = Model(name="mini_resnet14", head="faster_rcnn"), Supplies(tmp_path, CPU)
    detectors = [given.start(sized(two_steps(model=model), size)).copy() for size in (40, 80)]
    assert [each.get_submodule("transform").min_size for each in detectors] == [(40,), (80,)]
    assert given.start(sized(two_steps(), 8)) is given.start(sized(two_steps(), 16))


def test_what_is_said_of_the_weights_is_that_of_their_file(tmp_path: Path) -> None:
    """Digest and changed names are worked out from what moved alone; here they are from the file as a whole."""
    source = tmp_path / "source.pt"
    torch.save(initial_model(two_steps(seed=5), CPU).state_dict(), source)
    given = Supplies(tmp_path, CPU, tmp_path / "shared")
    for number, (policy, tricks) in enumerate(
        [
            ("head", {}),
            ("full", {}),
            ("last_stage", {"ema": EmaTrick()}),
            ("head_bn", {}),
            ("surgical_first", {}),
            ("head", {}),
        ]
    ):
        path = tmp_path / f"{number}.pt"
        training = two_steps(tricks, policy, epochs=2)
        training = replace(training, origin=Origin("content", str(source)), save_to=str(path))
        *_, end = train(training, given)
        assert isinstance(end, Finished)
        state = weights.read(path)
        assert end.weights_sha256 == state_sha256(state)
        assert end.changed == weights.changed(state, weights.read(source))
