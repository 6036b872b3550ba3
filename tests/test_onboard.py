"""`harness init`: what is found in a folder, the spec that is written from it, and what is refused."""

import shutil

import pytest
from ruamel.yaml import YAML

from harness import onboard, specfile
from harness.errors import HarnessError
from harness.onboard import inspect, write_spec
from harness.planning import make_plan
from tests.samples import image_folder


@pytest.fixture
def init(workspace):
    """A function that writes a spec for images made in the workspace, and returns its path and what was said."""

    def run(layout, name="photos", **options):
        photos = image_folder(workspace.root / name, layout, **options)
        path = workspace.root / "experiments" / "first.yaml"
        return path, write_spec(photos, path)

    return run


def plan_of(path, workspace):
    """Plan a generated spec without its weights, which would be looked for in torchvision's folder."""
    return make_plan(specfile.read(path, ["weights=null"]), workspace)


def survey_of(path, workspace):
    """Return what the plan of a generated spec knows of its images."""
    return plan_of(path, workspace).replicates[0].data


# The spec that is written.


def test_published_splits_are_planned_as_they_are(init, workspace):
    path, said = init({"train/cat": 12, "train/dog": 10, "test/cat": 4, "test/dog": 5})
    found = survey_of(path, workspace)
    assert found.classes == ("cat", "dog")
    assert found.test_size == 9
    assert found.train_size + found.val_size == 22
    assert "test_share" not in YAML(typ="safe").load(path.read_text())["data"]
    for text in (path.read_text(), said):
        assert "31 images in 2 classes" in text
        assert "cat  12 train, 4 test" in text
        assert "dog  10 train, 5 test" in text


def test_one_folder_is_planned_with_a_split(init, workspace):
    path, said = init({"cat": 30, "dog": 20})
    found = survey_of(path, workspace)
    assert found.classes == ("cat", "dog")
    assert found.test_size == 10  # a fifth of each class
    assert found.train_size + found.val_size == 40
    assert "cat  30 to be split" in said
    assert "dog  20 to be split" in path.read_text()


def test_spec_is_one_that_can_run_to_its_end(init, workspace):
    """Nothing it asks for is judged impossible, and it names its weights."""
    path, _ = init({"cat": 30, "dog": 20})
    study = specfile.read(path)
    assert study.spec.weights
    assert study.spec.weights.torchvision == "IMAGENET1K_V1"
    assert study.path.name == "first.yaml"
    plan = plan_of(path, workspace)
    assert {judgement.verdict for judgement in plan.judgements} == {"valid"}
    assert plan.replicates[0].data.train_size >= study.spec.train.batch_size
    assert len(plan.replicates) == 4 * 7 * 3  # policies × (baseline, five tricks, all) × seeds


def test_root_is_relative_to_the_spec(init, workspace, monkeypatch, tmp_path_factory):
    path, _ = init({"cat": 30, "dog": 20})
    assert YAML(typ="safe").load(path.read_text())["data"]["root"] == "../photos"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert survey_of(path, workspace).classes == ("cat", "dog")


@pytest.mark.parametrize("side", [8, 40, 60, 64, 65, 100, 300])
def test_image_size_follows_the_images(init, side):
    path, said = init({"cat": 4, "dog": 4}, size=(side + 7, side))
    size = specfile.read(path).spec.data.image_size
    assert f"shorter side about {side} pixels" in path.read_text()
    assert f"shorter side about {side} pixels" in said
    assert 64 <= size <= 224  # what a ResNet of torchvision takes
    assert size >= min(side, 224)  # no pixel is thrown away without need
    assert size < 2 * max(side, 64)
    assert f"image_size: {size}" in path.read_text()


@pytest.mark.parametrize(("cat", "dog"), [(6, 6), (10, 30), (60, 60), (400, 90)])
def test_batch_leaves_several_steps_an_epoch(init, workspace, cat, dog):
    path, _ = init({"cat": cat, "dog": dog})
    batch_size = specfile.read(path).spec.train.batch_size
    assert batch_size >= 2
    assert survey_of(path, workspace).train_size >= 2 * batch_size


@pytest.mark.parametrize(
    "layout", [("cat", "dog"), ("train/cat", "train/dog", "test/cat", "test/dog"), ("train/a", "train/b")]
)
@pytest.mark.parametrize("count", [8, 10, 11, 13, 15, 17, 18, 19, 20, 40])
def test_first_look_at_a_large_set_can_be_planned(init, workspace, monkeypatch, layout, count):
    """As many images as it asks for are left beside validation and test, also just above its limit."""
    monkeypatch.setattr(onboard, "_FIRST_LOOK", 20)
    path, _ = init(dict.fromkeys(layout, count))
    assert survey_of(path, workspace).train_size <= 2 * 15
    if count == 40:
        assert survey_of(path, workspace).train_size == 20


def test_many_classes_are_counted_and_not_all_listed(init):
    path, said = init({f"class{number:02d}": 3 for number in range(20)})
    for text in (path.read_text(), said):
        assert "60 images in 20 classes" in text
        assert "class00" in text
        assert "class19" not in text
        assert "8 more classes" in text


def test_name_of_the_study_is_that_of_the_folder(init):
    path, _ = init({"cat": 4, "dog": 4}, name="My photos (2)")
    assert specfile.read(path).spec.name == "My-photos-2"


@pytest.mark.parametrize("name", ["2024", "1e5", "null", "true", "_photos", "___"])
def test_name_of_any_folder_gives_a_spec_that_can_be_read(init, name):
    path, _ = init({"cat": 4, "dog": 4}, name=name)
    assert specfile.read(path).spec.name


@pytest.mark.parametrize("name", ["it's", 'say "x"', "a: b", "# a", "50 % & <more>", "grün"])
def test_root_of_any_folder_is_found_again(init, workspace, name):
    path, _ = init({"cat": 10, "dog": 10}, name=name)
    assert survey_of(path, workspace).classes == ("cat", "dog")


def test_spec_is_named_after_the_folder_where_no_file_is_given(workspace, monkeypatch):
    photos = image_folder(workspace.root / "photos", {"cat": 4, "dog": 4})
    monkeypatch.chdir(workspace.root)
    said = write_spec(photos, None)
    assert (workspace.root / "photos.yaml").exists()
    assert "harness plan photos.yaml" in said


# Copies.


def test_copies_are_counted_and_leaks_named(init, workspace):
    photos = image_folder(workspace.root / "photos", {"train/cat": 9, "train/dog": 9, "test/cat": 2, "test/dog": 2})
    shutil.copy(photos / "train/cat/000.png", photos / "train/cat/copy.png")
    shutil.copy(photos / "train/cat/000.png", photos / "train/cat/again.png")
    shutil.copy(photos / "test/dog/000.png", photos / "train/dog/leak.png")
    found = inspect(photos)
    assert (found.copies, found.leaks) == (3, 1)
    path, said = init({})
    assert "3 files are copies" in path.read_text()
    assert "1 groups of copies straddle splits or classes" in path.read_text()
    assert "3 files are copies" in said


def test_copy_under_another_class_is_a_leak(tmp_path):
    image_folder(tmp_path, {"cat": 3, "dog": 3})
    shutil.copy(tmp_path / "cat/000.png", tmp_path / "dog/copy.png")
    assert (inspect(tmp_path).copies, inspect(tmp_path).leaks) == (1, 1)


def test_files_of_one_size_are_no_copies_for_that(tmp_path):
    image_folder(tmp_path, {"cat": 3, "dog": 3}, suffix=".bmp")
    assert (inspect(tmp_path).copies, inspect(tmp_path).leaks) == (0, 0)


def test_no_copies_is_said(init):
    path, said = init({"cat": 4, "dog": 4})
    assert "No two files are copies" in path.read_text()
    assert "no two files are copies" in said


# What is refused.


def test_one_class_is_refused_by_name(tmp_path):
    image_folder(tmp_path, {"cat": 3})
    with pytest.raises(HarnessError, match="one class, 'cat'"):
        write_spec(tmp_path, tmp_path / "first.yaml")
    assert not (tmp_path / "first.yaml").exists()


def test_images_with_masks_are_no_two_classes(tmp_path):
    image_folder(tmp_path, {"images": 3, "annotations": 3})
    with pytest.raises(HarnessError, match="Boxes and masks"):
        write_spec(tmp_path, tmp_path / "first.yaml")
    assert not (tmp_path / "first.yaml").exists()


@pytest.mark.parametrize("layout", [{}, {"cat": 0, "dog": 0}])
def test_folder_without_images_is_refused(tmp_path, layout):
    image_folder(tmp_path, layout)
    with pytest.raises(HarnessError, match="no images"):
        write_spec(tmp_path, tmp_path / "first.yaml")


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(HarnessError, match=str(tmp_path / "none")):
        write_spec(tmp_path / "none", tmp_path / "first.yaml")


def test_unreadable_image_is_named(tmp_path):
    image_folder(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "cat" / "001.png").write_bytes(b"no image")
    with pytest.raises(HarnessError, match=f"cannot read image {tmp_path}/cat/001.png"):
        write_spec(tmp_path, tmp_path / "first.yaml")


def test_no_file_is_overwritten(init, workspace):
    path = workspace.root / "experiments" / "first.yaml"
    path.write_text("mine")
    with pytest.raises(HarnessError, match=f"{path} is there already.*--out"):
        init({"cat": 4, "dog": 4})
    assert path.read_text() == "mine"


def test_missing_folder_of_the_spec_is_named(tmp_path):
    image_folder(tmp_path, {"cat": 3, "dog": 3})
    with pytest.raises(HarnessError, match=f"cannot write {tmp_path}/none/first.yaml"):
        write_spec(tmp_path, tmp_path / "none" / "first.yaml")
