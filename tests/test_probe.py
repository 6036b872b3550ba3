import gc
import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from harness import probe as probing
from harness.freezing.policies import Phase, Policy
from harness.freezing.resolve import resolve
from harness.learner import Learner
from harness.models.build import layout_of
from harness.probe import LiveTensors, probe
from harness.records import Probed
from harness.spec import Model
from harness.training import Training
from tests.watching import CPU, run, two_steps


def phases(*starts: float) -> Training:
    """Return a training in which the head learns, in as many phases."""
    policy = Policy(tuple(Phase(("head",), start=start) for start in starts))
    return replace(two_steps(), phases=resolve(policy, layout_of(Model(name="cifar_resnet8"), 2), 0.0))


@pytest.fixture
def measure(tmp_path):
    """A function that probes trainings in one round of one step, and returns the peak memory of each."""

    def peaks(*trainings: Training) -> list[int]:
        of = {record.digest: record.peak_memory_bytes for record in probe(trainings, 1, 1, tmp_path, CPU)}
        return [of[training.digest] for training in trainings]

    return peaks


def test_live_tensors_count_bytes_of_what_is_alive():
    with LiveTensors() as live:
        small = torch.zeros(1000)
        assert live.current == 4000
        large = torch.zeros(500, dtype=torch.float64) + 1
        assert live.current == 8000  # the zeros are gone again
        assert live.peak == 12_000
        del large
        assert live.current == 4000
        del small
        assert live.current == 0
    assert live.peak == 12_000


def test_live_tensors_count_a_storage_once_and_as_long_as_anything_holds_it():
    with LiveTensors() as live:
        whole = torch.zeros(1000)
        part = whole[10:20].view(2, 5)
        whole.add_(1)
        assert live.current == 4000
        del whole
        assert live.current == 4000
        del part
        assert live.current == 0
    assert live.peak == 4000


def test_live_tensors_count_what_is_held_for_the_backward_pass():
    weight = torch.ones(100, requires_grad=True)
    with LiveTensors() as live:
        held = (weight * 2).exp()  # 400 bytes each: the product, which goes, and its exponential, which is held
        assert live.current == 400
        held.sum().backward()
        assert weight.grad is not None
        assert live.current == 800  # the exponential and the gradient
        weight.grad = None
        del held
        assert live.current == 0


def test_live_tensors_count_nothing_outside_their_time():
    before = torch.zeros(1000)
    with LiveTensors() as live:
        pass
    after = torch.zeros(1000)
    assert (live.current, live.peak) == (0, 0)
    live.count([before, after, after[:5]])
    assert live.peak == 8000


def test_peak_memory_is_the_same_each_time_and_for_each_seed(measure):
    first = measure(two_steps(seed=0), two_steps(seed=1))
    gc.collect()
    assert measure(two_steps(seed=0)) == first[:1]
    assert first[0] == first[1]


def test_peak_memory_holds_weights_gradients_momentum_and_batch_at_the_least(measure):
    (peak,) = measure(two_steps())
    weights = sum(math.prod(shape) * 4 for _, shape in layout_of(Model(name="cifar_resnet8"), 2).parameters)
    batch = 8 * 3 * 8 * 8 * 4
    assert 3 * weights + batch < peak < 20 * weights


def test_a_frozen_backbone_takes_less_memory_and_a_larger_batch_more(measure):
    head, full, large = measure(two_steps(policy="head"), two_steps(), two_steps(batch_size=16))
    assert head < full < large


def test_peak_memory_is_that_of_the_hungriest_phase(measure):
    head, full = two_steps(policy="head"), two_steps()
    both = replace(full, phases=(head.phases[0], replace(full.phases[0], start=0.5)))
    assert measure(both) == measure(full)


def test_trainings_are_measured_in_interleaved_rounds(tmp_path):
    head, full = two_steps(policy="head"), two_steps()
    records = list(probe((head, full), 3, 1, tmp_path, CPU))
    assert all(isinstance(record, Probed) for record in records)
    assert [record.round for record in records] == [0, 0, 1, 1, 2, 2]
    for number in range(3):
        assert {record.digest for record in records if record.round == number} == {head.digest, full.digest}
    assert all(math.isfinite(record.images_per_s) and record.images_per_s > 0 for record in records)
    assert len({(record.digest, record.peak_memory_bytes) for record in records}) == 2


def test_each_round_has_an_order_of_its_own_and_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(probing, "_peak_memory", lambda *_: 1)
    monkeypatch.setattr(probing, "_images_per_s", lambda *_: 1.0)
    trainings = tuple(two_steps(seed=seed) for seed in range(3))
    once, again = (
        [(record.round, record.digest) for record in probe(trainings, 24, 1, tmp_path, CPU)] for _ in range(2)
    )
    assert once == again
    rounds = [tuple(digest for _, digest in once[at : at + 3]) for at in range(0, 72, 3)]
    assert all(set(order) == {training.digest for training in trainings} for order in rounds)
    # None is always first, and none always after the same other.
    assert len({order[0] for order in rounds}) == 3
    assert len({pair for order in rounds for pair in pairwise(order)}) == 6


def test_a_training_that_raises_is_left_out_without_harm_to_the_others(tmp_path):
    broken, sound = two_steps(batch_size=17), two_steps()
    records = list(probe((broken, sound), 2, 1, tmp_path, CPU))
    assert [(record.round, record.digest) for record in records] == [(0, sound.digest), (1, sound.digest)]


def test_a_training_that_raised_once_is_not_tried_again(tmp_path, monkeypatch):
    tried = []

    def spy(training, *_):
        tried.append(training.digest)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(probing, "_peak_memory", spy)
    one, other = two_steps(seed=0), two_steps(seed=1)
    assert list(probe((one, other), 3, 1, tmp_path, CPU)) == []
    assert len(tried) == 2
    assert set(tried) == {one.digest, other.digest}


@pytest.fixture
def clock(monkeypatch):
    """A function that sets how long each stretch between two looks at the probe's clock takes, in seconds."""

    def install(*stretches: float) -> None:
        times = iter([at for stretch in stretches for at in (100.0, 100.0 + stretch)])
        monkeypatch.setattr(probing, "time", SimpleNamespace(perf_counter=lambda: next(times)))

    return install


def test_images_per_s_is_batch_size_over_seconds_of_a_step(clock, tmp_path):
    clock(2.0, 4.0)
    records = list(probe((two_steps(),), 2, 4, tmp_path, CPU))
    assert [record.images_per_s for record in records] == pytest.approx([8 / (2.0 / 4), 8 / (4.0 / 4)])


def test_phases_count_by_the_steps_they_take(clock, tmp_path):
    """Four steps: one in the first phase, three in the second."""
    training = replace(phases(0.0, 0.25), train=two_steps(epochs=2).train)
    clock(1.0, 3.0)
    (record,) = probe((training,), 1, 10, tmp_path, CPU)
    assert record.images_per_s == pytest.approx(8 / (0.25 * 0.1 + 0.75 * 0.3))


@pytest.fixture
def events(monkeypatch):
    """What the probe does, in order: its steps, and its looks at the clock."""
    seen: list[str] = []
    take = Learner.step

    def step(*arguments):
        seen.append("step")
        return take(*arguments)

    def look() -> float:
        seen.append("look")
        return float(len(seen))

    monkeypatch.setattr(Learner, "step", step)
    monkeypatch.setattr(probing, "time", SimpleNamespace(perf_counter=look))
    return seen


@pytest.mark.parametrize(("steps", "untimed"), [(1, 1), (3, 3), (8, 3)])
def test_a_few_untimed_steps_warm_each_phase_up(steps, untimed, events, tmp_path, monkeypatch):
    monkeypatch.setattr(probing, "_peak_memory", lambda *_: 1)
    list(probe((phases(0.0, 0.5),), 1, steps, tmp_path, CPU))
    assert events == 2 * (["step"] * untimed + ["look"] + ["step"] * steps + ["look"])


def test_more_steps_than_batches_go_through_the_images_again(events, tmp_path):
    assert len(list(probe((two_steps(),), 1, 5, tmp_path, CPU))) == 1
    assert events.count("step") == 2 + 3 + 5  # two for the memory, three to warm up, five timed


def test_probing_leaves_no_trace_on_trainings(tmp_path):
    trainings = (two_steps(policy="head"), two_steps())
    before = [run(training, tmp_path)[1].weights_sha256 for training in trainings]
    assert len(list(probe(trainings, 2, 3, tmp_path, CPU))) == 4
    assert [run(training, tmp_path)[1].weights_sha256 for training in trainings] == before
