"""Statistics of paired differences: plain arrays in, plain numbers out."""

from harness.stats.aggregate import iqm, stratified_bootstrap
from harness.stats.families import Family, claim, holm, simultaneous
from harness.stats.intervals import LEVEL, Interval, bca, paired_t, two_way_t, welch
from harness.stats.power import critical_effect, seeds_needed, smallest_effect
from harness.stats.tests import improvement, sign_flip, wilcoxon

__all__ = [
    "LEVEL",
    "Family",
    "Interval",
    "bca",
    "claim",
    "critical_effect",
    "holm",
    "improvement",
    "iqm",
    "paired_t",
    "seeds_needed",
    "sign_flip",
    "simultaneous",
    "smallest_effect",
    "stratified_bootstrap",
    "two_way_t",
    "welch",
    "wilcoxon",
]
