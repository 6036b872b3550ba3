"""The same frames give the same bytes, in every form a report has."""

import pytest

from harness import plots
from tests.frames import study
from tests.plots.seen import METADATA, curves_table, drawn

FIGURES = {
    "heatmap": lambda cells, effects: plots.heatmap(cells, effects),
    "forest": lambda _, effects: plots.forest(effects),
    "waterfall": lambda cells, effects: plots.waterfall(effects, cells),
    "shapley": lambda _, effects: plots.shapley(effects),
    "interactions": lambda _, effects: plots.interactions(effects),
    "policy interactions": lambda _, effects: plots.policy_interactions(effects),
    "scenarios": lambda cells, _: plots.scenarios(cells),
    "pareto": lambda cells, _: plots.pareto(cells),
    "budget": lambda cells, _: plots.budget(cells),
    "curves": lambda *_: plots.learning_curves(curves_table({"full | baseline": [0.5, 0.6]})),
}


@pytest.mark.parametrize("form", METADATA)
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_same_frames_same_bytes(draw, form):
    first, second = (drawn(draw(*study(tricks=("a", "b", "c"), scenarios=("1", "2"), seeds=3)), form) for _ in range(2))
    assert first == second
