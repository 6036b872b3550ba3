"""The benchmarks against peers: the same batches and targets, a gate that sees what differs, a table that says so."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from harness import data, specfile
from harness.data.batches import Batches
from harness.learner import Learner, initial_model
from harness.plan import Plan
from harness.planning import make_plan
from harness.prefix import passes
from harness.prefix.batch import Batch
from harness.schedule import learning_rates
from harness.workspace import Workspace
from tests.benchmarks import grids, redundancy
from tests.benchmarks.cells import COLUMNS, FILE, Comparison, chosen, summary
from tests.benchmarks.gate import distance, strays
from tests.benchmarks.grids import SCALES, Grid, Scale, prepare
from tests.benchmarks.peers import common
from tests.benchmarks.peers.common import Cell
from tests.benchmarks.process import measure
from tests.benchmarks.rows import ONE_THREAD, ROWS, Row

CPU = torch.device("cpu")
SMALL = Scale(14, 2, 2, 1)


@pytest.fixture(autouse=True)
def _noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are made up wherever the tests run."""
    monkeypatch.setattr(grids, "CIFAR10", Path("nowhere"))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared grid of two policies and three trick sets."""
    wanted = Grid(("full", "last_stage"), (("warmup", "cosine", "no_bias_decay"), ("label_smoothing", "mixup")), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "CIFAR10", Path("nowhere"))
        return prepare(tmp_path_factory.mktemp("grids"), "small", wanted, SMALL)


def plan_of(grid: Path) -> Plan:
    return make_plan(specfile.read(grid / "experiments" / "small.yaml"), Workspace(grid))


def test_another_scale_has_images_and_a_reference_of_its_own(tmp_path: Path) -> None:
    specs = []
    for scale in (SMALL, replace(SMALL, train_per_class=8)):
        place = prepare(tmp_path, "small", Grid(("head",), (), 1), scale)
        specs.append((place / "spec.yaml").read_text())
        assert len([*(tmp_path / "images" / "train").rglob("*.jpg")]) == 10 * scale.train_per_class
    assert specs[0] != specs[1], "what the plain path left is told by its spec"


@pytest.mark.parametrize("number", range(6))
def test_a_peer_takes_the_steps_of_the_harness_bit_for_bit(grid: Path, number: int, tmp_path: Path) -> None:
    work, training = common.read(grid / "work.json"), plan_of(grid).replicates[number].training
    cell = work.cells[number]
    splits = data.load(training.located_data, training.data_content, training.seed, tmp_path, CPU)
    ours = Learner(initial_model(training, CPU), training)
    batches = Batches(training, splits.train, CPU)
    rates = learning_rates(training, batches.per_epoch)
    epochs = common.draw(work, cell)
    theirs = common.loaders(work, epochs, in_memory=True)["train"]
    module = common.network(work, cell)
    optimizer, scheduler = common.optimizer(module, work, cell)
    step = 0
    for drawn in epochs:
        ours.leave_evaluation()
        common.training_mode(module, cell)
        for (images, targets), (pixels, labels), batch in zip(batches.epoch(), theirs, drawn, strict=True):
            inputs, wanted = common.mixed(pixels, common.soft_targets(labels, work, cell), batch)
            assert torch.equal(inputs, images)
            assert torch.equal(wanted, targets)
            ours.step(Batch(images, targets), rates[step])
            optimizer.zero_grad()
            F.cross_entropy(module(inputs), wanted).backward()
            optimizer.step()
            scheduler.step()
            step += 1
    assert step == 4
    state = ours.module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_the_loaders_of_files_give_what_is_held_in_memory(grid: Path) -> None:
    work = common.read(grid / "work.json")
    epochs = common.draw(work, work.cells[0])
    files = common.training_loader(common.folder(work, "train"), epochs, work, workers=0)
    held = common.loaders(work, epochs, in_memory=True)
    for _ in epochs:
        for (left, one), (right, other) in zip(files, held["train"], strict=True):
            assert torch.equal(left, right)
            assert torch.equal(one, other)
    for (left, one), (right, other) in zip(common.evaluation_loader(work, "val", workers=0), held["val"], strict=True):
        assert torch.equal(left, right)
        assert torch.equal(one, other)


def test_an_iterator_that_is_never_used_takes_no_epoch(grid: Path) -> None:
    work = common.read(grid / "work.json")
    epochs = common.draw(work, work.cells[0])
    passes = common.Passes(epochs)
    iter(passes)
    assert [list(passes), list(passes)] == [[batch.keys for batch in epoch] for epoch in epochs]


def test_the_gate_sees_frozen_tensors_move_and_how_far_others_are() -> None:
    cell = Cell("head", "baseline", 0, [(["fc"], 0.0)], ["bn"], [1.0], 0.0, 0.0, False)
    begin = {"conv": torch.zeros(3), "fc": torch.zeros(2), "bn.running_mean": torch.zeros(1)}
    begin |= {f"bn.{name}": torch.ones(1) for name in ("running_var", "num_batches_tracked")}
    wanted = {**begin, "fc": torch.tensor([3.0, 4.0]), "bn.running_mean": torch.tensor([10.0])}
    assert strays(begin, wanted, cell) == []
    assert strays(begin, {**wanted, "conv": torch.tensor([0.0, 0.0, 1e-9])}, cell) == ["conv"]
    assert distance(begin, wanted, wanted, cell) == 0
    assert distance(begin, wanted, {**wanted, "fc": torch.tensor([3.0, 4.5])}, cell) == pytest.approx(0.1)
    assert distance(begin, wanted, {**wanted, "bn.running_mean": torch.tensor([9.0])}, cell) == pytest.approx(0.1)


def test_a_command_is_measured_with_what_it_starts_and_leaves_nothing(tmp_path: Path) -> None:
    child = "import time; held = b'x' * 2**27; time.sleep(100)"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(3)"
    made = measure([sys.executable, "-c", parent], tmp_path, tmp_path / "log", {}, 60)
    assert (made.status, made.peak_mib > 128, 3 <= made.wall_s < 60) == (0, True, True)
    failed = measure([sys.executable, "-c", "raise ValueError('so')"], tmp_path, tmp_path / "log", {}, 60)
    assert (failed.status, failed.last_line) == (1, "ValueError: so")


def test_peers_are_chosen_by_name_and_the_harness_always_runs() -> None:
    assert {row.name for row in chosen(ROWS, "timm,ray")} == {"harness", "timm", "ray"}
    assert chosen(ROWS, None) == ROWS
    assert [row.variant for row in chosen(ROWS, "timm,ray", "tuned")] == ["default", "tuned", "tuned"]
    assert [row.variant for row in chosen(ROWS, "timm", "nothing reused")] == ["default", "nothing reused"]


def hurried(grid: Path, out: Path) -> list[str]:
    """Write the grid's work with another learning rate and return the command that trains it."""
    content = json.loads((grid / "work.json").read_text())
    (out / "work.json").write_text(json.dumps({**content, "lr": 1.1 * content["lr"]}))
    return ["tests.benchmarks.peers.plain", str(out / "work.json"), str(out), "tuned", "last_stage", "baseline", "0"]


def test_a_comparison_tells_rates_and_voids_what_trained_something_else(tmp_path: Path) -> None:
    rows = {row.label: row for row in ROWS}
    wrong = Row("plain", "hurried", hurried, variables=ONE_THREAD)
    absent = replace(rows["harness-default"], name="absent", arguments=lambda *_: ["no_such_module"], ours=False)
    compared = [rows["harness-default"], rows["plain-documented"], wrong, absent]
    small = {"frozen": Grid(("last_stage",), (), 1)}
    made = Comparison(tmp_path, "tiny", SCALES["tiny"], small, compared).run(1).set_index("variant")
    table = (tmp_path / "cells_per_hour.csv").read_text().splitlines()
    assert table[0].split(",") == list(COLUMNS)
    assert len(table) == 5
    gates = dict(zip(made["row"] + " " + made.index, made["gate"], strict=True))
    assert gates["harness default"] == "ok: bits equal"
    assert gates["plain documented"].startswith("ok: weights within")
    assert gates["plain hurried"].startswith("void: the weights of last_stage | baseline | seed 0 differ by")
    assert gates["absent default"].startswith("void: it failed:")
    assert gates["absent default"].endswith("No module named no_such_module")
    hour = made["cells_per_hour"]
    assert hour.notna().tolist() == [True, True, False, False]
    documented = made.loc["documented"]
    assert documented["cells_per_hour"] == pytest.approx(3600 / documented["wall_s"], abs=0.1)
    ours = made[made["row"] == "harness"].iloc[0]
    assert documented["ours_is_times"] == pytest.approx(documented["wall_s"] / ours["wall_s"], abs=1e-3)
    assert ours["report_s"] > 0
    assert len(pd.read_csv(tmp_path / FILE)) == 4


def test_sittings_add_up_each_compared_with_its_own_measurements_of_the_harness() -> None:
    about = {"scale": "tiny", "grid": "mixed", "round": 0, "replicates": 10, "gate": "ok", "images": "noise"}
    about |= {"machine": "one", "load_before": 0.1, "versions": "torch 2", "report_s": 1.0, "peak_pss_mib": 5}
    measured = [
        {**about, "sitting": sitting, "row": row, "variant": "default", "ours": row == "harness", "wall_s": seconds}
        for sitting, row, seconds in [
            ("a", "harness", 10),
            ("a", "plain", 30),
            ("b", "harness", 40),
            ("b", "plain", 80),
        ]
    ]
    voided = {**measured[1], "row": "timm", "gate": "void: it failed"}
    ours, plain, timm = summary(pd.DataFrame([*measured, voided])).to_dict("records")
    assert (ours["rounds"], ours["ours_is_times"], ours["cells_per_hour"]) == (2, 1, 3600 * 10 / 25)
    assert [plain[f"ours_is_times{end}"] for end in ("", "_min", "_max")] == [2.5, 2, 3]
    assert (timm["gate"], timm["wall_s"]) == ("void: it failed", 30)
    assert pd.isna([timm["cells_per_hour"], timm["ours_is_times"]]).all()


def test_the_operations_of_a_grid_are_those_of_its_distinct_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the first step, in which two schedules do not differ yet: leading epochs are shared as a whole."""
    monkeypatch.setitem(redundancy.GRIDS, "heads", ("head", "false"))
    monkeypatch.setattr(redundancy, "SPEC", redundancy.SPEC.replace("mixup", "label_smoothing"))
    row = redundancy.measure("heads", tmp_path)
    assert row["plain_gflop"] > 3 * row["distinct_gflop"]
    assert 1 <= row["rho"] < 1.01
    monkeypatch.setattr(redundancy, "pack", lambda work, *_, **__: [(each.training,) for each in work])
    numbers = iter(range(1000))
    monkeypatch.setattr(passes, "_key", lambda *_: {"alone": next(numbers)})
    assert redundancy.measure("heads", tmp_path)["rho"] > 1.2, "each has computed the frozen stages for itself"
