"""CNN codes: a linear classifier, fitted by a solver, on what a stage of a fixed network puts out.

The network is in evaluation mode and sees the training images as they are, without augmentation. Codes are
standardised by the training images' mean and standard deviation, so that one list of C serves networks and stages
whose outputs differ in scale by orders of magnitude, and the solvers converge.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.bits import state_sha256
from harness.data import Images
from harness.data.normalise import Normalise
from harness.evaluate import BATCH
from harness.freezing import check
from harness.freezing.apply import evaluation_mode
from harness.freezing.policy import Solver
from harness.models import weights
from harness.models.build import layout_of
from harness.records import Epoch, Finished, now
from harness.seeds import derive
from harness.supplies import Supplies
from harness.training import Training

_MOST_ITERATIONS = 10_000


def fit(training: Training, supplies: Supplies) -> Iterator[Epoch | Finished]:
    """Fit the training's codes, yield one record of an epoch, then evaluate on test, once.

    The training loss is the mean, over the training images, of what the solver minimises beside its penalty:
    cross-entropy, or the squared hinge summed over the classes. C is chosen on validation, the smaller where two do
    alike. Raises FreezeViolation where the network changed.
    """
    # Imported here, like scikit-learn below, so that no other training waits for it.
    from threadpoolctl import threadpool_limits

    spec = training.codes
    assert spec is not None  # the caller's choice
    began = time.perf_counter()
    splits = supplies.splits(training)
    start = supplies.start(training)
    module, before = start.copy(), start.tensors
    stage = dict(layout_of(training.model, training.classes).stages)[spec.stage]
    normalise = Normalise(training.data, supplies.device)

    def coded(images: Images) -> tuple[np.ndarray, np.ndarray]:
        return codes_of(module, stage[-1], images, normalise, spec.rectified), images.labels.cpu().numpy()

    with threadpool_limits(training.train.threads):
        (train, train_labels), (val, val_labels) = coded(splits.train), coded(splits.val)
        seed = derive(training.seed, "codes") % 2**32
        fits = [solve(spec.solver, c, train, train_labels, seed) for c in spec.cs]
        tops = [linear.top1(val, val_labels) for linear in fits]
        chosen = fits[tops.index(max(tops))]
        train_loss = loss(spec.solver, chosen.scores(train), train_labels)
        test, test_labels = coded(splits.test)
        predictions = chosen.predict(test)
    yield Epoch(training.digest, now(), 1, 0, train_loss, {"top1": max(tops)})

    moved = sorted(check.moved(module, before))
    if moved:
        raise check.FreezeViolation(f"frozen but moved: {', '.join(moved)}")
    coefficients = {"codes.weight": torch.from_numpy(chosen.weight), "codes.bias": torch.from_numpy(chosen.bias)}
    # Without the head, which nothing uses.
    heads = tuple(f"{prefix}." for prefix in training.head)
    backbone = {name: tensor.cpu() for name, tensor in module.state_dict().items() if not name.startswith(heads)}
    state = backbone | coefficients
    if training.save_to:
        weights.save(state, Path(training.save_to))
    yield Finished(
        digest=training.digest,
        timestamp=now(),
        test={"top1": chosen.top1(test, test_labels)},
        trainable_params=sum(tensor.numel() for tensor in coefficients.values()),
        wall_s=time.perf_counter() - began,
        weights_sha256=state_sha256(state),
        changed=weights.changed(state, supplies.source(training.origin)),
        test_predictions=predictions,
        test_labels=test_labels,
        duplicates_dropped=splits.duplicates_dropped,
        notes=_notes(spec.cs, chosen, fits),
    )


@torch.inference_mode()
def codes_of(module: nn.Module, name: str, images: Images, normalise: Normalise, rectified: bool) -> np.ndarray:
    """Return the codes [N, D] of images, float64: what the submodule `name` puts out, averaged over height and width.

    `rectified` applies a ReLU before the average.
    """
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        # A copy: a ReLU that follows may work in place.
        output = F.relu(output) if rectified else output.clone()
        if output.ndim not in (2, 4) or output.shape[2:3] != output.shape[3:4]:
            raise ValueError(
                f"{name} puts out {list(output.shape)}, not [N, D] or [N, C, H, H]: these are no CNN codes"
            )
        found.append(output.mean(dim=(2, 3)) if output.ndim == 4 else output)

    evaluation_mode(module)
    handle = module.get_submodule(name).register_forward_hook(keep)
    try:
        for batch, _ in images.batches(torch.arange(len(images)), BATCH):
            module(normalise(batch))
    finally:
        handle.remove()
    return torch.cat(found).double().cpu().numpy()


@dataclass(frozen=True)
class Linear:
    """A linear classifier of codes [N, D]; for two classes, one row for the second of them."""

    c: float
    weight: np.ndarray
    """[K, D] or [1, D], for codes as they are: standardising is part of it."""
    bias: np.ndarray
    """[K] or [1]."""
    converged: bool

    def scores(self, codes: np.ndarray) -> np.ndarray:
        """Return the scores [N, K] or [N, 1] of codes [N, D]."""
        return np.asarray(codes @ self.weight.T + self.bias)

    def predict(self, codes: np.ndarray) -> np.ndarray:
        """Return the predicted class [N] of codes [N, D]."""
        scores = self.scores(codes)
        return np.asarray(scores.argmax(1) if len(self.weight) > 1 else (scores[:, 0] > 0).astype(np.int64))

    def top1(self, codes: np.ndarray, labels: np.ndarray) -> float:
        """Return the fraction of codes [N, D] whose predicted class is that of labels [N]."""
        return float((self.predict(codes) == labels).mean())


def solve(solver: Solver, c: float, codes: np.ndarray, labels: np.ndarray, seed: int) -> Linear:
    """Return the classifier that minimises ½|w|² + C·Σ loss over standardised codes [N, D] with labels [N].

    The loss is the squared hinge of each class against the rest, or the cross-entropy of the softmax.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    # The SVM's dual, for more features than images, is solved coordinate by coordinate in an order that is drawn.
    options = {"C": c, "max_iter": _MOST_ITERATIONS, "random_state": seed}
    classifier = LinearSVC(dual="auto", **options) if solver == "svm" else LogisticRegression(**options)
    scaler = StandardScaler().fit(codes)
    classifier.fit(scaler.transform(codes), labels)
    weight = classifier.coef_ / scaler.scale_
    converged = bool(np.max(classifier.n_iter_) < _MOST_ITERATIONS)  # scikit-learn warns as well
    return Linear(c, weight, classifier.intercept_ - weight @ scaler.mean_, converged)


def loss(solver: Solver, scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean loss of scores [N, K] or [N, 1] against labels [N]."""
    if solver == "softmax":
        logits = scores if scores.shape[1] > 1 else np.hstack([np.zeros_like(scores), scores])
        return F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    classes = np.arange(scores.shape[1]) if scores.shape[1] > 1 else np.ones(1)
    margins = scores * np.where(labels[:, None] == classes, 1, -1)
    return float((np.maximum(0, 1 - margins) ** 2).sum(1).mean())


def _notes(cs: tuple[float, ...], chosen: Linear, fits: list[Linear]) -> tuple[str, ...]:
    """Say which C was chosen, and whether that or a solver that gave up puts the choice in doubt."""
    at_edge = len(cs) > 1 and chosen.c in (cs[0], cs[-1])
    choice = f"C = {chosen.c:g} was chosen on validation out of {', '.join(f'{c:g}' for c in cs)}"
    lost = [f"{fit.c:g}" for fit in fits if not fit.converged]
    return (
        choice + (", at the edge of the list" if at_edge else ""),
        *([f"the solver did not converge at C = {', '.join(lost)}"] if lost else []),
    )
