"""The job's images per second on a GPU against what the GPU can do; its exactness first.

`python -m tests.benchmarks.gpu FOLDER [--budget 560] [--device cuda:0] [--only checks,limits,speed,packing,streaming]`
writes `checks.csv`, `limits.csv`, `speed.csv`, `packing.csv`, `streaming.csv` and `skipped.csv` into FOLDER, each row
as soon as it is known, and ends within the budget: what there was no time for is in `skipped.csv`. It needs torch from
2.11 on, torchvision, numpy, scikit-learn, threadpoolctl, pillow and pydantic, and no mlflow. `--device cpu` measures a
small network on a processor; `--tiny` runs everything once on next to nothing, to see that it runs.

Speed is that of `Learner.step` in the loop of a job: images as bytes on the device, mirrored at random and normalised
there. `tflops` counts convolutions and matrix products; `of_limit` is its share of a large matrix product in that
precision.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.data.decoding import Undecoded
from harness.data.images import StreamedImages
from harness.devices import device_name
from harness.execute.job import Job
from harness.execute.worker import configure
from harness.freezing.apply import begin_phase, training_mode
from harness.models import outputs
from harness.models.build import build_model
from harness.spec import Compile
from harness.training import Training
from tests.benchmarks.gpu_checks import PRECISIONS, begin, case, checks, images_for, steps

CIFAR10_TRAINING = 50_000 * 30
"""Images that a small job sees: 30 epochs of CIFAR-10."""
_EXPECTED_S = {"none": 12, "default": 80, "reduce-overhead": 60, "max-autotune-no-cudagraphs": 150, "max-autotune": 150}
"""Seconds that a row may take, by how its network is compiled; less is left to it, and it is skipped."""


class OutOfTime(BaseException):
    """The budget is spent."""


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    cases: dict[str, tuple[str, int, int]]
    """By name: network, pixels on a side and images of a batch."""
    matrix: int
    seconds: float
    """How long speed is measured for."""
    checked: tuple[str, int]
    """Network and pixels of the checks."""
    reused: tuple[str, int]
    """Those whose frozen stages are computed once, and at every step."""
    processes: tuple[int, ...]
    files: int


_SMALL = ("cifar_resnet8", 8)
GPU = Scale(
    {"ResNet-50, 224 px": ("resnet50", 224, 256), "ResNet-18, 32 px": ("resnet18", 32, 512)},
    8192,
    3.0,
    ("cifar_resnet8", 32),
    ("resnet50", 224),
    (1, 2, 4, 8),
    256,
)
CPU = Scale({"ResNet-18, 32 px": ("resnet18", 32, 64)}, 1024, 3.0, _SMALL, _SMALL, (1, 2), 256)
TINY = Scale({"tiny": ("cifar_resnet8", 8, 8)}, 64, 0.01, _SMALL, _SMALL, (2,), 4)


class Tables:
    """CSV files that are whole after every row, and the time that is left."""

    def __init__(self, folder: Path, budget: float) -> None:
        self._folder, self._end = folder, time.monotonic() + budget
        folder.mkdir(parents=True, exist_ok=True)
        self._begun: set[str] = set()

    def write(self, table: str, row: dict[str, object]) -> None:
        """Append a row; the first one of a table brings its header."""
        with (self._folder / f"{table}.csv").open("a" if table in self._begun else "w", newline="") as file:
            writer = csv.DictWriter(file, row.keys(), lineterminator="\n")
            if table not in self._begun:
                writer.writeheader()
            writer.writerow(row)
        self._begun.add(table)
        print(table, *row.values(), sep=" | ", flush=True)

    def attempt(self, table: str, row: dict[str, object], measure: Callable[[], dict[str, object]], s: float) -> None:
        """Measure a row that may take `s` seconds; what fails, or has not the time, is a row of `skipped`."""
        why = ""
        if self._end - time.monotonic() < s:
            why = f"{self._end - time.monotonic():.0f} s are left, and it may take {s:.0f}"
        else:
            try:
                self.write(table, {**row, **measure()})
            except OutOfTime:
                self.skip(table, row, "the budget was spent")
                raise
            except Exception as error:
                why = f"{type(error).__name__}: {error}".splitlines()[0]
        if why:
            self.skip(table, row, why)

    def skip(self, table: str, row: dict[str, object], why: str) -> None:
        """Say what was not measured."""
        self.write("skipped", {"table": table, "row": ", ".join(map(str, row.values())), "why": why})


def seconds_of(work: Callable[[], object], device: torch.device, least: float, repeats: int = 1) -> float:
    """Return the seconds that `work` takes, once warm, as the mean over at least so many repeats and seconds."""
    work()
    _wait(device)
    began, done = time.perf_counter(), 0
    while done < repeats or time.perf_counter() - began < least:
        work()
        done += 1
        if device.type == "cpu" or done % 10 == 0:
            _wait(device)
    _wait(device)
    return (time.perf_counter() - began) / done


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_limits(tables: Tables, device: torch.device, scale: Scale) -> dict[str, float]:
    """Measure a large matrix product in each precision, and a copy within the device; return FLOP/s by precision."""
    found = {}
    n = scale.matrix
    for name, dtype in {**PRECISIONS, "tf32": None}.items():
        if name == "tf32" and device.type != "cuda":
            continue
        a, b = (torch.randn(n, n, device=device).to(dtype or torch.float32) for _ in range(2))
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        found[name] = 2 * n**3 / seconds_of(lambda a=a, b=b: a @ b, device, scale.seconds / 10, 3)  # type: ignore[misc]
        tables.write("limits", {"what": f"{n}³ matrix product, {name}", "value": found[name] / 1e12, "unit": "TFLOP/s"})
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.empty(n * n * 16, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rate = 2 * source.nbytes / seconds_of(lambda: target.copy_(source), device, scale.seconds / 10, 3)
    tables.write("limits", {"what": "copy, bytes read and written", "value": rate / 1e9, "unit": "GB/s"})
    # Convolutions of float32 use TF32 as torch's default has it; matrix products do not.
    return {**found, "fp32": found.get("tf32", found["fp32"])}


def flops_per_image(training: Training) -> float:
    """Return the operations of a training step on one image."""
    with torch.device("meta"):
        module = build_model(training.model, training.classes, seed=0)
        images = torch.empty(2, 3, training.data.image_size, training.data.image_size)
        targets = torch.empty(2, training.classes)
    begin_phase(module, training.phases[0])
    training_mode(module, training.phases[0])
    with FlopCounterMode(display=False) as counter:
        outputs.loss(module(images), targets).backward()
    return float(counter.get_total_flops()) / 2


def speed(training: Training, device: torch.device, scale: Scale, limit: float) -> dict[str, object]:
    """Measure the images per second of one job, and its memory."""
    began = time.perf_counter()
    learner, batches = begin(training, device, images_for(training, 8 * training.train.batch_size, device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    count = 1 if device.type == "cpu" else batches.per_epoch
    steps(learner, batches, count)
    _wait(device)
    first = time.perf_counter() - began
    seconds = seconds_of(lambda: steps(learner, batches, count), device, scale.seconds) / count
    rate = training.train.batch_size / seconds
    flops = rate * flops_per_image(training)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else float("nan")
    return {
        "images_per_s": round(rate, 1),
        "step_ms": round(1000 * seconds, 3),
        "tflops": float(f"{flops / 1e12:.4g}"),
        "of_limit": round(flops / limit, 4),
        "peak_gib": round(peak, 2),
        "until_warm_s": round(first, 1),
    }


def speed_rows(device: torch.device, tiny: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield policy, precision and settings, what matters most first, what takes longest last."""
    best: dict[str, Any] = {"channels_last": True, "fused": True}
    half = ("bf16",) if device.type == "cpu" else ("bf16", "fp16")
    for precision in half:
        yield "full", precision, {**best, "compile": "none" if tiny else "default"}
        yield "full", precision, best
        yield "full", precision, {}
    yield "full", "bf16", {"fused": True}
    yield "full", "bf16", {"channels_last": True}
    yield "full", "fp32", {}
    yield "full", "fp32", best
    for policy in ("last_stage", "head"):
        for precision in (*half, "fp32"):
            yield policy, precision, best
    if not tiny:
        yield "full", "fp32", {**best, "compile": "default"}
        if device.type == "cuda":
            yield "full", "bf16", {**best, "compile": "reduce-overhead"}
            yield "last_stage", "bf16", {**best, "compile": "default"}
            yield "full", "bf16", {**best, "compile": "max-autotune-no-cudagraphs"}


def _small_job(device_called: str, barrier: Any, seconds: float, shape: tuple[str, int, int], queue: Any) -> None:
    device, (model, size, batch) = torch.device(device_called), shape
    training = case(model, size, "bf16", batch_size=batch, channels_last=True, fused=True)
    configure(Job((training,), Path()))
    learner, batches = begin(training, device, images_for(training, 8 * batch, device))
    steps(learner, batches, 3)
    _wait(device)
    barrier.wait()
    began, seen = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        steps(learner, batches, batches.per_epoch)
        _wait(device)
        seen += batches.per_epoch * batch
    queue.put(seen / (time.perf_counter() - began))


def packing(processes: int, device: torch.device, scale: Scale) -> dict[str, object]:
    """Train small jobs side by side on one device."""
    context = get_context("spawn")
    barrier, queue = context.Barrier(processes), context.Queue()
    model, size, batch = list(scale.cases.values())[-1]
    arguments = (str(device), barrier, 2 * scale.seconds, (model, size, min(batch, 128)), queue)
    jobs = [context.Process(target=_small_job, args=arguments, daemon=True) for _ in range(processes)]
    for job in jobs:
        job.start()
    try:
        rate = sum(queue.get(timeout=90) for _ in jobs)
    finally:
        for job in jobs:
            job.kill()
            job.join()
    return {"images_per_s": round(rate, 1), "trainings_per_hour": round(3600 * rate / CIFAR10_TRAINING, 2)}


def streaming(workers: int, device: torch.device, scale: Scale) -> dict[str, object]:
    """Decode JPEGs of 500 × 375 pixels to 224 px, as streamed images are."""
    drawn = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in range(scale.files):
            coarse = PIL.Image.fromarray(drawn.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            coarse.resize((500, 375), PIL.Image.Resampling.BICUBIC).save(path := f"{folder}/{number}.jpg", quality=90)
            paths.append(path)
        labels = np.zeros(scale.files, dtype=np.int64)
        images = StreamedImages(Undecoded(tuple(paths), 224), np.arange(scale.files), labels, workers, device)
        size = min(32, scale.files)

        def once() -> None:
            for _ in images.batches(torch.arange(scale.files), size):
                pass

        seconds = seconds_of(once, device, scale.seconds)
    rate = scale.files / seconds
    return {"images_per_s": round(rate, 1), "per_worker": round(rate / max(1, workers), 1)}


def main(arguments: Sequence[str]) -> None:
    """Measure all that there is time for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", type=float, default=560, metavar="S")
    parser.add_argument("--device", default="cuda:0", type=torch.device)
    parser.add_argument("--only", default="checks,limits,speed,packing,streaming")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(arguments)
    device, parts = given.device, given.only.split(",")
    scale = TINY if given.tiny else GPU if device.type == "cuda" else CPU
    tables = Tables(given.folder, given.budget)

    def out_of_time(*_: object) -> None:
        raise OutOfTime

    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, given.budget)
    configure(Job((case(*scale.checked),), Path()))
    try:
        run(parts, tables, device, scale, given.tiny)
    except OutOfTime:
        tables.skip("all", {}, f"the budget of {given.budget:g} s was spent; what follows was not begun")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def run(parts: list[str], tables: Tables, device: torch.device, scale: Scale, tiny: bool) -> None:
    """Measure `parts` in their order."""
    tables.write("limits", {"what": "device", "value": device_name(device), "unit": f"torch {torch.__version__}"})
    limits = measure_limits(tables, device, scale)
    if "checks" in parts:
        on_gpu: list[Compile] = ["default", "reduce-overhead"]
        modes = [] if tiny else on_gpu if device.type == "cuda" else on_gpu[:1]
        with tempfile.TemporaryDirectory() as folder:
            for name, measure in checks(device, Path(folder), scale.checked, scale.reused, modes):
                tables.attempt("checks", {"check": name}, lambda m=measure: {"outcome": m()}, 10)  # type: ignore[misc]
    if "speed" in parts:
        for policy, precision, settings in speed_rows(device, tiny):
            for name, (model, size, batch) in scale.cases.items():
                if precision != "bf16" and name != next(iter(scale.cases)):
                    continue  # the time goes to the larger network
                usual = {"channels_last": False, "fused": False, "compile": "none"}
                training = case(model, size, precision, policy, batch_size=batch, **settings)
                row = {"case": name, "batch_size": batch, "policy": policy, "precision": precision, **usual, **settings}
                tables.attempt(
                    "speed",
                    row,
                    lambda t=training, p=precision: speed(t, device, scale, limits[p]),  # type: ignore[misc]
                    min(_EXPECTED_S[str(row["compile"])], 1000 * scale.seconds),
                )
    if "packing" in parts:
        for processes in scale.processes:
            row = {"processes": processes}
            tables.attempt("packing", row, lambda n=processes: packing(n, device, scale), 25)  # type: ignore[misc]
    if "streaming" in parts:
        for workers in (0, 1, min(12, os.cpu_count() or 1)):
            row = {"workers": workers}
            tables.attempt("streaming", row, lambda n=workers: streaming(n, device, scale), 10)  # type: ignore[misc]


if __name__ == "__main__":
    main(sys.argv[1:])
