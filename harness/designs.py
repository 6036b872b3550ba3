"""Designs: which sets of tricks are tried. Pure functions of the labels."""

from collections.abc import Sequence

from harness.spec import Spec, Trial

TrickSet = tuple[str, ...]
"""Labels in the order of the spec; the empty set is the baseline."""


def one_in(labels: Sequence[str]) -> list[TrickSet]:
    """The baseline, and each trick alone."""
    return [(), *((label,) for label in labels)]


def everything(labels: Sequence[str]) -> list[TrickSet]:
    """The baseline, and all tricks together."""
    return [(), tuple(labels)]


def trick_sets(spec: Spec, labels: Sequence[str]) -> list[TrickSet]:
    """Return the distinct trick sets of all designs of `spec` over those of its tricks that are in `labels`.

    A trick that is not among them is no factor: a row that names it is tried without it.
    """
    sets: list[TrickSet] = []
    for design in spec.designs:
        if isinstance(design, Trial):
            sets += [(), *(tuple(label for label in labels if label in row) for row in design.list)]
        else:
            sets += {"one_in": one_in, "all": everything}[design](labels)
    return list(dict.fromkeys(sets))
