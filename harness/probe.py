"""Training speed and memory, measured apart: an exclusive, warmed-up probe of the real training step.

Whatever speeds a grid up (several jobs at a time, shared or cached work) cannot touch these figures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.data.batches import Passes
from harness.learner import Learner
from harness.prefix.batch import Batch
from harness.records import Probed, now
from harness.schedule import phase_steps
from harness.seeds import stream
from harness.spec import WARM_UP
from harness.supplies import Supplies
from harness.tasks.task import task_of
from harness.training import Training


def probe(
    trainings: tuple[Training, ...], rounds: int, steps: int, cache: Path, device: torch.device
) -> Iterator[Probed]:
    """Measure each training `rounds` times, in interleaved rounds, so that a machine that drifts drifts for all alike.

    A training that raises is left out: it will fail in the same way when it is trained, and say so there. So is one
    that a solver takes the place of: it has no step to measure.
    """
    memory: dict[str, int] = {}
    supplies = Supplies(cache, device)
    left_out = {training.digest for training in trainings if training.codes}
    for number in range(rounds):
        # In another order each round, so that no cell always runs in the wake of the same other.
        for index in stream(number, "order of the probe").permutation(len(trainings)):
            training = trainings[index]
            if training.digest in left_out:
                continue
            try:
                torch.set_num_threads(training.train.threads)
                batches = task_of(training).batches(training, supplies.splits(training).train, device)
                if number == 0:
                    memory[training.digest] = _peak_memory(training, batches, supplies)
                rate = _images_per_s(training, batches, steps, supplies)
            except Exception:  # whatever a training may raise
                left_out.add(training.digest)
                continue
            yield Probed(training.digest, now(), number, rate, memory[training.digest])


def _images_per_s(training: Training, batches: Passes, steps: int, supplies: Supplies) -> float:
    """Return images per second over a whole training: each phase timed, weighted by the steps it takes."""
    total = training.train.epochs * batches.per_epoch
    begins = [*phase_steps(training.phases, total), total]
    shares = [(end - begin) / total for begin, end in pairwise(begins)]
    seconds = 0.0
    for index, share in enumerate(shares):
        learner = Learner(supplies.start(training).copy(), training, training.phases[index])
        _steps(learner, batches, min(steps, WARM_UP), training)
        _wait(supplies.device)
        began = time.perf_counter()
        _steps(learner, batches, steps, training)
        _wait(supplies.device)
        seconds += share * (time.perf_counter() - began) / steps
    return training.train.batch_size / seconds


def _steps(learner: Learner, batches: Passes, count: int, training: Training) -> None:
    endless = (batch for _ in cycle([None]) for batch in batches.epoch())
    for images, targets in islice(endless, count):
        learner.step(Batch(images, targets), training.train.lr)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(training: Training, batches: Passes, supplies: Supplies) -> int:
    """Return the peak over the phases of a training."""
    return max(_phase_peak_memory(training, index, batches, supplies) for index in range(len(training.phases)))


def _phase_peak_memory(training: Training, index: int, batches: Passes, supplies: Supplies) -> int:
    """Return the peak bytes of tensors over two steps of a phase: weights, gradients, optimizer, batch, activations.

    On CUDA the allocator's own peak; on a CPU the live tensor storages, counted operation by operation, since the
    resident memory of a process differs from run to run. Both leave out the decoded data, which all cells share. What
    is compiled shows no single operation, so on a CPU the step is counted as it is without.
    """
    device, start = supplies.device, supplies.start(training)
    if device.type == "cpu":
        training = replace(training, train=training.train.model_copy(update={"compile": "none"}))
    if device.type == "cuda":
        if training.train.compile != "none":  # while kernels are made and timed they take memory of their own
            _steps(Learner(start.copy(), training, training.phases[index]), batches, 2, training)
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    live = LiveTensors()
    context: AbstractContextManager[Any] = nullcontext() if device.type == "cuda" else live
    with context:
        learner = Learner(start.copy(), training, training.phases[index])
        _steps(learner, batches, 2, training)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) - before
    return live.peak


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the distinct tensor storages alive, and their peak, while it is the active mode."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, then count what it made."""
        result = func(*args, **(kwargs or {}))
        self.count(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result

    def count(self, tensors: Any) -> None:
        """Count the storages of `tensors` that are not counted yet."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._known:
                self._known.add(key)
                self.current += storage.nbytes()
                finalize(storage, self._forget, key, storage.nbytes())
        self.peak = max(self.peak, self.current)

    def _forget(self, key: int, nbytes: int) -> None:
        self._known.discard(key)
        self.current -= nbytes
