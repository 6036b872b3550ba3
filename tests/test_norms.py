"""What the diagnosis of batch norm shows: numbers a reader can check, and a figure of whatever was measured."""

import pandas as pd
import pytest

from harness import norms
from harness.effects import cells
from tests.plots.seen import drawn
from tests.samples import runs_table

CELLS = ("full | baseline", "full | mixup", "head | baseline")
ALONE = "bn1 sees one value per channel"


def diagnosed(ends: dict[str, float] | None = None, starts: dict[str, float] | None = None) -> pd.DataFrame:
    """Two seeds of each cell; a batch of one has no figure; `ends` and `starts` are divergences by policy."""
    rows = []
    for number, cell in enumerate(CELLS):
        policy = cell.split(" | ")[0]
        for seed in (0, 1):
            top1 = 0.4 + 0.1 * number + 0.02 * seed
            figures = [
                ("test_top1_batch_1", "", float("nan"), ALONE),
                ("test_top1_batch_8", "", top1, ""),
                ("test_top1_batch_64", "", top1 + 0.1, ""),
                ("test_top1_source_backbone", "", 0.25, ""),
            ]
            for layer, factor in (("bn1", 1.0), ("layer1.bn", 4.0)):
                start, end = (starts or {}).get(policy, 1.0), (ends or {}).get(policy, 0.1) + 5 * ("mixup" in cell)
                figures.append(("shift_start", layer, factor * (start + seed), ""))
                figures.append(("shift_end", layer, factor * (end + seed), ""))
            rows += [(policy, cell, seed, *figure) for figure in figures]
    return pd.DataFrame(rows, columns=["policy", "cell", "seed", "figure", "layer", "value", "reason"])


def test_table_has_a_row_for_each_diagnosed_cell_with_means_over_seeds():
    outcomes = {cell: [0.5, 0.6] for cell in CELLS} | {"head | mixup": ["failed", "failed"]}
    table = norms.table(diagnosed(), cells(runs_table(outcomes)))
    assert table["policy"].tolist() == ["full", "full", "head"]
    assert table["tricks"].tolist() == ["baseline", "mixup", "baseline"]
    assert table["running statistics"].tolist() == ["55.0 ± 7.1"] * 3
    assert table["batch of 1"].tolist() == ["–"] * 3
    assert table["batch of 8"].tolist() == ["41.0 ± 1.4", "51.0 ± 1.4", "61.0 ± 1.4"]
    assert table["batch of 64"].tolist() == ["51.0 ± 1.4", "61.0 ± 1.4", "71.0 ± 1.4"]
    assert table["head over source backbone"].tolist() == ["25.0 ± 0.0"] * 3


def test_what_is_missing_is_said_once():
    assert norms.missing(diagnosed()) == [f"No figure by a batch of 1: {ALONE}."]


def lines(figure):
    (axes,) = figure.axes
    return {line.get_label(): line.get_ydata().tolist() for line in axes.lines}


def test_figure_has_the_start_once_and_the_end_of_each_policy_without_tricks():
    figure = norms.figure(diagnosed(ends={"full": 0.1, "head": 1.0}))
    drawn(figure)
    assert lines(figure) == {
        "start": pytest.approx([1.5, 6.0]),
        "end of full": pytest.approx([0.6, 2.4]),
        "end of head": pytest.approx([1.5, 6.0]),
    }
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["bn1", "layer1.bn"]


def test_policies_that_start_from_other_networks_have_starts_of_their_own():
    figure = norms.figure(diagnosed(starts={"full": 3.0}))
    drawn(figure)
    assert list(lines(figure)) == ["start of full", "start of head", "end of full", "end of head"]


@pytest.mark.parametrize("layers", [1, 155])
def test_figure_of_few_and_many_layers_draws(layers):
    one = diagnosed().query("layer != 'layer1.bn'")
    rows = [one] + [one[one["layer"] != ""].assign(layer=f"layer{n}.0.bn1") for n in range(layers - 1)]
    drawn(norms.figure(pd.concat(rows)))


def test_figure_of_tricks_alone_draws():
    """Where every run without tricks failed there is nothing to draw, and no error."""
    drawn(norms.figure(diagnosed().query("cell == 'full | mixup'")))


def test_a_replicate_without_a_diagnosis_makes_no_other_start():
    frame = diagnosed()
    lost = frame[~((frame["policy"] == "head") & (frame["seed"] == 1))]  # one that diverged
    assert list(lines(norms.figure(lost))) == ["start", "end of full", "end of head"]
