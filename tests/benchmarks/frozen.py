"""What it saves to compute frozen stages once: one grid with and without.

`python -m tests.benchmarks.frozen FOLDER [ROUNDS]` runs 60 replicates of `head` and `last_stage` on mirrored 32 px
digits both ways, in fresh workspaces under FOLDER, checks that all weights are equal bit for bit, and prints the
seconds from the first training to the last.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from harness import session, specfile
from harness.means import Means
from harness.track import Store
from harness.workspace import Workspace

SPEC = """\
name: frozen
model: {name: cifar_resnet20}
weights:
  pretrain:
    data: {name: digits, classes: ["0", "1", "2", "3", "4"], image_size: 32}
    train: {epochs: 1, batch_size: 64, lr: 0.05}
data: {name: digits, classes: ["5", "6", "7", "8", "9"], image_size: 32, train_per_class: 90}
train: {epochs: 12, batch_size: 45, lr: 0.1, augment: {flip: true}}
policies: [head, last_stage]
tricks: {warmup: {epochs: 1}, cosine: , label_smoothing: , no_bias_decay: }
designs: [one_in]
seeds: 6
throughput: {rounds: 1, steps: 1}
"""


def run(root: Path, reuse: bool) -> tuple[float, dict[str, str]]:
    """Run the grid in a fresh workspace; returns the seconds of its trainings, and the weights' digest of each."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "experiments").mkdir(parents=True)
    path = root / "experiments" / "frozen.yaml"
    path.write_text(SPEC)
    began = 0.0
    with session.Session.open(specfile.read(path, [f"execution={{reuse: {str(reuse).lower()}}}"]), Means()) as going:
        for update in going.run():
            began = began or (time.perf_counter() if update.stage == "training" else 0.0)
        seconds = time.perf_counter() - began
    store = Store(Workspace(root))
    runs = store.search([str(store.experiment("frozen"))], "tags.`harness.kind` = 'replicate'")
    return seconds, {run.info.run_name: run.data.tags["harness.weights_sha256"] for run in runs}


def main(folder: Path, rounds: int) -> None:
    """Print the seconds of each round both ways, and their ratio."""
    for number in range(rounds):
        (plain, theirs), (reused, ours) = (run(folder / str(reuse), reuse) for reuse in (False, True))
        assert ours == theirs, "a shortcut that changes bits is none"
        gain = f"{plain:.1f} s, computed once {reused:.1f} s, {plain / reused:.2f}×"
        print(f"round {number}: {gain}; {len(ours)} replicates, equal bits")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
