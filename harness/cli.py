"""The commands: parse, call, print, set the exit status. Imports on demand, so that help answers at once.

Exit status: 0 done; 1 some replicates failed, the rest is finished and reported; 2 bad spec or usage; 70 an error of
the harness itself; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from harness import __version__, cli_grids, options
from harness.concealing import concealed
from harness.errors import HarnessError
from harness.exits import BAD_INPUT, CRASHED, DONE, INTERRUPTED, SOME_FAILED

__all__ = ["BAD_INPUT", "CRASHED", "DONE", "INTERRUPTED", "SOME_FAILED", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status."""
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # a polite kill ends what we started, as Ctrl-C does
    try:
        return int(parsed.command(parsed))
    except HarnessError as error:
        print(f"harness: {concealed(str(error))}", file=sys.stderr)
        return _interrupted() if _was_interrupted(error) else BAD_INPUT
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has had enough
        return DONE
    except Exception:  # ours to mend, and not to be taken for a replicate that failed
        print(concealed(traceback.format_exc()), end="", file=sys.stderr)
        return CRASHED


def _interrupted() -> int:
    print("\nharness: stopped; the same command goes on where it was left", file=sys.stderr)
    return INTERRUPTED


def _was_interrupted(error: BaseException) -> bool:
    """Whether an error came of an interrupt: of what it left to be done, with a store that is away."""
    before = error.__context__
    return before is not None and (isinstance(before, KeyboardInterrupt) or _was_interrupted(before))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="What to freeze and which training tricks are worth it, when fine-tuning image models.",
    )
    parser.add_argument("--version", action="version", version=f"harness {__version__}")
    command = options.commands(parser, "COMMAND")
    sub = command("plan", _plan, "show what a spec would run; trains and writes nothing")
    options.add_spec(sub)
    options.add_workers(sub)
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the plan as JSON")
    form.add_argument("--matrix", action="store_true", help="print the verdict on each trick under each policy")
    cli_grids.add(command)
    text = "rebuild every table and plot from the tracking store alone, or from results made elsewhere"
    sub = command("report", _report, text)
    options.add_spec(sub, nargs="?")
    sub.add_argument(
        "--time-budget",
        type=options.seconds,
        metavar="S",
        help="also say which cell to take if a training may take S seconds",
    )
    options.add_foreign(sub)
    sub = command("figure", _figure, "draw one figure of a report again, from the report's tables")
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="where the report is, such as results/NAME")
    sub.add_argument("name", metavar="FIGURE", help="as its file is called, such as forest")
    sub.add_argument("--out", type=Path, metavar="FILE", help=".png, .svg or .pdf (default: FIGURE.png here)")
    sub = command("compare", _compare, "put two studies side by side, or two commits' runs of one")
    for side in ("A", "B"):
        sub.add_argument(side.lower(), metavar=side, help="a spec, SPEC@COMMIT, a results folder or its runs.csv")
    sub.add_argument("--out", type=Path, metavar="DIR", help="write the comparison there too, as CSV and Markdown")
    sub = command("ui", _ui, "start the MLflow UI on this workspace's store, with links to the prepared views")
    sub.add_argument("--port", type=options.port, default=5000, help="port on loopback (default: 5000)")
    sub = command(
        "export", _export, "write the weights of a finished run as a state dict; its spec has keep_weights: true"
    )
    sub.add_argument("run", metavar="RUN", help="id of an MLflow run or its beginning, or a name: 'CELL | seed N'")
    sub.add_argument(
        "--changed-only", action="store_true", help="only what is not in the weights that it was trained from"
    )
    sub.add_argument("--out", type=Path, metavar="FILE", help="where the state dict goes (default: named by id, here)")
    command("tricks", _tricks, "list the tricks")
    command("policies", _policies, "list the freeze policies")
    sub = command("keys", _keys, "list the keys of a spec, with their defaults and what they mean")
    sub.add_argument("section", nargs="?", default="", metavar="SECTION", help="one of them alone, such as train")
    sub = command("init", _init, "write a commented spec for a folder of your own images")
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="train/<class>/…, or one folder <class>/… to split")
    sub.add_argument("--out", type=Path, metavar="FILE", help="where the spec goes (default: NAME.yaml here)")
    return parser


def _tricks(_: argparse.Namespace) -> int:
    from harness.tricks import TRICKS

    _columns([(name, (kind.__doc__ or "").splitlines()[0], kind.source) for name, kind in TRICKS.items()])
    return DONE


def _policies(_: argparse.Namespace) -> int:
    from harness.freezing.policies import POLICIES

    _columns([(name, policy.about, policy.source) for name, policy in POLICIES.items()])
    return DONE


def _keys(given: argparse.Namespace) -> int:
    from harness.keys import keys

    _columns([(key.path, key.default, key.about) for key in keys(given.section)])
    return DONE


def _columns(rows: Sequence[tuple[str, str, str]]) -> None:
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    for name, about, source in rows:
        print(f"{name:<{first}}  {about:<{second}}  {source}")


def _plan(options: argparse.Namespace) -> int:
    from harness import show
    from harness.session import matrix_of, plan_of

    if options.matrix:
        print(matrix_of(options.spec, options.set), end="")
        return DONE
    plan, seconds = plan_of(options.spec, options.set, options.jobs, options.devices)
    print(json.dumps(show.plan_json(plan, seconds), indent=1) if options.json else show.plan_text(plan, seconds))
    return DONE


def _report(given: argparse.Namespace) -> int:
    from harness import elsewhere, session, show

    if given.csv or given.experiment:
        if given.spec:
            raise HarnessError("name one of SPEC, --csv and --experiment")
        if given.time_budget is not None:
            raise HarnessError("--time-budget needs training times, which only a SPEC has")
        columns, command = options.columns(given), options.command_of(given)
        if given.csv:
            result = elsewhere.report_csv(given.csv, columns, given.out, command)
        else:
            result = elsewhere.report_experiment(given.experiment, given.where, columns, given.out, command)
    else:
        options.check_spec_only(given)
        result = session.report(given.spec, given.set)
    print(show.report_text(result))
    if given.time_budget is not None:
        print("", *show.budget_lines(result, given.time_budget), sep="\n")
    return DONE


def _figure(given: argparse.Namespace) -> int:
    from harness.redraw import redraw

    print(redraw(given.folder, given.name, given.out))
    return DONE


def _compare(given: argparse.Namespace) -> int:
    from harness.session import compare

    print(compare(given.a, given.b, given.out))
    return DONE


def _ui(options: argparse.Namespace) -> int:
    from harness import show, ui
    from harness.track import Store
    from harness.workspace import find

    store = Store(find(Path.cwd()))
    base = ui.address(store, options.port)
    links = ui.view_links(store, base)
    print("starting the MLflow UI", file=sys.stderr)
    if store.remote:
        print(show.links_text(base, links))
        return DONE
    with ui.served(store, options.port) as process:
        print(show.links_text(base, links) + "\nCtrl-C ends it.", flush=True)
        try:
            process.wait()
        except KeyboardInterrupt:
            return DONE
    return SOME_FAILED


def _export(options: argparse.Namespace) -> int:
    from harness.export import export
    from harness.track import Store
    from harness.workspace import find

    place = find(Path.cwd())
    print(export(Store(place), place, options.run, options.changed_only, options.out))
    return DONE


def _init(options: argparse.Namespace) -> int:
    from harness.onboard import write_spec

    print(write_spec(options.folder, options.out))
    return DONE
