"""Options of several commands, and those that say what the columns of somebody else's results mean."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.foreign import Columns

_NEEDED = ("policy_column", "metric", "out")
_FLAGS = (
    "where",
    "policy_column",
    "baseline",
    "metric",
    "percent",
    "lower_is_better",
    "trick_columns",
    "pair_by",
    "scenario_columns",
    "out",
)


Command = Callable[[str, object, str], argparse.ArgumentParser]
"""Name, function and help to the parser of a command."""


def commands(parser: argparse.ArgumentParser, metavar: str) -> Command:
    """Give `parser` commands, of which one must be named; returns what adds each."""
    added = parser.add_subparsers(required=True, metavar=metavar)

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        sub = added.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(command=function)
        return sub

    return command


def add_spec(sub: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add the spec that a command is about, and what is overridden in it."""
    sub.add_argument("spec", type=Path, nargs=nargs, metavar="SPEC", help="a study as YAML")
    sub.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one value of the spec")


def add_workers(sub: argparse.ArgumentParser) -> None:
    """Add what trainings are run with."""
    sub.add_argument(
        "--jobs", type=positive, metavar="N", help="worker processes at a time (default: as fit the machine)"
    )
    sub.add_argument(
        "--devices", metavar="NAME,…", help="cpu, cuda for every GPU, or cuda:N (default: every GPU, else cpu)"
    )


def positive(text: str) -> int:
    """Return the whole number above 0 that `text` is."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return value


def port(text: str) -> int:
    """Return the port that `text` is."""
    value = positive(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; legal: 1 to 65535")
    return value


def seconds(text: str) -> float:
    """Return the time above 0 that `text` is."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def add_foreign(sub: argparse.ArgumentParser) -> None:
    """Add the options of a report on results that this harness did not make."""
    group = sub.add_argument_group("instead of SPEC: results that this harness did not make")
    source = group.add_mutually_exclusive_group()
    source.add_argument("--csv", type=Path, metavar="FILE", help="a table with a row a run and a line of headers")
    source.add_argument(
        "--experiment",
        metavar="NAME",
        help="an MLflow experiment; its columns are params.X, metrics.X and tags.X, or X",
    )
    group.add_argument("--where", default="", metavar="FILTER", help="only these runs of it, as MLflow filters them")
    group.add_argument("--policy-column", metavar="X", help="what is compared first of all")
    group.add_argument("--baseline", metavar="VALUE", help="the policy to compare with (default: the first)")
    group.add_argument("--metric", metavar="X", help="what is compared: a fraction, such as an accuracy or AUC")
    group.add_argument("--percent", action="store_true", help="the metric is in per cent")
    group.add_argument("--lower-is-better", action="store_true", help="the metric is an error: report one minus it")
    for name, text in {
        "--trick-columns": "on or off, or of a few levels, of which the first, or none, is the reference",
        "--pair-by": "what runs of a pair share, such as seed (default: runs are not paired)",
        "--scenario-columns": "within each of whose values effects are taken, such as a data set",
    }.items():
        group.add_argument(name, type=_names, default=(), metavar="X,Y,…", help=text)
    group.add_argument("--out", type=Path, metavar="DIR", help="where the report goes")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def columns(options: argparse.Namespace) -> Columns:
    """Return what the columns mean; raises HarnessError where an option is lacking."""
    from harness.foreign import Columns

    lacking = [_flag(name) for name in _NEEDED if not getattr(options, name)]
    if lacking:
        raise HarnessError(f"{'--csv' if options.csv else '--experiment'} needs {' and '.join(lacking)} too")
    if options.csv and options.where:
        raise HarnessError("--where filters the runs of an --experiment; of a table, leave out the rows")
    return Columns(
        policy=options.policy_column,
        metric=options.metric,
        tricks=options.trick_columns,
        pair_by=options.pair_by,
        scenario=options.scenario_columns,
        baseline=options.baseline,
        percent=options.percent,
        lower_is_better=options.lower_is_better,
    )


def check_spec_only(options: argparse.Namespace) -> None:
    """Raise HarnessError where a report on a spec is asked for with options of other results, or without a spec."""
    if options.spec is None:
        raise HarnessError("name a SPEC, or --csv FILE, or --experiment NAME")
    given = [name for name in _FLAGS if getattr(options, name)]
    if given:
        raise HarnessError(f"{_flag(given[0])} is for --csv and --experiment, not for a SPEC")


def command_of(options: argparse.Namespace) -> str:
    """Return the command line of a report on other results."""
    words = ["harness", "report"]
    for name in ("csv", "experiment", *_FLAGS):
        value = getattr(options, name)
        if value:
            words.append(_flag(name))
            words += [] if value is True else [",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
