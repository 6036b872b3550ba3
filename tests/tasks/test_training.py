"""Detectors and segmentors in the one loop that trains all networks: metrics, bits, breaks, freezing, pictures."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from harness import cli, specfile
from harness.checkpoint import Checkpoints
from harness.errors import HarnessError
from harness.execute.inline import InlineExecutor
from harness.execute.job import Job
from harness.learner import Learner
from harness.models.build import build_model
from harness.plan import Plan
from harness.planning import make_plan
from harness.prefix.batch import Batch
from harness.prepare import prepare
from harness.records import Epoch, Failed, Finished, Record
from harness.spec import Model
from harness.tasks import metrics, segmentation
from harness.tasks.metrics import METRICS, Task
from harness.track import Store
from harness.training import Training
from harness.workspace import Workspace
from tests.scenes import mask_folder, voc_detection, voc_segmentation

SPEC = """\
name: scenes
task: TASK
model: {name: mini_resnet14, head: HEAD}
weights:
  pretrain:
    data: {name: digits, classes: ["0", "1"], image_size: 16, train_per_class: 8}
    train: {epochs: 1, batch_size: 8, lr: 0.05}
data: {name: digit_scenes, classes: ["5", "6"], image_size: 64, train_images: 8, val_images: 4, test_images: 6}
train: {epochs: 2, batch_size: 4, lr: 0.01, augment: {flip: true}}
policies: [full, head]
tricks: [ema]
designs: [one_in]
seeds: 1
throughput: {rounds: 1, steps: 1}
"""
HEADS: dict[Task, str] = {"detection": "faster_rcnn", "segmentation": "fcn"}
Planned = Callable[..., Plan]


@pytest.fixture(params=[*HEADS])
def task(request: pytest.FixtureRequest) -> Task:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def path(task: Task, workspace: Workspace) -> Path:
    """A small study of the task."""
    file = workspace.root / "experiments" / "scenes.yaml"
    file.write_text(SPEC.replace("TASK", task).replace("HEAD", HEADS[task]))
    return file


@pytest.fixture
def planned(path: Path, workspace: Workspace) -> Planned:
    """A function that plans it with overrides."""
    return lambda *overrides: make_plan(specfile.read(path, overrides), workspace)


def training(plan: Plan, policy: str = "full", tricks: str = "baseline") -> Training:
    """A training from random weights, so that nothing has to come before it."""
    found = (r.training for r in plan.replicates if (r.cell.policy, r.cell.trick_set) == (policy, tricks))
    return replace(next(found), origin=None)


def perform(training: Training, place: Workspace, every_s: float | None = None) -> Iterator[Record]:
    return InlineExecutor("cpu").run([Job((training,), place.cache, checkpoints=Checkpoints(place, every_s))])


def finished(records: list[Record]) -> Finished:
    failed = [record.reason for record in records if isinstance(record, Failed)]
    assert not failed
    (last,) = (record for record in records if isinstance(record, Finished))
    return last


def numbers(records: list[Record]) -> list[object]:
    """All that the records say but times."""
    last = finished(records)
    epochs = [(r.epoch, r.step, r.train_loss, r.val) for r in records if isinstance(r, Epoch)]
    return [epochs, last.weights_sha256, last.test, last.changed, last.pictures]


def test_a_training_tells_all_metrics_of_its_task_and_draws(task: Task, planned: Planned, workspace: Workspace) -> None:
    records = list(perform(training(planned()), workspace))
    last = finished(records)
    assert set(last.test) == {metric.name for metric in METRICS[task]}
    trained = {metric.name for metric in METRICS[task]} - {*metrics.FLOORS}
    assert all(set(record.val) == trained for record in records if isinstance(record, Epoch))
    assert all(0 <= value <= 1 for value in last.test.values())
    assert last.test_predictions is None
    (picture,) = last.pictures
    assert Image.open(io.BytesIO(picture)).size[0] > 300


def test_the_same_seed_gives_the_same_bits(planned: Planned, workspace: Workspace) -> None:
    one, two = (numbers(list(perform(training(planned()), workspace))) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(("policy", "tricks"), [("full", "ema"), ("head", "baseline")])
def test_a_training_broken_off_goes_on_bit_for_bit(
    policy: str, tricks: str, planned: Planned, workspace: Workspace
) -> None:
    asked = training(planned("train.epochs=3"), policy, tricks)
    unbroken = numbers(list(perform(asked, workspace)))
    for record in (records := perform(asked, workspace, every_s=0)):
        if isinstance(record, Epoch) and record.epoch == 2:
            records.close()  # type: ignore[attr-defined]  # as where the process dies
            break
    resumed = list(perform(asked, workspace, every_s=0))
    assert numbers(resumed) == unbroken


def test_what_moves_though_it_is_frozen_is_told(
    planned: Planned, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, step = training(planned(), "head"), Learner.step

    def meddling(self: Learner, batch: Batch, lr: float) -> Tensor:
        loss = step(self, batch, lr)
        name = self.phase.groups[0].names[0]
        frozen = next(p for key, p in self.module.named_parameters() if not key.startswith(asked.head))
        assert name != frozen
        frozen.data += 1
        return loss

    monkeypatch.setattr(Learner, "step", meddling)
    (failed,) = (record for record in perform(asked, workspace) if isinstance(record, Failed))
    assert failed.kind == "freeze_violation"


def test_a_batch_in_parts_has_each_image_once(planned: Planned, workspace: Workspace) -> None:
    whole, parts = (
        finished(list(perform(training(planned("policies=[head]", f"train.accumulate={count}"), "head"), workspace)))
        for count in (1, 2)
    )
    assert set(whole.changed) == set(parts.changed)
    batch = Batch([torch.zeros(3, 4, 4 + i) for i in range(5)], [{"labels": torch.tensor([i])} for i in range(5)])
    split = list(batch.parts(2))
    assert [len(part.inputs) for part in split] == [len(part.targets) for part in split] == [3, 2]
    assert [int(target["labels"]) for part in split for target in part.targets] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("size", "count"), [(5, 2), (7, 3), (8, 3), (4, 4), (9, 4)])
def test_images_of_one_size_go_with_their_own_objects(size: int, count: int) -> None:
    batch = Batch(torch.arange(size), [torch.tensor(i) for i in range(size)])
    for part in batch.parts(count):
        assert part.inputs.tolist() == [int(target) for target in part.targets]


def test_a_study_runs_to_its_report_and_its_store(task: Task, path: Path, workspace: Workspace) -> None:
    assert cli.main(["run", str(path), "--inline"]) == 0
    folder = workspace.root / "results" / "scenes"
    text = (folder / "report.md").read_text()
    score = METRICS[task][0]
    for said in (f"Effects on test {score.label}", "## Predictions", "ema", "By comparison, the mean over cells: "):
        assert said in text
    cells = pd.read_csv(folder / "cells.csv")
    assert (cells["n"] == 1).all()
    assert (cells["images_per_s"] > 0).all()
    assert {metric.test for metric in METRICS[task][1:]} | {score.mean} <= set(cells)
    store = Store(workspace)
    ((_, grid),) = store.grids()
    runs = [run for run in store.children(grid) if run.info.status == "FINISHED"]
    assert {metric.test for metric in METRICS[task]} <= set(runs[0].data.metrics)
    assert (folder / "figures" / "predictions.png").stat().st_size > 10_000


def test_a_frozen_backbone_from_the_file_of_a_classifier_keeps_its_bits(planned: Planned, workspace: Workspace) -> None:
    source = build_model(Model(name="mini_resnet14"), 7, seed=3)
    file = workspace.root / "experiments" / "classifier.pt"
    torch.save(source.state_dict(), file)
    plan = planned("weights={checkpoint: classifier.pt}", "policies=[head]", "tricks=[]")
    prepare(plan, workspace.cache)
    asked = replace(plan.replicates[0].training, save_to=str(workspace.root / "trained.pt"))
    last = finished(list(perform(asked, workspace)))
    assert last.changed
    assert all(name.startswith(asked.head) for name in last.changed)
    trained = torch.load(workspace.root / "trained.pt", weights_only=True)
    kept = [value for name, value in trained.items() if not name.startswith(asked.head)]
    own = [value for name, value in source.state_dict().items() if not name.startswith("fc.")]
    assert len(kept) == len(own)
    assert all(torch.equal(one, other) for one, other in zip(kept, own, strict=True))


@pytest.mark.parametrize(
    ("name", "head", "made"),
    [
        ("voc_detection", "faster_rcnn", voc_detection),
        ("voc_segmentation", "deeplabv3", voc_segmentation),
        ("image_mask_folder", "fcn", mask_folder),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_sets_in_files_are_trained_on_alike_streamed_and_not(
    name: str, head: str, made: Callable[[Path], Path], stream: bool, workspace: Workspace
) -> None:
    made(workspace.root / "data")
    task: Task = "detection" if name == "voc_detection" else "segmentation"
    file = workspace.root / "experiments" / "files.yaml"
    before, after = SPEC.replace("TASK", task).replace("HEAD", head).split("data: {name: digit_scenes")
    classes = ", classes: [a, b, c]" if name == "image_mask_folder" else ""
    files = f"data: {{name: {name}, root: ../data, image_size: 64, stream: {str(stream).lower()}, workers: 0{classes}}}"
    file.write_text(before + files + after[after.index("\n") :])
    plan = make_plan(specfile.read(file), workspace)
    prepare(plan, workspace.cache)
    last = finished(list(perform(replace(plan.replicates[0].training, origin=None), workspace)))
    assert set(last.test) == {metric.name for metric in METRICS[task]}


def test_a_detector_without_objects_in_an_image_learns_all_the_same() -> None:
    module: nn.Module = build_model(Model(name="mini_resnet14", head="faster_rcnn"), 2, seed=0, image_size=64)
    objects = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = module([torch.zeros(3, 64, 64)] * 2, [objects] * 2)
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_masks_in_which_nothing_counts_teach_nothing() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    made = {"out": logits, "aux": logits * 2}
    loss = segmentation.loss(made, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()  # type: ignore[union-attr]
    half = torch.full((2, 4, 4), 255)
    half[0] = torch.arange(16).reshape(4, 4) % 3
    wanted = 1.5 * F.cross_entropy(logits[:1], half[:1])
    assert torch.isclose(segmentation.loss({"out": logits, "aux": logits}, half), wanted)


@pytest.mark.parametrize("task", ["detection"], indirect=True)
def test_a_detector_cannot_be_compiled(planned: Planned) -> None:
    with pytest.raises(HarnessError, match="what a detector does depends on what it finds"):
        planned("train.compile=default")


def test_tricks_of_the_step_apply(planned: Planned, workspace: Workspace) -> None:
    tricks = "{mixed_precision: , no_bias_decay: , warmup: {epochs: 1}, cosine: , ema: }"
    plan = planned(f"tricks={tricks}", "policies=[full]", "designs=[all]")
    (together,) = {r.cell.trick_set for r in plan.replicates} - {"baseline"}
    assert min(finished(list(perform(training(plan, "full", together), workspace))).test.values()) >= 0


def test_tricks_of_whole_images_are_invalid(task: Task, planned: Planned) -> None:
    plan = planned("tricks=[mixup, cutmix, label_smoothing, distillation, trivial_augment, random_erasing, cosine]")
    odd = {judgement.cell.tricks: judgement for judgement in plan.judgements if judgement.verdict == "invalid"}
    assert ("cosine",) not in odd
    assert len(odd) == 6
    assert all(judgement.reason.startswith(f"{task}: ") for judgement in odd.values())
