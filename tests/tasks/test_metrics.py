"""A study of every task from its records to its report: by its own score everywhere, and by top-1 nowhere."""

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from harness import report, sections, show, specfile, views
from harness.artifacts import CURVES, PREDICTIONS, finals, picture
from harness.compare import Side, compare, table, words
from harness.effects import cells, effects
from harness.errors import HarnessError
from harness.execute.job import Job
from harness.foreign import grid_of
from harness.grid import GridRun
from harness.plan import Plan
from harness.planning import make_plan
from harness.records import Epoch, Failed, Finished, Probed, Record, Started
from harness.results import Grid, read_grid, read_tables
from harness.session import Reported
from harness.sides import read_side
from harness.summary import summarise
from harness.tasks.metrics import METRICS, TOP1, Metric, Task, score_of, task_in
from harness.track import GridLog, Store
from harness.tuning import Tuning
from harness.versions import versions
from harness.workspace import Workspace

OTHERS: tuple[Task, ...] = ("detection", "segmentation")
SPEC = """\
name: scores
model: {name: cifar_resnet8}
data: {name: digits, image_size: 8, train_per_class: 16}
train: {epochs: 2, batch_size: 16, lr: 0.05}
policies: [full, head]
tricks: {warmup: {epochs: 1}, mixup: }
designs: [one_in, leave_one_out, factorial, {cumulative: [warmup, mixup]}, all]
axes: {data: {plain: {data.shift: []}, inverted: {data.shift: [invert]}}}
tune: {lr: [0.05, 0.1], seeds: 1}
seeds: 3
primary: {contrasts: [{kind: one_in, trick: warmup, policy: full, scenario: data plain}], bound: 0.01}
throughput: {rounds: 2, steps: 1}
"""
LOST = "head | warmup | data inverted"
"""The cell whose last seed diverges."""


def value_of(cell: str, seed: int, place: int) -> float:
    """Return what a replicate is worth on test by the metric at a place in its task's list: gains add up."""
    gains = {"head": -0.2, "warmup": 0.05, "mixup": -0.03, "together": 0.04, "inverted": -0.01}
    level = 0.6 + sum(gain for name, gain in gains.items() if name in cell)
    return round(level - 0.1 * place + 0.01 * (seed % 7) * (1 + ("warmup" in cell)), 6)


class Stub:
    """An executor that makes up the records of a task's trainings."""

    places = 1

    def __init__(self, plan: Plan, task: Task) -> None:
        self._metrics = METRICS[task]
        self._whose = {c.training.digest: (c.cell.name, c.seed) for c in plan.candidates}
        self._whose |= {r.training.digest: (r.cell.name, r.seed) for r in plan.replicates}
        self._lr = {c.training.digest: c.lr for c in plan.candidates}

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:  # noqa: ARG002
        for training in (training for job in jobs for training in job.trainings):
            digest = training.digest
            if jobs[0].probe:
                yield from (Probed(digest, 0, n, 900.0 + n + 10 * len(self._whose[digest][0]), 10**6) for n in (0, 1))
            else:
                yield from self._train(digest, *self._whose[digest])

    def _train(self, digest: str, cell: str, seed: int) -> Iterator[Record]:
        yield Started(digest, 1, "a made-up CPU")
        if cell == LOST and seed == 2:
            yield Failed(digest, 2, "diverged", "training loss is nan in epoch 1")
            return
        found = {metric.name: value_of(cell, seed, place) for place, metric in enumerate(self._metrics)}
        first = self._metrics[0].name
        for epoch in (1, 2):
            val = {name: value - 0.2 + 0.05 * epoch for name, value in found.items()}
            # Not as on test, and by the score alone.
            val[first] += 0.2 * ("mixup" in cell) + 0.1 * (self._lr.get(digest) == 0.1)
            yield Epoch(digest, epoch + 1, epoch, 10 * epoch, 1 / epoch, val)
        yield Finished(digest, 4, found, 100, 1.0, digest, (), None, None, 0, pictures=pictures(cell))

    def stop(self) -> int:
        return 0


def pictures(cell: str) -> tuple[bytes, ...]:
    """Return two PNGs that differ from cell to cell."""
    contents = []
    for number in (1, 2):
        content = io.BytesIO()
        Image.new("RGB", (24, 16), (len(cell), 100 * number, 0)).save(content, "PNG")
        contents.append(content.getvalue())
    return tuple(contents)


@dataclass(frozen=True)
class Made:
    """A study that was run and reported."""

    task: Task
    grid: Grid
    store: Store
    folder: Path
    plan: Plan
    cells: pd.DataFrame

    @property
    def score(self) -> Metric:
        return score_of(self.task)


def of_task(plan: Plan, task: Task) -> Plan:
    """Return a plan whose study is of another task: what it would train is another matter than its scores."""
    return replace(plan, study=replace(plan.study, spec=plan.study.spec.model_copy(update={"task": task})))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Callable[[Task], Made]:
    """A function that runs, once, a study of a task whose trainings are made up."""
    done: dict[Task, Made] = {}

    def of(task: Task) -> Made:
        if task not in done:
            place = Workspace(tmp_path_factory.mktemp(task))
            shutil.copy(empty_store, place.database)
            done[task] = _run(task, place)
        return done[task]

    return of


def _run(task: Task, place: Workspace) -> Made:
    path = place.root / "experiments" / "scores.yaml"
    path.parent.mkdir()
    path.write_text(SPEC)
    study = specfile.read(path)
    plan = of_task(make_plan(study, place), task)
    store = Store(place, create=True)
    log = GridLog(store, "scores", study.grid, versions())
    executor: Any = Stub(plan, task)
    tuning = Tuning(plan, store, log, executor, "cpu", place).run()
    while True:
        try:
            next(tuning)
        except StopIteration as end:
            choices, lacking = end.value
            break
    assert not lacking
    plan = of_task(make_plan(study, place, choices), task)
    executor = Stub(plan, task)
    list(GridRun(plan, store, log, executor, "cpu", place).run())
    grid = read_grid(store, "scores", study.grid)
    assert grid is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "FORMS", {"svg": {"Date": None}})  # three forms of every figure take thrice the time
        table, _ = report.write_report(grid, place.results / "scores", {}, "harness run x.yaml")
    return Made(task, grid, store, place.results / "scores", plan, table)


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest, made: Callable[[Task], Made]) -> Made:
    """The study of each task but classification."""
    return made(request.param)


# What is kept.


def test_runs_have_every_metric_of_their_task_and_no_other(other: Made) -> None:
    (parent,) = (run for run in [other.store.find_grid("scores", other.plan.study.grid)] if run)
    children = [run for run in other.store.children(parent) if run.info.status == "FINISHED"]
    names = [metric.name for metric in METRICS[other.task]]
    for run in children:
        found = {key for key in run.data.metrics if key.startswith(("test_", "val_"))}
        tuned = run.data.tags["harness.kind"] == "tuning"
        assert found == {*(f"val_{name}" for name in names), *(() if tuned else (f"test_{name}" for name in names))}
    (run,) = (r for r in children if r.info.run_name == "full | warmup | data plain | seed 1")
    for place, name in enumerate(names):
        assert run.data.metrics[f"test_{name}"] == value_of("full | warmup", 1, place)
        assert len(other.store.client.get_metric_history(run.info.run_id, f"val_{name}")) == 2
    curves = other.store.read_artifact(run, CURVES)
    assert curves is not None
    assert curves.decode().splitlines()[0] == "epoch,step,train_loss," + ",".join(f"val_{name}" for name in names)
    assert other.store.read_artifact(run, PREDICTIONS) is None
    assert other.store.read_artifact(run, picture(2)) == pictures("full | warmup | data plain")[1]


def test_the_plan_names_the_task_where_it_is_no_classification(other: Made) -> None:
    assert summarise(other.plan)["task"] == other.task == other.grid.plan["task"]
    assert "task" not in summarise(of_task(other.plan, "classification"))


def test_rates_are_chosen_by_the_score_on_validation(other: Made) -> None:
    for choice in other.grid.plan["tuning"].values():
        assert choice["lr"] == 0.1
        assert [lr for lr, _ in choice[other.score.val]] == [0.05, 0.1]
    assert "at 0.1" in (other.folder / "tables" / "rates.tex").read_text()


# What is made of it.


def test_tables_have_the_columns_of_the_task(other: Made) -> None:
    runs, table = (pd.read_csv(other.folder / f"{name}.csv") for name in ("runs", "cells"))
    assert list(runs.columns) == [
        "data",
        "policy",
        "warmup",
        "mixup",
        "seed",
        "cell",
        "status",
        "reason",
        *finals(other.task),
    ]
    for place, metric in enumerate(METRICS[other.task]):
        wanted = [
            np.nan if (row["cell"], row["seed"]) == (LOST, 2) else value_of(row["cell"], row["seed"], place)
            for row in runs.to_dict("records")
        ]
        np.testing.assert_array_equal(runs[metric.test], wanted)
        column = metric.mean if metric == other.score else metric.test
        np.testing.assert_allclose(table[column], runs.groupby("cell", sort=False)[metric.test].mean())
    assert other.score.sd in table
    assert other.score.val_mean in table
    assert not [column for column in (*runs, *table) if "top1" in column or "per_class" in column]
    assert set(other.grid.curves.columns) > {other.score.val}


def test_effects_are_on_the_score(other: Made) -> None:
    found = pd.read_csv(other.folder / "effects.csv", keep_default_na=False, na_values=[""])
    assert set(found["metric"]) == {
        other.score.test,
        "images_per_s",
        "train_s",
        "peak_memory_bytes",
        "trainable_params",
    }
    (row,) = found[
        (found["metric"] == other.score.test)
        & (found["kind"] == "one_in")
        & (found["trick"] == "warmup")
        & (found["policy"] == "full")
        & (found["scenario"] == "data plain")
    ].to_dict("records")
    assert row["estimate"] == pytest.approx(0.05 + 0.01)  # twice the slope over seeds 0, 1, 2
    assert (row["n"], row["role"]) == (3, "primary")
    assert np.isnan(row["examples_low"])  # no predictions are kept


def test_what_diverged_counts_as_a_guess_that_is_worth_nothing(other: Made) -> None:
    found = effects(other.grid)
    (row,) = found[
        (found["metric"] == other.score.test)
        & (found["kind"] == "one_in")
        & (found["trick"] == "warmup")
        & (found["policy"] == "head")
        & (found["scenario"] == "data inverted")
    ].to_dict("records")
    base = [value_of("head | baseline | data inverted", seed, 0) for seed in (0, 1, 2)]
    mine = [value_of(LOST, 0, 0), value_of(LOST, 1, 0), 0.0]
    assert row["n"] == 2
    assert row["with_chance"] == pytest.approx(np.subtract(mine, base).mean())


def test_guessing_among_classes_is_right_once_in_so_many() -> None:
    assert TOP1.guess(10) == 0.1
    assert {score_of(task).guess(10) for task in OTHERS} == {0.0}


# What is said of it.


def words_of(text: str) -> str:
    """Return the words of a page, without pictures and markup."""
    return unescape(re.sub(r"<[^>]*>", " ", re.sub(r'src="[^"]*"', "", text)))


def test_the_report_speaks_of_the_score_and_never_of_top_1(other: Made) -> None:
    page = (other.folder / "report.html").read_text()
    label = other.score.label
    alt = " ".join(unescape(text) for text in re.findall(r'alt="([^"]*)"', page))
    for text in (words_of(page) + alt, (other.folder / "report.md").read_text()):
        for told in (
            f"without tricks, test {label} by policy",
            f"Effects on test {label}",
            f"Points of test {label}, paired by seed",
            f"{other.score.headline} against cost",
            f"points of {label}",
            f"test {label}, %",
            *(f"{metric.label}, %" for metric in METRICS[other.task][1:]),
            f"The interquartile mean of test {label}",
            f"validation {label} (%, last epoch)",
            f"Test {label} against training speed",
            "1 primary contrast",
        ):
            assert told in " ".join(text.split()), told
        plain = text.lower().replace("pixel accuracy", "")
        for foreign in ("top-1", "top1", "accura", "per class", "{score", "classif"):
            assert foreign not in plain, foreign
    assert f"<summary>The table: effects on test {label}</summary>" in page
    latex = "".join(path.read_text() for path in (other.folder / "tables").iterdir())
    assert label.replace("%", "") in latex
    assert "top-1" not in latex


def test_every_figure_is_drawn_with_the_score_at_its_axes(other: Made) -> None:
    drawn = sections.figures(other.grid, other.cells, effects(other.grid))
    assert set(drawn) == set(sections.ALT) - {"batch_norm", "transfer"}
    for name, figure in drawn.items():
        said = " | ".join(artist.get_text() for artist in figure.findobj(Text))
        assert "top-1" not in said.lower()
        assert "accuracy" not in said.lower()
        if name != "predictions":
            assert other.score.label in said or other.score.headline in said, name
        assert (other.folder / "figures" / f"{name}.svg").stat().st_size > 1000
    for name in ("pareto", "memory"):
        title = [artist.get_text() for artist in drawn[name].findobj(Text) if " against " in artist.get_text()]
        assert title[0].startswith(f"{other.score.headline} against ")


def test_figures_are_drawn_again_from_the_tables_alone(other: Made) -> None:
    tables = read_tables(other.folder)
    assert tables.score == other.score
    assert task_in(tables.cells.columns) == other.task
    again = cells(tables.runs, None, other.task)
    np.testing.assert_allclose(again[other.score.mean], tables.cells[other.score.mean])


def test_pictures_are_of_the_first_cell_and_the_best_and_the_worst_on_validation(other: Made) -> None:
    wanted = ("full | baseline | data plain", "full | warmup + mixup | data plain", "head | baseline | data inverted")
    assert other.grid.pictures == {(cell, 0): list(pictures(cell)) for cell in wanted}


def test_the_terminal_and_the_pages_of_mlflow_name_the_score(other: Made, tmp_path: Path) -> None:
    result = Reported(tmp_path, other.cells, {}, None, other.grid.score, f"test {other.grid.score.label}")
    told = "\n".join([show.report_text(result), *show.budget_lines(result, 1e6)])
    assert f"test {other.score.label}, %" in told
    assert "top-1" not in told
    saved = json.dumps([views.leaderboard("0" * 32, other.grid.plan)])
    assert f"metrics.`{other.score.test}`" in saved
    assert f"metrics.`{other.score.val}`" in saved
    assert "top1" not in saved


def test_studies_of_one_task_are_compared_by_its_score(other: Made) -> None:
    from_disk = read_side(str(other.folder))
    assert from_disk.grid.score == other.score
    found = compare(from_disk, Side("itself", grid_of(other.grid.runs)))
    assert set(found.differences["metric"]) >= {other.score.test}
    assert (found.differences.loc[found.differences["metric"] == other.score.test, "estimate"].dropna() == 0).all()
    assert f"A, {other.score.label} %" in table(found).columns
    assert "top-1" not in " ".join(words(found))


def test_studies_of_two_tasks_are_not_compared(made: Callable[[Task], Made]) -> None:
    one, two = (Side(task, made(task).grid) for task in OTHERS)
    with pytest.raises(HarnessError, match=r"detection is judged by mAP at IoU 0\.5 and segmentation by mean IoU"):
        compare(one, two)


def test_columns_of_no_task_are_taken_for_classification() -> None:
    assert task_in(["policy", "seed"]) == "classification"
    assert [task_in([score_of(task).test]) for task in METRICS] == list(METRICS)
    assert len({score_of(task).name for task in METRICS}) == len(METRICS)
    assert all(len({metric.name for metric in metrics}) == len(metrics) for metrics in METRICS.values())
