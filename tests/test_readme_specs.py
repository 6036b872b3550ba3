"""The pieces of specs in the README are specs, or parts of one that may stand in the tiny one."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
from ruamel.yaml import YAML

from harness import cli, specfile
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
TEXT = (ROOT / "README.md").read_text()
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


def test_the_command_that_draws_a_figure_draws_that_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = re.findall(r"^\.venv/bin/harness (figure [^#]*)", TEXT, re.MULTILINE)
    (tmp_path / "results").symlink_to(RESULTS)
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split()) == cli.DONE
    _, folder, name = line.split()
    assert (tmp_path / f"{name}.png").read_bytes() == (tmp_path / folder / "figures" / f"{name}.png").read_bytes()
