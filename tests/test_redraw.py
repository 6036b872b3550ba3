"""One figure of a report, drawn again from its tables."""

import re
from pathlib import Path

import pytest

from harness import cli
from harness.redraw import redraw

RESULTS = Path(__file__).parents[1] / "results"
STUDY = RESULTS / "bag_of_tricks"


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_it_is_the_one_of_the_report_in_every_form(tmp_path: Path, form: str) -> None:
    made = redraw(STUDY, "forest", tmp_path / f"again.{form}")
    assert made.read_bytes() == (STUDY / "figures" / f"forest.{form}").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([STUDY, "florist"], r"unknown figure 'florist'; legal: heatmap, forest.* Did you mean 'forest'\?"),
        ([STUDY, "curves"], r"the figure 'curves' shows more than the tables hold; `harness report SPEC` draws it"),
        ([STUDY, "scenarios"], r"has nothing that the figure 'scenarios' could show"),
        ([STUDY, "forest", "--out", "forest.jpg"], r"unknown form of a figure '\.jpg'; legal: \.png, \.svg, \.pdf"),
        ([RESULTS / "nowhere", "forest"], r"nowhere is no report: cannot read .*runs\.csv: No such file"),
        ([STUDY, "forest", "--out", "/proc/none/forest.png"], r"cannot write results to /proc/none"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    arguments: list[object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["figure", *map(str, arguments)]) == cli.BAD_INPUT
    assert re.search(said, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
