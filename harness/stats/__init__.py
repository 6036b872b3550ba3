"""Statistics of paired differences: plain arrays in, plain numbers out."""

from harness.stats.intervals import LEVEL, Interval, paired_t

__all__ = ["LEVEL", "Interval", "paired_t"]
