"""The studies of photographs that are shipped: what they plan, and that they run on stand-ins of their images."""

from pathlib import Path

import pytest

from harness import cli, specfile
from harness.models import weights
from harness.models.build import build_model
from harness.planning import make_plan
from harness.spec import Model
from harness.workspace import Workspace
from tests.data.publishers import MAKE, jpeg

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RESNET50 = "resnet50-11ad3fa6.pth"
"""The file's name of torchvision's second weights of ResNet-50."""
SMALL = (
    "data.image_size=64", "data.workers=0", "train.batch_size=2", "train.epochs=1", "tricks={label_smoothing: }",
    "tune=null", "primary=null", "axes={}", "seeds=1", "throughput={rounds: 1, steps: 1}",
)  # fmt: skip
FEWER_POLICIES = ["policies=[full_bn_frozen, head]"]


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as CIFAR-10, of one image."""
    root = tmp_path_factory.mktemp("cifar10")
    jpeg(root / "image.jpg")
    for split, count in (("train", 250), ("test", 200)):
        for name in CIFAR10:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number:04}.jpg").hardlink_to(root / "image.jpg")
    return root


@pytest.mark.parametrize(
    ("name", "cells", "candidates", "first"),
    [
        ("freeze_policies", 29 * 2, 27 * 2 * 5 * 2, 1),
        ("freeze_x_tricks_cifar10", 5 * (1 + 7 + 1), 5 * 9 * 5 * 2, 1),
        ("cs231n_scenarios_cifar10", 6 * 4, 4 * 4 * 5 * 2, 1),
        ("bag_of_tricks", 53, 53 * 5 * 2, 0),
        ("bn_frozen_rates", 3 * 2, 3 * 2 * 8 * 4, 1),
    ],
)
def test_studies_of_cifar10_plan_what_their_comments_say(
    name: str, cells: int, candidates: int, first: int, cifar10: Path, workspace: Workspace
) -> None:
    overrides = [f"data.root={cifar10}"]
    if first:
        few = ("train_per_class=20", "val_per_class=5", "test_per_class=5", f"root={cifar10}")
        overrides += [f"weights.pretrain.data.{given}" for given in few]
    plan = make_plan(specfile.read(EXPERIMENTS / f"{name}.yaml", overrides), workspace)
    assert {judgement.verdict for judgement in plan.judgements} == {"valid"}
    assert (len(plan.replicates), len(plan.prerequisites)) == (cells * 6, first)
    assert len(plan.candidates) == candidates


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of torchvision's weights, with random ones of ResNet-50."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    place = tmp_path / "hub" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    weights.save(build_model(Model(name="resnet50"), 1000, seed=9).state_dict(), place / RESNET50)
    return place


GPU = {
    "imagenet_resnet50": ("imagenet", ["data.val_per_class=1"]),
    "flowers102_resnet50": ("flowers102", ["data.classes=[pink primrose, passion flower]"]),
    "pets_resnet50": ("oxford_iiit_pet", ["data.val_share=0.5"]),
}
"""Each study with its images, and what their stand-ins are too few for."""


@pytest.fixture(params=GPU)
def study(
    request: pytest.FixtureRequest, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[str]]:
    """A study for a GPU in a workspace of its own, and what it takes to plan it on stand-ins of its images."""
    images, overrides = GPU[request.param]
    root = workspace.root / "images"
    root.mkdir()
    MAKE[images](root, monkeypatch)
    path = workspace.root / "experiments" / f"{request.param}.yaml"
    path.write_text((EXPERIMENTS / path.name).read_text())
    return path, [f"data.root={root}", *overrides]


@pytest.mark.usefixtures("hub")
def test_studies_for_a_gpu_plan_on_images_of_their_layout(study: tuple[Path, list[str]], workspace: Workspace) -> None:
    path, overrides = study
    overrides.append("train.batch_size=2")
    if path.stem == "pets_resnet50":
        overrides += ["axes.images.few={data.train_per_class: 2, train.epochs: 60}"]
    plan = make_plan(specfile.read(path, overrides), workspace)
    replicates = {"imagenet_resnet50": 12, "flowers102_resnet50": 6 * (7 * 9 + 1), "pets_resnet50": 6 * 2 * (7 * 6 + 1)}
    assert len(plan.replicates) == replicates[path.stem]
    refused = {(j.cell.policy, j.verdict) for j in plan.judgements if j.verdict != "valid"}
    assert refused <= {("svm_codes", "invalid")}


def test_studies_for_a_gpu_run_in_small(
    study: tuple[Path, list[str]], hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, overrides = study
    begins = [] if path.stem == "imagenet_resnet50" else [f"weights={{checkpoint: {hub / RESNET50}}}", *FEWER_POLICIES]
    given = [part for each in [*overrides, *SMALL, *begins] for part in ("--set", each)]
    assert cli.main(["run", str(path), "--inline", *given]) == cli.DONE, capsys.readouterr().err
    assert (path.parents[1] / "results" / path.stem / "report.html").exists()
