"""The pieces of specs in the README are specs, or parts of one that may stand in the tiny one."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
from ruamel.yaml import YAML

from harness import specfile
from tests.conftest import TINY

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
PIECES = [dedent(piece) for piece in re.findall(r"^ *```yaml\n(.*?)^ *```$", TEXT, re.M | re.S)]
SPECS = [piece for piece in PIECES if "apiVersion" not in piece]
"""Without the manifest of a Ray cluster."""


@pytest.mark.parametrize("piece", SPECS, ids=lambda piece: piece.partition(":")[0])
def test_piece_of_a_spec_can_be_read(workspace, piece):
    yaml = YAML()
    said = yaml.load(piece)
    if "name" not in said:
        named = {"policies": ["full", "head_bn", "head"], "tricks": ["warmup", "cosine", "mixup", "label_smoothing"]}
        tiny = yaml.load(TINY.replace(", crop_padding: 1", "")) | named
        said = tiny | said | {"train": tiny["train"] | said.get("train", {})}
    path = workspace.root / "experiments" / "piece.yaml"
    yaml.dump(said | {"name": "piece"}, path)
    assert specfile.read(path).grid


def test_the_line_that_draws_a_figure_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = re.findall(r'^\.venv/bin/python -c "(.*)"$', TEXT, re.MULTILINE)
    (tmp_path / "results").symlink_to(Path(__file__).parents[1] / "results")
    monkeypatch.chdir(tmp_path)
    exec(line)
    assert (tmp_path / "forest.png").stat().st_size > 10_000
