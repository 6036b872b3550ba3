"""The studies of boxes and masks that are shipped: what they plan, and that their images and backbones fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import specfile
from harness.learner import initial_model
from harness.models import weights
from harness.models.build import build_model
from harness.planning import make_plan
from harness.spec import Model
from harness.workspace import Workspace
from tests.scenes import voc_detection

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RESNET18 = "resnet18-f37072fd.pth"
"""The file's name of torchvision's weights of 2019."""


@pytest.mark.parametrize(
    ("name", "replicates", "first"),
    [("detection_digits", 24, 1), ("segmentation_digits", 24, 1), ("transfer_table", 90, 15)],
)
def test_embedded_studies_plan_what_their_comments_say(name, replicates, first, workspace):
    plan = make_plan(specfile.read(EXPERIMENTS / f"{name}.yaml"), workspace)
    assert (len(plan.replicates), len(plan.prerequisites)) == (replicates, first)
    assert {judgement.verdict for judgement in plan.judgements} == {"valid"}


def test_the_transfer_table_serves_masks_too(workspace):
    overrides = ["task=segmentation", "model.head=fcn", "train.batch_size=8", "train.lr=0.1"]
    plan = make_plan(specfile.read(EXPERIMENTS / "transfer_table.yaml", overrides), workspace)
    assert {replicate.training.task for replicate in plan.replicates} == {"segmentation"}
    assert len(plan.replicates) == 90


def test_the_study_of_pascal_voc_plans_on_images_of_its_layout(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    root = voc_detection(tmp_path / "voc", 10)
    plan = make_plan(
        specfile.read(EXPERIMENTS / "transfer_voc.yaml", [f"data.root={root}", "data.val_images=4"]), workspace
    )
    assert {cell.scenario for cell in plan.programs} == {"torchvision IMAGENET1K_V1", "torchvision IMAGENET1K_V2"}
    assert {judgement.verdict for judgement in plan.judgements} == {"valid"}
    assert len(plan.replicates) == 2 * 5 * (1 + 4 + 1)
    assert plan.replicates[0].data.classes[:2] == ("aeroplane", "bicycle")


def test_a_detector_begins_with_torchvisions_classifier(workspace: Workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    made = build_model(Model(name="resnet18"), 1000, seed=9).state_dict()
    weights.save(made, tmp_path / "hub" / "checkpoints" / RESNET18)
    overrides = ["model.name=resnet18", "weights={torchvision: IMAGENET1K_V1}", "policies=[full]", "tricks=[]"]
    plan = make_plan(specfile.read(EXPERIMENTS / "detection_digits.yaml", overrides), workspace)
    training = replace(plan.replicates[0].training)
    state = initial_model(training, torch.device("cpu")).state_dict()
    body = {name.removeprefix("backbone.body."): value for name, value in state.items() if "backbone.body." in name}
    assert body.keys() == {name for name in made if not name.startswith("fc.")}
    assert all(torch.equal(value, made[name]) for name, value in body.items())
