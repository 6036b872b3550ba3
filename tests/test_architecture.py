"""What CONTRIBUTING promises of the code's shape."""

import ast
import re
from pathlib import Path

import pytest

from harness.freezing.policies import POLICIES
from harness.tricks import TRICKS

PACKAGE = Path(__file__).parents[1] / "harness"
FILES = sorted(PACKAGE.rglob("*.py"))


def run_time_imports(path: Path) -> set[str]:
    """Imports that happen: those for type checking alone are none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [n for n in body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module}
    return names


def test_only_track_imports_mlflow() -> None:
    importers = {p.parent.name for p in FILES if any(name.split(".")[0] == "mlflow" for name in run_time_imports(p))}
    assert importers == {"track"}


@pytest.mark.parametrize("name", ["train.py", "schedule.py", "evaluate.py", "probe.py", "data/batches.py"])
def test_the_loop_names_no_trick_no_policy_and_no_tracker(name: str) -> None:
    source = (PACKAGE / name).read_text(encoding="utf-8")
    code = "\n".join(ast.unparse(node) for node in _without_docstrings(source))
    words = set(re.findall(r"[a-z_]+", code.lower()))
    assert not words & {*TRICKS, "mlflow", "tracker"} - {"warmup"} or name == "schedule.py"
    assert not words & {policy for policy in POLICIES if "_" in policy}


def _without_docstrings(source: str) -> list[ast.stmt]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return tree.body


def test_only_apply_writes_requires_grad_and_modes() -> None:
    pattern = re.compile(r"requires_grad_\(|\.requires_grad\s*=|\.training\s*=|\.train\(\)|\.grad\s*=")
    writers = {p.relative_to(PACKAGE).as_posix() for p in FILES if pattern.search(p.read_text(encoding="utf-8"))}
    assert writers == {"freezing/apply.py"}


def test_every_trick_says_its_source_in_one_line() -> None:
    for name, trick in TRICKS.items():
        first = (trick.__doc__ or "").splitlines()[0]
        assert first.endswith("."), name
        assert re.search(r"§\d|Algorithm \d", trick.source), name


def test_no_file_outgrows_a_few_screens() -> None:
    long = {p.name: count for p in FILES if (count := p.read_text(encoding="utf-8").count("\n")) > 300}
    assert not long
