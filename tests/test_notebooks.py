"""Notebooks: they only call the harness, show figures, and say the numbers of the results beside them."""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STUDIES = [path for path in NOTEBOOKS if path.stem != "tour"]
"""Those that read committed tables; the tour reads the tracking store, which `make demo` fills."""


def code_of(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def said(cells):
    """What the cells printed and returned, figures aside."""
    outputs = [output for cell in cells for output in cell.outputs if "image/png" not in output.get("data", {})]
    return [output.get("text") or output.get("data", {}).get("text/plain") for output in outputs]


def test_every_study_with_a_report_has_a_notebook():
    reports = {path.parent.name for path in (ROOT / "results").glob("*/report.html")}
    assert {path.stem for path in STUDIES} == reports


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_with_its_figures_and_no_logic_of_its_own(path):
    cells = code_of(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    tree = ast.parse("\n".join(cell.source for cell in cells).replace("%matplotlib inline", ""))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    imported = {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported <= {"harness", "pathlib"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_notebook_says_what_the_results_say(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert said([cell for cell in notebook.cells if cell.cell_type == "code"]) == said(code_of(path))
