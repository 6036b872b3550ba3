"""Operations of a network counted on shapes alone, and the speed at which this machine does them.

Convolutions and matrix products count, multiply and add apart; the rest takes next to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from harness.freezing.apply import evaluation_mode, training_mode
from harness.freezing.resolve import Group, ResolvedPhase
from harness.models.build import build_model
from harness.models.dense import run_on_shapes
from harness.schedule import phase_steps
from harness.spec import Model
from harness.training import Training

_BUDGET_FLOPS = 2e9
"""Work of the one timed forward pass at most."""


def of_training(training: Training) -> float:
    """Return the operations of training on one image, averaged over the phases by the steps they take."""
    products = _products(training.model, training.classes, training.kept_classes, training.data.image_size)
    total = 10_000
    begins = [*phase_steps(training.phases, total), total]
    shares = [(end - begin) / total for begin, end in pairwise(begins)]
    phases = zip(shares, training.phases, strict=True)
    return sum(share * sum(product.flops(phase.trainable) for product in products) for share, phase in phases)


def of_forward(training: Training) -> float:
    """Return the operations of one image's forward pass in evaluation."""
    return _forward(training.model, training.classes, training.kept_classes, training.data.image_size)


def seconds_per_image(training: Training, device: torch.device) -> float:
    """Time the forward pass of the training's network, at its batch size or as much of it as the budget allows."""
    batch = int(min(training.train.batch_size, max(1, _BUDGET_FLOPS // of_forward(training))))
    size = training.data.image_size
    module = build_model(training.model, training.classes, 0, training.kept_classes, size).to(device)
    evaluation_mode(module)
    images = torch.zeros(batch, 3, size, size, device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(training.train.threads)
    try:
        return min(_forward_s(module, images, device) for _ in range(3)) / batch
    finally:
        torch.set_num_threads(threads)


def _forward_s(module: nn.Module, images: Tensor, device: torch.device) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        module(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _on_meta(model: Model, classes: int, kept_classes: int | None, image_size: int) -> tuple[nn.Module, Tensor]:
    """Return a network and two images without values."""
    with torch.device("meta"):
        module = build_model(model, classes, 0, kept_classes, image_size)
        return module, torch.empty(2, 3, image_size, image_size)


@lru_cache
def _forward(*network: Any) -> float:
    module, images = _on_meta(*network)
    evaluation_mode(module)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run_on_shapes(module, images)
    return float(counter.get_total_flops()) / len(images)


@dataclass(frozen=True)
class _Product:
    """A convolution or a product of matrices, as it occurs in training."""

    forward: float
    """Operations on one image."""
    factors: tuple[frozenset[str], ...]
    """Of each factor that may have a gradient, the parameters that it depends on."""

    def flops(self, trainable: frozenset[str]) -> float:
        """Return the operations on one image, forward and backward: as many again for each factor's gradient."""
        return self.forward * (1 + min(2, sum(not names.isdisjoint(trainable) for names in self.factors)))


@lru_cache
def _products(*network: Any) -> tuple[_Product, ...]:
    """Return what a training step of a network multiplies; one forward pass serves all policies."""
    module, images = _on_meta(*network)
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    training_mode(module, ResolvedPhase(0.0, (Group(tuple(names.values()), 0.0, 1.0),), (), False))
    with FlopCounterMode(display=False) as counter, _Recorder(counter, names) as recorder:
        run_on_shapes(module, images)
    return tuple(_Product(flops / len(images), factors) for flops, factors in recorder.found)


class _Recorder(TorchFunctionMode):
    """Notes each function that multiplies, with what its factors depend on."""

    def __init__(self, counter: FlopCounterMode, names: Mapping[Tensor, str]) -> None:
        super().__init__()
        self._counter, self._names = counter, names
        self._below: dict[Any, frozenset[str]] = {}
        """Nodes of the graph of gradients, each with the parameters that it leads to."""
        self.found: list[tuple[int, tuple[frozenset[str], ...]]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call `func`; a vector (a bias, say) among its arguments is no factor."""
        before = self._counter.get_total_flops()
        factors = tuple(
            self._parameters(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim > 1
        )
        result = func(*args, **(kwargs or {}))
        if flops := self._counter.get_total_flops() - before:
            self.found.append((flops, tuple(filter(None, factors))))
        return result

    def _parameters(self, tensor: Tensor) -> frozenset[str]:
        return frozenset([self._names[tensor]]) if tensor in self._names else self._leading_to(tensor.grad_fn)

    def _leading_to(self, node: Any) -> frozenset[str]:
        if node not in self._below:
            variable = getattr(node, "variable", None)  # of the nodes that end the graph, which are parameters
            found = [self._leading_to(below) for below, _ in getattr(node, "next_functions", ())]
            self._below[node] = frozenset(() if variable is None else [self._names[variable]]).union(*found)
        return self._below[node]
