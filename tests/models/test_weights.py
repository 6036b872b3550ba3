import hashlib
import pickle
import re
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn

from harness import specfile
from harness.digest import file_digest
from harness.errors import HarnessError
from harness.learner import initial_model
from harness.models import weights
from harness.models.build import build_model, layout_of
from harness.models.zoo import MODELS
from harness.planning import make_plan
from harness.spec import Model
from tests.watching import CPU, State, changed, copy_of, two_steps

HEAD = ("fc",)
RESNET18 = "resnet18-f37072fd.pth"


@pytest.fixture
def module() -> nn.Module:
    return build_model(Model(name="cifar_resnet8"), 3, seed=0)


@pytest.fixture
def source() -> State:
    """Weights of the same backbone under a head for more classes."""
    return copy_of(build_model(Model(name="cifar_resnet8"), 10, seed=1).state_dict())


def test_weights_enter_everything_but_the_head(module, source):
    before = copy_of(module.state_dict())
    weights.load_backbone(module, source, HEAD)
    after = copy_of(module.state_dict())
    assert not changed({**before, **{key: source[key] for key in source if not key.startswith("fc.")}}, after)
    assert changed(before, after) >= {"conv1.weight", "layer3.0.downsample.0.weight"}


def test_statistics_and_counts_enter_too(module, source):
    source["bn1.running_mean"] += 3
    source["bn1.num_batches_tracked"] += 7
    weights.load_backbone(module, source, HEAD)
    assert torch.equal(module.state_dict()["bn1.running_mean"], torch.full((16,), 3.0))
    assert module.state_dict()["bn1.num_batches_tracked"].item() == 7


def test_weights_without_a_head_fit_as_well(module, source):
    weights.load_backbone(module, {key: value for key, value in source.items() if not key.startswith("fc.")}, HEAD)
    assert not changed({"w": source["conv1.weight"]}, {"w": module.state_dict()["conv1.weight"]})


def test_weights_older_than_the_counts_of_batch_norm_fit_as_well(module, source):
    """torch before 0.4.1 had none: all else enters, and the counts stay at 0."""
    counts = {key for key in source if key.endswith(".num_batches_tracked")}
    old = {key: value + 1 for key, value in source.items() if key not in counts}
    before = copy_of(module.state_dict())
    expected = {key: old[key] if key in old and not key.startswith("fc.") else before[key] for key in before}
    assert len(counts) == 9
    fit = weights.load_backbone(module, old, HEAD)
    assert set(fit.entering) == set(before) - counts - {"fc.weight", "fc.bias"}
    assert not changed(expected, copy_of(module.state_dict()))


def missing(source: State) -> None:
    del source["layer1.0.conv1.weight"]


def unexpected(source: State) -> None:
    source["layer4.0.conv1.weight"] = torch.zeros(1)


def misshapen(source: State) -> None:
    source["conv1.weight"] = torch.zeros(16, 1, 3, 3)


def not_quite_the_head(source: State) -> None:
    source["fcx.weight"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing, "missing: layer1.0.conv1.weight"),
        (unexpected, "unexpected: layer4.0.conv1.weight"),
        (misshapen, "of another shape: conv1.weight (16, 1, 3, 3) for (16, 3, 3, 3)"),
        (not_quite_the_head, "unexpected: fcx.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(spoil, said, module, source):
    before = copy_of(module.state_dict())
    spoil(source)
    with pytest.raises(HarnessError) as caught:
        weights.load_backbone(module, source, HEAD)
    assert str(caught.value) == f"the weights do not fit the model; {said}"
    assert not changed(before, copy_of(module.state_dict()))


def test_all_kinds_of_misfit_are_said_at_once_and_long_lists_cut(module, source):
    unexpected(source)
    misshapen(source)
    for key in [key for key in source if key.startswith("layer2")]:
        del source[key]
    with pytest.raises(HarnessError) as caught:
        weights.load_backbone(module, source, HEAD)
    assert str(caught.value) == (
        "the weights do not fit the model; "
        "missing: layer2.0.bn1.bias, layer2.0.bn1.running_mean, layer2.0.bn1.running_var, layer2.0.bn1.weight, "
        "layer2.0.bn2.bias and 10 more; "
        "unexpected: layer4.0.conv1.weight; of another shape: conv1.weight (16, 1, 3, 3) for (16, 3, 3, 3)"
    )


def test_what_does_not_fit_may_begin_at_random_and_can_be_asked_for(module, source):
    misshapen(source)
    unexpected(source)
    missing(source)
    before = copy_of(module.state_dict())
    fit = weights.load_backbone(module, source, HEAD, allow_mismatch=True)
    left = {"conv1.weight", "layer1.0.conv1.weight"}
    expected = {key: source[key] if key not in left and not key.startswith("fc.") else before[key] for key in before}
    assert not changed(expected, copy_of(module.state_dict()))
    assert fit.left_out == (
        "missing: layer1.0.conv1.weight; unexpected: layer4.0.conv1.weight; "
        "of another shape: conv1.weight (16, 1, 3, 3) for (16, 3, 3, 3)"
    )
    assert set(fit.entering) == set(before) - left - {"fc.weight", "fc.bias"}


def test_weights_of_a_plain_network_leave_a_deep_stem_at_random():
    plain = build_model(Model(name="mini_resnet14"), 3, seed=0).state_dict()
    module = build_model(Model(name="mini_resnet14", deep_stem=True), 3, seed=1)
    with pytest.raises(HarnessError, match=r"missing: conv1\.0\.weight.*; unexpected: conv1\.weight$"):
        weights.load_backbone(module, plain, HEAD)
    fit = weights.load_backbone(module, plain, HEAD, allow_mismatch=True)
    assert "conv1.6.weight" not in fit.entering
    assert "layer4.0.conv3.weight" in fit.entering


def test_weights_of_which_nothing_fits_are_refused_all_the_same(module):
    with pytest.raises(HarnessError, match=r"the weights do not fit the model; missing: .*; unexpected: a$"):
        weights.load_backbone(module, {"a": torch.ones(1), "fc.bias": torch.ones(3)}, HEAD, allow_mismatch=True)


def test_a_check_says_what_would_enter_and_changes_nothing(module, source):
    before = copy_of(module.state_dict())
    fit = weights.check_backbone(module, source, HEAD)
    assert set(fit.entering) == set(before) - {"fc.weight", "fc.bias"}
    assert fit.left_out == ""
    assert not changed(before, copy_of(module.state_dict()))


def test_saved_weights_read_back_bit_for_bit(source, tmp_path):
    source["bn1.bias"][:2] = torch.tensor([float("nan"), -0.0])
    path = tmp_path / "a" / "b" / "weights.pt"
    weights.save(source, path)
    assert not changed(source, weights.read(path))


def test_saving_again_replaces_the_file(source, tmp_path):
    path = tmp_path / "weights.pt"
    weights.save(source, path)
    weights.save({"a": torch.ones(1)}, path)
    assert list(weights.read(path)) == ["a"]
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]


def test_a_write_that_fails_leaves_what_was_there_and_no_draft(source, tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    weights.save({"a": torch.ones(1)}, path)

    drafts = []

    def full_disk(_, draft):
        drafts.append(Path(draft.name))
        draft.write(b"half a fi")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        weights.save(source, path)
    with pytest.raises(OSError, match="no space left"):
        weights.save(source, path)
    monkeypatch.undo()
    assert [draft.parent for draft in drafts] == [tmp_path] * 2
    assert drafts[0] != drafts[1], "no other writes to it, whatever process on whatever host"
    assert list(weights.read(path)) == ["a"]
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]


class Dangerous:
    """Something that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "weights.pt"
    payload = {"conv1.weight": Dangerous(mark)}
    torch.save(payload, path)
    with pytest.raises(HarnessError, match=f"cannot read a state dict from {path}"):
        weights.read(path)
    path.write_bytes(pickle.dumps(payload))
    with pytest.raises(HarnessError, match=f"cannot read a state dict from {path}"):
        weights.read(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_weights_is_refused(content, tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match=f"cannot read a state dict from {path}"):
        weights.read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(HarnessError, match=f"cannot read a state dict from {path}: .*No such file"):
        weights.read(path)
    with pytest.raises(HarnessError, match=f"cannot read weights file {path}: No such file"):
        file_digest(path)


@pytest.mark.parametrize(
    "content",
    [
        [torch.ones(1)],
        torch.ones(1),
        {"weights": {"conv1.weight": torch.ones(1)}, "epoch": 3},
        {"state_dict": {"conv1.weight": 0.1}},
        {"conv1.weight": torch.ones(1), "epoch": 3},
        {"lr": 0.1},
        {0: torch.ones(1)},
        {"conv1.weight": torch.ones(1), ("fc", "weight"): torch.ones(1)},
    ],
    ids=["list", "tensor", "nested", "nested numbers", "an epoch", "numbers", "numbers as names", "a name no text"],
)
def test_what_is_no_flat_mapping_to_tensors_is_refused(content, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(HarnessError, match=f"{path} holds no state dict"):
        weights.read(path)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_common_forms_of_checkpoints_are_unwrapped(prefix, key, source, tmp_path):
    path = tmp_path / "weights.pt"
    state = OrderedDict((prefix + name, value) for name, value in source.items())
    torch.save({key: state, "epoch": 3, "optimizer": {"lr": 0.1}} if key else state, path)
    assert not changed(source, weights.read(path))


def test_a_prefix_of_some_names_is_no_wrapping(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, path)
    assert list(weights.read(path)) == ["module.a", "b"]


def test_code_in_a_nested_checkpoint_is_not_run(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "weights.pt"
    torch.save({"state_dict": {"conv1.weight": torch.ones(1)}, "args": Dangerous(mark)}, path)
    with pytest.raises(HarnessError, match=f"cannot read a state dict from {path}"):
        weights.read(path)
    assert not mark.exists()


def test_torchvisions_old_names_in_files_of_densenets_are_todays(tmp_path):
    """torchvision/models/densenet.py renames them as it loads: `denselayer1.norm.1` is `denselayer1.norm1`."""
    made = build_model(Model(name="densenet121"), 10, seed=1)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in made.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    path = tmp_path / "weights.pt"
    torch.save(old, path)
    module = build_model(Model(name="densenet121"), 3, seed=0)
    before = copy_of(module.state_dict())
    weights.load_backbone(module, weights.read(path), ("classifier",))
    expected = {key: before[key] if "classifier" in key else value for key, value in made.state_dict().items()}
    assert not changed(copy_of(expected), copy_of(module.state_dict()))


def test_a_file_counts_by_its_bytes(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"weights")
    other.write_bytes(b"weights")
    assert file_digest(one) == file_digest(other) == hashlib.sha256(b"weights").hexdigest()
    other.write_bytes(b"Weights")
    assert file_digest(one) != file_digest(other)


def test_saved_asks_whether_the_weights_that_are_kept_are_there(tmp_path):
    training = two_steps()
    path = tmp_path / "weights.pt"
    kept = replace(training, save_to=str(path))
    assert weights.saved(training)
    assert not weights.saved(kept)
    path.touch()
    assert weights.saved(kept)


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty TORCH_HOME, on a machine without a network."""
    home = tmp_path / "torch"
    monkeypatch.setenv("TORCH_HOME", str(home))

    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return home


def test_torchvisions_files_lie_where_torchvision_keeps_them(torch_home):
    entry = weights.torchvision_weights("resnet18", "IMAGENET1K_V1")
    assert weights.torchvision_path(entry) == torch_home / "hub" / "checkpoints" / RESNET18


def test_what_is_there_is_not_downloaded(torch_home, monkeypatch):
    entry = weights.torchvision_weights("resnet18", "IMAGENET1K_V1")
    path = torch_home / "hub" / "checkpoints" / RESNET18
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    monkeypatch.setattr(weights, "file_digest", {path: "f37072fd" + 56 * "0"}.__getitem__)
    weights.fetch(entry)
    assert path.read_bytes() == b"weights"


def test_a_file_that_is_not_what_its_name_says_is_refused_by_name_and_left_alone(torch_home):
    """torchvision's files are named by the first digits of their sha256."""
    entry = weights.torchvision_weights("resnet18", "IMAGENET1K_V1")
    path = torch_home / "hub" / "checkpoints" / RESNET18
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    with pytest.raises(HarnessError) as caught:
        weights.fetch(entry)
    message = str(caught.value)
    assert message.startswith(f"{path} is not torchvision's ")
    assert message.endswith("IMAGENET1K_V1: its sha256 does not begin with f37072fd")
    assert path.read_bytes() == b"weights"


def test_a_download_that_is_not_what_its_name_says_is_refused(torch_home, monkeypatch):
    """torch compares what came with the digits it is given, and raises RuntimeError."""
    entry = weights.torchvision_weights("resnet18", "IMAGENET1K_V1")

    def download(*_, hash_prefix, **__):
        raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "0123")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(HarnessError, match=r'downloading .* failed \(invalid hash value \(expected "f37072fd"'):
        weights.fetch(entry)
    assert not (torch_home / "hub" / "checkpoints" / RESNET18).exists()


def test_what_is_not_there_is_downloaded_to_its_place(torch_home, monkeypatch):
    entry = weights.torchvision_weights("resnet18", "IMAGENET1K_V1")
    asked = []

    def download(url, path, hash_prefix, **_):
        asked.append((url, hash_prefix))
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    weights.fetch(entry)
    assert asked == [(f"https://download.pytorch.org/models/{RESNET18}", "f37072fd")]
    assert (torch_home / "hub" / "checkpoints" / RESNET18).read_bytes() == b"weights"


def test_offline_the_error_says_which_file_goes_where(torch_home):
    entry = weights.torchvision_weights("resnet18", "IMAGENET1K_V1")
    with pytest.raises(HarnessError) as caught:
        weights.fetch(entry)
    message = str(caught.value)
    for part in (
        "IMAGENET1K_V1",
        str(torch_home / "hub" / "checkpoints" / RESNET18),
        f"https://download.pytorch.org/models/{RESNET18}",
        "no network",
        "TORCH_HOME",
    ):
        assert part in message
    assert not weights.torchvision_path(entry).exists()


def test_unknown_torchvision_weights_are_refused_with_the_legal_ones():
    with pytest.raises(HarnessError) as caught:
        weights.torchvision_weights("resnet50", "IMAGENET1K_V3")
    message = str(caught.value)
    assert message.startswith(
        "unknown torchvision weights of resnet50 'IMAGENET1K_V3'; legal: IMAGENET1K_V1, IMAGENET1K_V2"
    )


def test_a_model_that_is_not_torchvisions_has_no_torchvision_weights():
    with pytest.raises(HarnessError, match="torchvision has no weights for model 'cifar_resnet8'"):
        weights.torchvision_weights("cifar_resnet8", "IMAGENET1K_V1")


@pytest.mark.parametrize("name", [name for name, known in MODELS.items() if known.family == "torchvision"])
def test_every_torchvision_model_has_weights_that_fit_all_but_its_head(name):
    entry = weights.torchvision_weights(name, "IMAGENET1K_V1")
    assert re.fullmatch(r".+-[0-9a-f]{8}\.pth", weights.torchvision_path(entry).name)
    with torch.device("meta"):
        options = {"init_weights": True} if name == "inception_v3" else {}
        theirs = torchvision.models.get_model(name, num_classes=len(entry.meta["categories"]), **options)
        ours = build_model(Model(name=name), 3, seed=0)
    head = layout_of(Model(name=name), 3).head
    fit = weights.check_backbone(ours, theirs.state_dict(), head)
    assert set(ours.state_dict()) - set(fit.entering) == {
        f"{key}.{kind}" for key in head for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "inception_v3"])
def test_a_file_of_torchvisions_enters_all_but_the_head(name, tmp_path):
    made, path = build_model(Model(name=name), 10, seed=9), tmp_path / "weights.pt"
    weights.save(made.state_dict(), path)
    module, head = build_model(Model(name=name), 3, seed=0), layout_of(Model(name=name), 3).head
    before = copy_of(module.state_dict())
    weights.load_backbone(module, weights.read(path), head)
    expected = {
        key: before[key] if key.rpartition(".")[0] in head else value for key, value in made.state_dict().items()
    }
    assert not changed(copy_of(expected), copy_of(module.state_dict()))


KEPT = [("cifar_resnet8", ("fc",)), ("mobilenet_v2", ("classifier.1",)), ("inception_v3", ("AuxLogits.fc", "fc"))]


@pytest.mark.parametrize(("name", "head"), KEPT)
def test_weights_enter_an_old_classifier_under_an_appended_one(name, head):
    source = build_model(Model(name=name), 10, seed=1).state_dict()
    module = build_model(Model(name=name), 3, seed=0, kept_classes=10)
    new = {f"{key}.new.{kind}" for key in head for kind in ("weight", "bias")}
    before = copy_of(module.state_dict())
    weights.load_backbone(module, source, head)
    after = copy_of(module.state_dict())

    def before_appending(key: str) -> str:
        owner, _, kind = key.rpartition(".")
        return f"{owner.removesuffix('.old')}.{kind}"

    expected = {key: before[key] if key in new else source[before_appending(key)] for key in after}
    assert {key for key in before if key.endswith(("new.weight", "new.bias"))} == new
    assert len(expected) == len(source) + len(new)
    assert not changed(copy_of(expected), after)


def test_weights_of_another_number_of_classes_do_not_enter_an_old_classifier(module, source):
    module = build_model(Model(name="cifar_resnet8"), 3, seed=0, kept_classes=7)
    with pytest.raises(HarnessError) as caught:
        weights.load_backbone(module, source, HEAD)
    assert str(caught.value) == (
        "the weights do not fit the model; "
        "of another shape: fc.old.bias (10,) for (7,), fc.old.weight (10, 64) for (7, 64)"
    )


def test_weights_without_a_classifier_do_not_fit_where_the_old_one_is_kept(source):
    module = build_model(Model(name="cifar_resnet8"), 3, seed=0, kept_classes=10)
    headless = {key: value for key, value in source.items() if not key.startswith("fc.")}
    with pytest.raises(HarnessError, match=r"missing: fc\.old\.bias, fc\.old\.weight$"):
        weights.load_backbone(module, headless, HEAD)


def test_weights_of_a_network_with_an_appended_head_fit_another():
    made = build_model(Model(name="cifar_resnet8"), 5, seed=1, kept_classes=10).state_dict()
    module = build_model(Model(name="cifar_resnet8"), 3, seed=0, kept_classes=10)
    fit = weights.load_backbone(module, made, HEAD)
    assert set(made) - set(fit.entering) == {"fc.new.weight", "fc.new.bias"}


def test_a_study_on_torchvision_weights_begins_at_them(torch_home, write_spec, workspace):
    made = build_model(Model(name="resnet18"), 1000, seed=9)
    weights.save(made.state_dict(), torch_home / "hub" / "checkpoints" / RESNET18)
    old = write_spec().read_text()
    begin, end = old.index("weights:"), old.index('data: {name: digits, classes: ["5"')
    path = write_spec((old[begin:end], "weights: {torchvision: IMAGENET1K_V1}\n"), ("cifar_resnet8", "resnet18"))
    plan = make_plan(specfile.read(path), workspace)
    assert plan.prerequisites == ()
    start: dict[str, Tensor] = copy_of(initial_model(plan.replicates[0].training, CPU).state_dict())
    from_seed = copy_of(build_model(Model(name="resnet18"), 3, plan.replicates[0].seed).state_dict())
    expected = {key: from_seed[key] if key.startswith("fc.") else value for key, value in made.state_dict().items()}
    assert not changed(copy_of(expected), start)
