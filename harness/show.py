"""What a command prints: plans, progress and results as text."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.outline import frozen_lines, grid_lines, led_lines, reasons, wrapped
from harness.tasks.metrics import TOP1, Metric
from harness.views import OVERVIEWS, OWN_PAGE
from harness.wording import NOTHING, count, duration, named, score_text

if TYPE_CHECKING:
    import pandas as pd

    from harness.compare import Comparison
    from harness.estimate import Estimate
    from harness.grid import Outcome
    from harness.plan import Plan
    from harness.progress import Update
    from harness.session import Reported

_LINES_EVERY_S = 5.0
_WATCH_EVERY_S = 2.0
_COLUMNS = 8
"""Policies side by side in a terminal, at most."""


def plan_json(plan: Plan, seconds: Estimate) -> dict[str, Any]:
    """Return the plan as JSON data, with its estimate."""
    from harness.summary import led, reused, summarise

    return {
        **summarise(plan),
        "reuse": reused(plan),
        "led": led(plan),
        "estimate": {**asdict(seconds), "total_s": seconds.total_s},
    }


def plan_text(plan: Plan, seconds: Estimate) -> str:
    """Return the plan as a person reads it."""
    from harness.summary import led, reused, summarise

    facts = summarise(plan)
    seeds = ", ".join(map(str, facts["seeds"]))
    lines = [
        f"{facts['name']}: {count(len(facts['cells']), 'cell')} × {count(len(facts['seeds']), 'seed')} ({seeds}) "
        f"= {count(facts['replicates'], 'replicate')}, {count(facts['trainings'], 'training')}",
        f"  {facts['settings']['model']}, {facts['settings']['weights']}",
        f"  {facts['settings']['data']}",
        f"  {facts['settings']['train images per seed']} training images a seed, "
        f"{count(facts['settings']['steps per epoch'], 'step')} an epoch, {facts['settings']['classes']} classes",
        "",
        *grid_lines(facts),
        "",
    ]
    odd = [j for j in facts["judgements"] if j["verdict"] != "valid"]
    lines += (
        ["Skipped or shared:", *reasons(odd)]
        if odd
        else ["Nothing is skipped, and no two cells are the same training."]
    )
    first = Counter(f"{p['what']} ({count(p['epochs'], 'epoch')})" for p in facts["prerequisites"])
    if first:
        lines += [
            "",
            "Trained once, first:",
            *(f"  {what}{f' × {times}' if times > 1 else ''}" for what, times in first.items()),
        ]
    if facts["candidates"]:
        lines += [
            "",
            f"Tuned before: {count(facts['candidates'], 'training')} on seeds outside the study, chosen on validation",
        ]
    lines += [*frozen_lines(reused(plan)), *led_lines(led(plan)), "", *_primary(plan)]
    parts = {
        "pretraining": seconds.prerequisites_s,
        "tuning": seconds.tuning_s,
        "speed probe": seconds.probe_s,
        "trainings": seconds.trainings_s,
    }
    told = ", ".join(f"{name} {duration(value)}" for name, value in parts.items() if value)
    lines += ["", f"About {duration(seconds.total_s)} on this machine ({told}), to within a factor of two."]
    return "\n".join(lines)


def _primary(plan: Plan) -> list[str]:
    """Return what the study is made to judge, and the smallest effect that it can show."""
    seeds, family = len(plan.study.spec.seeds), plan.family
    if family is None:
        told = "No primary contrasts are named: nothing will be claimed, every effect is exploratory."
        return wrapped("", told)
    names = "; ".join(named(member) for member in family.members)
    lines = wrapped("Primary    ", f"{count(len(family.members), 'contrast')}: {names}")
    return lines + [line for told in plan.facts.power_lines(family, seeds) for line in wrapped(" " * 11, told)]


@contextmanager
def progress() -> Iterator[Callable[[Update], None]]:
    """Show updates as they come: a bar on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def show(update: Update) -> None:
            if update.stage not in tasks:
                tasks[update.stage] = bar.add_task(update.stage, total=update.total, text="")
            failed = f"{update.failed} failed  " if update.failed else ""
            bar.update(tasks[update.stage], completed=update.done, total=update.total, text=failed + update.text)

        yield show


def watch(text: Callable[[], str]) -> None:
    """Show a text anew every 2 s until Ctrl-C: in its place on a terminal, as more lines elsewhere."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    try:
        if not console.is_terminal:
            while True:
                print(text(), flush=True)
                time.sleep(_WATCH_EVERY_S)
        with Live(Text(text()), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_WATCH_EVERY_S)
                live.update(Text(text()), refresh=True)
    except KeyboardInterrupt:
        return


class _Lines:
    """Plain lines: one when a stage begins, one now and then, one at its end."""

    def __init__(self) -> None:
        self._stage = ""
        self._first = 0
        self._began = self._last = 0.0

    def __call__(self, update: Update) -> None:
        """Print a line if it is time for one."""
        now = time.monotonic()
        if update.stage != self._stage:
            self._stage, self._first, self._began, self._last = update.stage, update.done, now, -_LINES_EVERY_S
        if now - self._last < _LINES_EVERY_S and update.done < update.total:
            return
        self._last = now
        since = update.done - self._first  # what was done by an earlier run took no time of this one
        left = (now - self._began) / since * (update.total - update.done) if since else 0
        parts = [f"{update.stage} {update.done}/{update.total}"]
        parts += [f"{update.failed} failed"] if update.failed else []
        parts += [f"about {duration(left)} left"] if left else []
        parts += [update.text] if update.text else []
        print(", ".join(parts), file=sys.stderr, flush=True)


def run_text(outcome: Outcome, result: Reported, again: bool) -> str:
    """Return what a run did, then its report."""
    if outcome.trained or outcome.shared or outcome.failures:
        did = f"{outcome.trained} trained"
        did += f", {outcome.shared} shared" if outcome.shared else ""
        did += f", {len(outcome.failures)} failed" if outcome.failures else ""
        did += f", {outcome.settled} already done" if outcome.settled else ""
    else:
        did = f"Nothing to train: all {outcome.settled} replicates are settled"
    lines = [report_text(result), "", did + "."]
    if outcome.failures:
        lines += ["Failed:", *(f"  {failure}" for failure in outcome.failures[:10])]
        lines += [f"  and {len(outcome.failures) - 10} more"] if len(outcome.failures) > 10 else []
    if outcome.ended_early:
        lines += [
            f"Ended early: {outcome.ended_early}",
            "Once that is mended, `harness rerun --failed SPEC` runs those again, and the others.",
        ]
    elif result.unfinished and not again and not outcome.failures:
        lines += [f"{result.unfinished} of them failed; `harness rerun --failed SPEC` tries those again."]
    return "\n".join(lines)


def report_text(result: Reported) -> str:
    """Return the table of cells, where the report lies, and how to open the MLflow UI."""
    lines = ["", _table(result.cells, result.metric, result.score), "", f"Report     {result.folder / 'report.html'}"]
    lines += [f"MLflow UI  {_program()} ui   (in {result.workspace.root})"] if result.workspace else []
    lines += [f"           {line}" for line in _links(result.links)]
    return "\n".join(lines)


def _links(links: Mapping[str, str]) -> list[str]:
    """Return the links to the views of a grid, and the names of those that the page's own menu leads to."""
    told = (*OVERVIEWS, OWN_PAGE)
    more = [name for name in links if name not in told]
    lines = [f"{name:20} {link}" for name, link in links.items() if name in told]
    return [*lines, f"and in the page's menu of views: {', '.join(more)}"] if more else lines


def budget_lines(result: Reported, seconds: float) -> list[str]:
    """Return which cell to take, in each scenario, where a training may take so many seconds."""
    from harness.budget import within

    return within(result.cells, seconds, result.score)


def comparison_text(comparison: Comparison) -> str:
    """Return two studies side by side."""
    from harness.compare import table, words

    shown = table(comparison)
    lines = [f"A  {comparison.a}", f"B  {comparison.b}", ""]
    lines += [aligned([list(shown.columns), *shown.astype(str).to_numpy().tolist()]), ""] if len(shown) else []
    return "\n".join([*lines, *words(comparison)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.rjust(width) if i else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _program() -> str:
    """Return how the user called this program: by its name where that is found, else by its path."""
    called = sys.argv[0]
    return called if Path(called).name == "harness" and shutil.which("harness") != called else "harness"


def links_text(base: str, links: dict[str, dict[str, str]]) -> str:
    """Return the links of the MLflow UI by study."""
    lines = [f"MLflow UI at {base}"]
    for study, found in links.items():
        lines += [study, *(f"  {line}" for line in _links(found))]
    return "\n".join(lines if links else [*lines, "No grid has been run yet."])


def _table(cells: pd.DataFrame, metric: str = f"test {TOP1.label}", score: Metric = TOP1) -> str:
    """Return the score, called `metric`, by policy, trick set and scenario, in per cent: mean ± sd over seeds."""
    rows = cells.to_dict("records")
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    # A cell's name without its policy.
    names = list(dict.fromkeys(row["cell"].partition(" | ")[2] for row in rows))
    entries = {(row["policy"], row["cell"].partition(" | ")[2]): score_text(row, score) for row in rows}
    if len(policies) > _COLUMNS:
        return _best_of(cells, policies, metric, score)
    width = max(16, *(len(policy) + 2 for policy in policies))
    title = f"{metric}, %"
    first = max(map(len, [*names, title])) + 2
    lines = [title.ljust(first) + "".join(policy.rjust(width) for policy in policies)]
    for name in names:
        lines.append(name.ljust(first) + "".join(entries.get((p, name), NOTHING).rjust(width) for p in policies))
    return "\n".join(lines)


def _best_of(cells: pd.DataFrame, policies: list[str], metric: str, score: Metric) -> str:
    """Return each policy's baseline and best cell: all cells would be too many columns for a terminal."""
    title = f"{metric}, %"
    width = max(map(len, [*policies, title])) + 2
    lines = [title.ljust(width) + "baseline".rjust(14) + "best".rjust(14)]
    for policy in policies:
        rows = cells[cells["policy"] == policy].to_dict("records")
        best = max(rows, key=lambda row: row[score.mean] if row["n"] else -1.0)
        name = best["cell"].partition(" | ")[2]
        lines.append(f"{policy.ljust(width)}{score_text(rows[0], score):>14}{score_text(best, score):>14}  {name}")
    return "\n".join(lines)
