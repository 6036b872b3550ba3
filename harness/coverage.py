"""What the intervals of a report cover, in a sentence, so that nobody takes them for more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.contrasts import SOURCES


def coverage(plan: Mapping[str, Any]) -> str:
    """Return what the intervals of the score cover and what they do not, as the plan has it."""
    if "coverage" in plan:  # somebody else's table, which says nothing of its seeds
        return str(plan["coverage"])
    settings = plan["settings"]
    varied = ["the draw of the training images"] if settings.get("train images drawn by seed") else []
    varied += [
        "the initial head" if settings.get("weights") != "random" else "the initial weights",
        "the order of the data",
    ]
    fixed = ["other test images", *(["another pretrained network"] if settings.get("weights") != "random" else [])]
    shared = [p for p in plan.get("prerequisites", ()) if p.get("role") == "teacher"]
    fixed += ["another teacher"] if shared and not settings.get("train images drawn by seed") else []
    fixed += ["another choice of the learning rates"] if plan.get("tuning") else []
    said = (
        f"The intervals cover what differs between seeds: {_list(varied, 'and')}. "
        f"They do not cover {_list(fixed, 'or')}: all seeds share one."
    )
    several = len(plan.get("axes", {}).get(SOURCES, ())) > 1
    return f"{said} Those over every {SOURCES} cover other pretrained networks too." if several else said


def _list(words: list[str], last: str) -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
