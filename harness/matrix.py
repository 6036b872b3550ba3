"""The matrix of a plan: what can be said of every trick under every policy, as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import HarnessError

_MARKS = {"valid": "✓", "noop": "=", "destructive": "✗", "invalid": "–", "excluded": "∅"}
_LEGEND = (
    "✓ valid · = no operation: the same training as without the trick · ✗ destructive: skipped unless the spec says "
    "`destructive: run` · – invalid: cannot mean anything. Numbers refer to the reasons below."
)


def matrix(plan: Mapping[str, Any]) -> str:
    """Return the verdict on each trick alone under each policy, of the plan as `summary.summarise` has it."""
    policies, tricks = list(plan["policies"]), list(plan["tricks"])
    found = {j["verdict"] for j in plan["judgements"]}
    verdicts = {(j["policy"], tuple(j["tricks"])): j for j in plan["judgements"]}
    reasons: dict[str, int] = {}

    if plan.get("axes"):
        raise HarnessError("a matrix has no room for axes; leave them out, or see `harness plan`")

    def mark(policy: str, trick: str) -> str:
        # A policy that means nothing has one judgement, on its baseline.
        judgement = verdicts.get((policy, (trick,))) or verdicts[policy, ()]
        verdict, reason = judgement["verdict"], judgement["reason"]
        if verdict == "noop":
            # The same as the cell without the trick, or as that trick under a policy that means the same here.
            verdict, reason = "noop" if f"'{policy} | baseline'" in reason else "valid", ""
        number = f" {reasons.setdefault(reason, len(reasons) + 1)}" if reason else ""
        return _MARKS[verdict] + number

    # Policies across would be too many columns to read.
    rows = [[f"`{policy}`", *(mark(policy, trick) for trick in tricks)] for policy in policies]
    head = ["policy", *(f"`{trick}`" for trick in tricks)]
    lines = [head, ["---", *(":-:" for _ in tricks)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "\n".join(f"{number}. {reason}" for reason, number in reasons.items())
    legend = f"{_MARKS['excluded']} excluded by the spec · {_LEGEND}" if "excluded" in found else _LEGEND
    return f"{legend}\n\n{table}\n\n{notes}\n"
