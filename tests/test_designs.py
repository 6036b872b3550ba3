"""Designs: which trick sets are tried."""

import pytest

from harness import specfile
from harness.designs import everything, one_in, trick_sets

LABELS = ("warmup", "cosine", "mixup")


@pytest.fixture
def sets(write_spec):
    """A function that returns the trick sets of a study with three tricks and the given designs."""

    def of(designs, labels=LABELS):
        tricks = ("{warmup: {epochs: 1}, mixup: }", "[warmup, cosine, mixup]")
        return trick_sets(specfile.read(write_spec(tricks, ("[one_in]", designs))).spec, labels)

    return of


def test_one_in_is_the_baseline_and_each_trick_alone():
    assert one_in(LABELS) == [(), ("warmup",), ("cosine",), ("mixup",)]


def test_all_is_the_baseline_and_everything():
    assert everything(LABELS) == [(), LABELS]


def test_designs_are_joined_without_repeats(sets):
    assert sets("[one_in, all]") == [(), ("warmup",), ("cosine",), ("mixup",), LABELS]
    assert sets("[all, one_in]") == [(), LABELS, ("warmup",), ("cosine",), ("mixup",)]
    assert sets("[all, all]") == [(), LABELS]


def test_default_designs_are_one_in_and_all(write_spec):
    spec = specfile.read(write_spec(("designs: [one_in]\n", ""))).spec
    assert trick_sets(spec, ("warmup", "mixup")) == [(), ("warmup",), ("mixup",), ("warmup", "mixup")]


def test_all_of_one_trick_is_that_trick_alone(sets):
    assert sets("[one_in, all]", ("mixup",)) == [(), ("mixup",)]


@pytest.mark.parametrize("designs", ["[one_in]", "[all]", "[one_in, all]", "[{list: [[warmup]]}]", "[{list: []}]"])
def test_without_tricks_only_the_baseline_is_left(sets, designs):
    assert sets(designs, ()) == [()]


def test_list_is_the_baseline_and_its_rows(sets):
    assert sets("[{list: [[warmup], [warmup, cosine]]}]") == [(), ("warmup",), ("warmup", "cosine")]


def test_rows_of_a_list_are_sets(sets):
    """The order within a row, and a name written twice, make no other cell."""
    rows = "[{list: [[mixup, warmup], [warmup, mixup], [warmup, warmup, mixup], []]}]"
    assert sets(rows) == [(), ("warmup", "mixup")]


def test_list_adds_to_other_designs(sets):
    assert sets("[all, {list: [[warmup, cosine, mixup], [cosine]]}]") == [(), LABELS, ("cosine",)]


def test_trick_that_left_the_study_leaves_every_row(sets):
    left = ("cosine", "mixup")
    assert sets("[one_in, all]", left) == [(), ("cosine",), ("mixup",), left]
    assert sets("[{list: [[warmup], [warmup, cosine], [cosine]]}]", left) == [(), ("cosine",)]
