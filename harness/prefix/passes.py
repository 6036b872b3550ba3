"""What can be kept of a training: what frozen stages, and those of its teacher, make of its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.bits import content_sha256
from harness.data import ImageSet
from harness.data.augment import mirror
from harness.data.normalise import Normalise
from harness.digest import plain
from harness.evaluate import BATCH
from harness.freezing.apply import begin_phase, evaluation_mode, training_mode
from harness.freezing.resolve import ResolvedPhase
from harness.learner import teacher_of
from harness.models.bfloat16 import spare_strided_convolutions
from harness.models.stages import is_under
from harness.prefix.cut import Cut, rest_of, shallower
from harness.prefix.gate import own, require_same_evaluation, require_same_training, tried
from harness.prefix.splice import begun_at, prefix_output
from harness.prefix.store import Wanted, load, require_room
from harness.seeds import stream
from harness.start import Start
from harness.training import Training
from harness.versions import version_mark

_GATE_BATCHES = 2


@dataclass(frozen=True)
class Need:
    """A training's network, images and way of computing."""

    training: Training
    start: Start
    train: ImageSet
    evaluated: Mapping[str, ImageSet]
    """Validation and test, by name."""
    device: torch.device
    device_name: str
    folder: Path
    """Where tensors are kept."""

    @property
    def dtype(self) -> torch.dtype:
        """That a training step computes in; evaluation is in float32."""
        precision = self.training.recipe.precision
        return precision.dtype(self.device.type) if precision else torch.float32

    @property
    def size(self) -> int:
        """Images that the network sees at a time in training."""
        return self.training.train.batch_size // self.training.train.accumulate

    @property
    def views(self) -> int:
        """Views of each training image: as it is, and mirrored where training mirrors."""
        return 2 if self.training.train.augment.flip else 1

    @property
    def normalise(self) -> Normalise:
        """What maps images to what the network takes."""
        return Normalise(self.training.data, self.device)

    def view(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        """Return training images of `rows` [N], those mirrored that are to be, normalised, on the device."""
        return self.normalise(mirror(self.train.images[rows.to(self.device)], mirrored.to(self.device)))

    def at(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        """Return where views lie among all that are kept: every image as it is, then every one mirrored."""
        return rows + len(self.train) * mirrored

    def copy(self) -> nn.Module:
        """Return a copy of the network before its first step."""
        module = self.start.copy()
        if self.dtype == torch.bfloat16 and self.device.type == "cpu":
            spare_strided_convolutions(module)
        return module

    def autocast(self) -> torch.autocast:
        """Return the precision of a training step."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def trained_views(need: Need, cut: Cut, phase: ResolvedPhase) -> Wanted:
    """Return what the stages before `cut` make of every view in training: `views` [views × N, …]."""

    def network() -> nn.Module:
        module = need.copy()
        begin_phase(module, phase)
        training_mode(module, phase)
        return module

    in_phase = network()

    def key_at(need: Need, cut: Cut) -> dict[str, Any]:
        modes = {"modes": _modes(in_phase, cut, need.training)}
        return {**_key(need, need.dtype), **_of_views(need), **_prefix(need, cut), **modes}

    return _of_all_views(need, cut, network, key_at(need, cut), lambda: _earlier(need, cut, key_at))


def evaluated_sets(need: Need, cut: Cut) -> Wanted:
    """Return what the stages before `cut` make of the evaluated images: `val` and `test` [N, …]."""

    def compute() -> dict[str, Tensor]:
        module, earlier = need.copy(), _earlier(need, cut, _evaluated_key)
        evaluation_mode(module)
        image = next(iter(need.evaluated.values())).images[:1]
        made = tried(module, cut, need.normalise(image))
        require_room(sum(map(len, need.evaluated.values())), made[0], need.folder)
        if earlier is None:
            sets = {name: map(need.normalise, each.images.split(BATCH)) for name, each in need.evaluated.items()}
        else:
            sets = {name: map(partial(own, device=need.device), each.split(BATCH)) for name, each in earlier[1].items()}
        with begun_at(module, earlier and earlier[0]):
            return {
                name: torch.cat([prefix_output(module, cut, batch).cpu() for batch in batches])
                for name, batches in sets.items()
            }

    def check(made: Mapping[str, Tensor]) -> None:
        module = need.copy()
        evaluation_mode(module)
        for name, each in need.evaluated.items():
            require_same_evaluation(
                module, cut, need.normalise(each.images[:BATCH]), own(made[name][:BATCH], need.device)
            )

    return Wanted(_evaluated_key(need, cut), _by_itself(need, compute), _by_itself(need, check))


def teacher_views(need: Need, cut: Cut) -> Wanted:
    """Return what the stages of the teacher before `cut`, that of its head, make of every view in training.

    Not its logits: a product with so few rows and columns may round otherwise in another row.
    """
    assert need.training.teacher is not None
    teacher = teacher_of(need.training, need.device)
    assert teacher is not None
    content = content_sha256([*teacher.state_dict().values()])
    named = {"teacher": plain(need.training.teacher.model), "entry": cut.entry, "weights": content}
    key = {**_key(need, need.dtype), **_of_views(need), **named}
    return _of_all_views(need, cut, lambda: deepcopy(teacher), key, lambda: None, learns=False)


def _of_all_views(
    need: Need,
    cut: Cut,
    network: Callable[[], nn.Module],
    key: Mapping[str, Any],
    earlier: Callable[[], tuple[Cut, dict[str, Tensor]] | None],
    learns: bool = True,
) -> Wanted:
    """Return what the stages of `network` before `cut` make of every view, in training's own batches and precision.

    `earlier` returns what is kept at a cut before; `learns` is whether the rest of the network is to be trained.
    """

    def compute() -> dict[str, Tensor]:
        before, module, count = earlier(), network(), len(need.train)
        with need.autocast():
            first = tried(network(), cut, need.view(torch.arange(need.size) % count, _all(need, False)))
            require_room(count * need.views, first[0], need.folder)
            views = torch.empty(count * need.views, *first.shape[1:], dtype=first.dtype)
            for mirrored, rows in product(range(need.views), torch.arange(count).split(need.size)):
                # A last batch that is not full is filled up: other sizes may have other kernels.
                full, which = torch.cat([rows, rows.new_zeros(need.size - len(rows))]), _all(need, bool(mirrored))
                at = need.at(full, which)
                inputs = before[1]["views"][at].to(need.device) if before else need.view(full, which)
                with begun_at(module, before and before[0]):
                    made = prefix_output(module, cut, inputs)
                views[at[: len(rows)]] = made[: len(rows)].cpu()
        return {"views": views}

    def check(made: Mapping[str, Tensor]) -> None:
        whole, rest = network(), network()
        drawn = stream(0, "gate of the frozen prefix")
        for _ in range(_GATE_BATCHES):  # so that images stand beside others than those beside which they were computed
            rows = torch.from_numpy(drawn.integers(len(need.train), size=need.size))
            mirrored = torch.from_numpy(drawn.random(need.size) < 0.5) & (need.views > 1)
            with need.autocast():
                kept = own(made["views"][need.at(rows, mirrored)], need.device)
                require_same_training(whole, rest, cut, need.view(rows, mirrored), kept, learns)

    return Wanted(key, _by_itself(need, compute), _by_itself(need, check))


def _all(need: Need, mirrored: bool) -> Tensor:
    """Return for a whole batch that each image is mirrored, or none."""
    return torch.full((need.size,), mirrored)


def _modes(module: nn.Module, cut: Cut, training: Training) -> list[str]:
    """Return the modules before the cut that are in training mode: dropout in front of what learns, among others."""
    rest = rest_of(training, cut)
    return [
        name
        for name, child in module.named_modules()
        if child.training and not [*child.children()] and not any(is_under(name, prefix) for prefix in rest)
    ]


def _key(need: Need, dtype: torch.dtype) -> dict[str, Any]:
    """Return what the bits of any pass depend on besides the network and the images."""
    training = need.training
    return {
        "normalised": [list(training.data.mean), list(training.data.std)],
        "threads": torch.get_num_threads(),
        "dtype": str(dtype),
        "channels_last": training.train.channels_last,
        "device": need.device_name,
        "versions": version_mark(),
    }


def _prefix(need: Need, cut: Cut) -> dict[str, Any]:
    return {"model": plain(need.training.model), "entry": cut.entry, "weights": need.start.content_of(cut.frozen)}


def _of_views(need: Need) -> dict[str, Any]:
    return {"images": need.train.content, "views": need.views, "batch": need.size}


def _evaluated_key(need: Need, cut: Cut) -> dict[str, Any]:
    images = {name: each.content for name, each in need.evaluated.items()}
    return {**_key(need, torch.float32), **_prefix(need, cut), "images": images, "batch": BATCH}


def _earlier(need: Need, cut: Cut, key: Callable[[Need, Cut], dict[str, Any]]) -> tuple[Cut, dict[str, Tensor]] | None:
    """Return what is kept already at the nearest cut before `cut`, from where the rest is computed."""
    for before in shallower(need.training, cut):
        path = Wanted(key(need, before), dict, lambda _: None).path(need.folder)
        if path.exists():
            return before, load(path)
    return None


def _by_itself(need: Need, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return `call` without gradients, and with torch's generators as they were after it: training draws from them."""

    def called(*args: Any) -> Any:
        devices = [need.device] if need.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            return call(*args)

    return called
