"""What can be kept of a training: what frozen stages make of its images, and its teacher's logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from harness.data import ImageSet
from harness.data.augment import mirror
from harness.data.normalise import Normalise
from harness.digest import plain
from harness.evaluate import BATCH
from harness.freezing.apply import evaluation_mode, training_mode
from harness.freezing.resolve import ResolvedPhase
from harness.learner import teacher_of
from harness.models.bfloat16 import spare_strided_convolutions
from harness.prefix.cut import Cut, shallower
from harness.prefix.splice import begun_at, prefix_output
from harness.prefix.store import Refused, Wanted, load, require_room
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

    def compute() -> dict[str, Tensor]:
        module, earlier = need.copy(), _earlier(need, cut, _views_key)
        training_mode(module, phase)

        def made(rows: Tensor, mirrored: Tensor) -> Tensor:
            if earlier is None:
                return prefix_output(module, cut, need.view(rows, mirrored))
            with begun_at(module, earlier[0]):
                return prefix_output(module, cut, earlier[1]["views"][need.at(rows, mirrored)].to(need.device))

        return {"views": _of_all_views(need, made)}

    def check(made: Mapping[str, Tensor]) -> None:
        whole, rest = need.copy(), need.copy()
        for module in (whole, rest):
            training_mode(module, phase)
        _require_same(need, cut, whole, rest, made["views"])
        if not _same(whole.state_dict(), rest.state_dict()):
            raise Refused("what follows the frozen part moves otherwise on what is stored")

    return Wanted(_views_key(need, cut), _by_itself(need, compute), _by_itself(need, check))


def evaluated_sets(need: Need, cut: Cut) -> Wanted:
    """Return what the stages before `cut` make of the evaluated images: `val` and `test` [N, …]."""

    def compute() -> dict[str, Tensor]:
        module, earlier = need.copy(), _earlier(need, cut, _evaluated_key)
        evaluation_mode(module)
        require_room(sum(map(len, need.evaluated.values())), _one(need, module, cut))
        if earlier is None:
            return {
                name: _joined(prefix_output(module, cut, need.normalise(batch)) for batch in each.images.split(BATCH))
                for name, each in need.evaluated.items()
            }
        with begun_at(module, earlier[0]):
            return {
                name: _joined(prefix_output(module, cut, batch.to(need.device)) for batch in each.split(BATCH))
                for name, each in earlier[1].items()
            }

    def check(made: Mapping[str, Tensor]) -> None:
        module = need.copy()
        evaluation_mode(module)
        for name, each in need.evaluated.items():
            expected = module(need.normalise(each.images[:BATCH]))
            with begun_at(module, cut):
                found = module(made[name][:BATCH].to(need.device))
            if not _same(found, expected):
                raise Refused("evaluation gives other bits on what is stored")

    return Wanted(_evaluated_key(need, cut), _by_itself(need, compute), _by_itself(need, check))


def teacher_views(need: Need, cut: Cut) -> Wanted:
    """Return what the stages of the teacher before `cut`, that of its head, make of every view in training.

    Not its logits: a product with so few rows and columns may round otherwise in another row.
    """
    teacher = need.training.teacher
    assert teacher is not None
    named = {"teacher": [plain(teacher.model), teacher.origin.content, need.training.classes]}

    def compute() -> dict[str, Tensor]:
        module = _teacher(need)
        return {
            "views": _of_all_views(need, lambda rows, mirrored: prefix_output(module, cut, need.view(rows, mirrored)))
        }

    def check(made: Mapping[str, Tensor]) -> None:
        _require_same(need, cut, _teacher(need), _teacher(need), made["views"])

    return Wanted(
        {**_key(need, need.dtype), **named, **_of_views(need)}, _by_itself(need, compute), _by_itself(need, check)
    )


def _teacher(need: Need) -> nn.Module:
    module = teacher_of(need.training, need.device)
    assert module is not None
    return module


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
    weights = need.start.content_of(cut.frozen)
    return {"model": plain(need.training.model), "entry": cut.entry, "weights": weights}


def _of_views(need: Need) -> dict[str, Any]:
    return {"images": need.train.content, "views": need.views, "batch": need.size}


def _views_key(need: Need, cut: Cut) -> dict[str, Any]:
    return {**_key(need, need.dtype), **_prefix(need, cut), **_of_views(need)}


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


def _of_all_views(need: Need, made: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return what is made of every view, in batches of training's own size and precision."""
    views: list[Tensor] = []
    with need.autocast():
        for mirrored in range(need.views):
            for rows in torch.arange(len(need.train)).split(need.size):
                # A last batch that is not full is filled up: other sizes may have other kernels.
                full = torch.cat([rows, rows.new_zeros(need.size - len(rows))])
                batch = made(full, torch.full((need.size,), bool(mirrored)))
                if not isinstance(batch, Tensor) or batch.shape[0] != need.size:
                    raise Refused("the frozen part does not hand on a tensor with a row for each image")
                if not views:
                    require_room(len(need.train) * need.views, batch[0])
                views.append(batch[: len(rows)].cpu())
    return torch.cat(views)


def _require_same(need: Need, cut: Cut, whole: nn.Module, rest: nn.Module, views: Tensor) -> None:
    """Raise Refused where a network makes something else of what is kept than another, equal one of the images.

    Batches are drawn anew, so that images stand beside others than those beside which they were computed.
    """
    drawn = stream(0, "gate of the frozen prefix")
    for _ in range(_GATE_BATCHES):
        rows = torch.from_numpy(drawn.integers(len(need.train), size=need.size))
        mirrored = torch.from_numpy(drawn.random(need.size) < 0.5) & (need.views > 1)
        kept = views[need.at(rows, mirrored)].to(need.device)
        torch.manual_seed(0)  # dropout in what learns
        with need.autocast():
            expected = whole(need.view(rows, mirrored))
        torch.manual_seed(0)
        with need.autocast(), begun_at(rest, cut):
            found = rest(kept)
        if not _same(found, expected):
            raise Refused("in another batch the frozen part gives an image other bits")


def _one(need: Need, module: nn.Module, cut: Cut) -> Tensor:
    """Return what the stages before `cut` make of one evaluated image."""
    image = next(iter(need.evaluated.values())).images[:1]
    return prefix_output(module, cut, need.normalise(image))[0]


def _joined(batches: Iterable[Tensor]) -> Tensor:
    return torch.cat([batch.cpu() for batch in batches])


def _same(a: Any, b: Any) -> bool:
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(torch.equal(x, y) for x, y in pairs if isinstance(x, Tensor))


def _by_itself(need: Need, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return `call` without gradients, and with torch's generators as they were after it: training draws from them."""

    def called(*args: Any) -> Any:
        devices = [need.device] if need.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            return call(*args)

    return called
