"""Figures of speed and memory: the rounds of the probe, and what they say of each training."""

from __future__ import annotations

import csv
import io
import platform
from collections import defaultdict
from collections.abc import Collection, Sequence
from statistics import geometric_mean

from harness.plan import Plan
from harness.records import Probed
from harness.training import Training
from harness.versions import version_mark

_COLUMNS = ("cell", "program", "host", "device", "versions", "round", "images_per_s", "peak_memory_bytes")


class Speed:
    """The probe of a plan on one device of this host."""

    def __init__(self, plan: Plan, device: str) -> None:
        self._plan = plan
        self._where = (platform.node(), device, version_mark())
        """What a figure of speed holds for: host, device and versions."""
        self._rounds: dict[str, list[Probed]] = defaultdict(list)

    def take(self, record: Probed) -> None:
        """Take one round of the probe of a program."""
        self._rounds[record.digest].append(record)

    def forget(self) -> None:
        """Drop the rounds so far: what interrupted a probe may have coloured them."""
        self._rounds.clear()

    def recall(self, table: bytes | None) -> bool:
        """Take the probe made before on this host and device by these versions, if `table` has it for every cell."""
        rows = list(csv.DictReader(io.StringIO((table or b"").decode())))
        here = [row for row in rows if (row["host"], row["device"], row["versions"]) == self._where]
        wanted = {(name, program) for name, program, _ in self._plan.probed}
        if not wanted <= {(row["cell"], row["program"]) for row in here}:
            return False
        for program, number, rate, memory in dict.fromkeys(
            (row["program"], row["round"], row["images_per_s"], row["peak_memory_bytes"])
            for row in here
            if row["round"]
        ):
            self.take(Probed(program, 0, int(number), float(rate), int(memory)))
        return True

    def seconds(self, program: str, images: int) -> float:
        """Return about how long a program takes over so many images; one that was not probed is as slow as the slowest.

        Where nothing was probed all are at one image a second.
        """
        probed = {name: rounds for name, rounds in self._rounds.items() if rounds}
        rates = {name: geometric_mean(r.images_per_s for r in rounds) for name, rounds in probed.items()}
        return images / rates.get(program, min(rates.values(), default=1.0))

    def table(self, tried: Collection[str]) -> bytes:
        """Return the rounds of the programs `tried` as CSV; one that could not be probed has a row without numbers."""
        rows: list[tuple[object, ...]] = []
        for name, program in ((name, program) for name, program, _ in self._plan.probed if program in tried):
            cell_rows: list[tuple[object, ...]] = [
                (r.round, r.images_per_s, r.peak_memory_bytes) for r in self._rounds[program]
            ]
            rows += [(name, program, *self._where, *figures) for figures in cell_rows or [("", "", "")]]
        return csv_bytes(_COLUMNS, rows)

    def of(self, program: str, images: int, training: Training) -> dict[str, float]:
        """Return the probed figures of a training that saw so many images; its time is those at the probed rate.

        The training of a teacher counts as a part of every training that needs it.
        """
        rounds = self._rounds[program]
        if not rounds:
            return {}
        rate = geometric_mean(r.images_per_s for r in rounds)
        memory = float(max(r.peak_memory_bytes for r in rounds))
        seconds = images / rate + self._teacher_s(training)
        return {"images_per_s": rate, "train_s": seconds, "peak_memory_bytes": memory}

    def _teacher_s(self, training: Training) -> float:
        """Return the seconds of training the teacher at the probed rate; 0 for none, and for one read from a file."""
        content = training.teacher.origin.content if training.teacher else None
        for teacher in self._plan.prerequisites:
            if teacher.training.digest == content and self._rounds[teacher.program]:
                return teacher.images / geometric_mean(r.images_per_s for r in self._rounds[teacher.program])
        return 0.0


def csv_bytes(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    """Return a table as CSV, every float so that it reads back bit for bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
