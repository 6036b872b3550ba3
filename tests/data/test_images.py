"""Images in memory and images streamed: the same bits, whatever decodes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from harness import data as images
from harness.data import ImageSet, StreamedImages, decoding
from harness.data.batches import Batches
from harness.data.normalise import Normalise
from harness.errors import HarnessError
from harness.evaluate import predict
from harness.execute.job import Job
from harness.execute.local import LocalExecutor
from harness.recipe import Recipe
from harness.records import Finished
from harness.spec import Augment, Data
from harness.tricks.mixup import BatchMixup
from tests.samples import image_folder, pixels_of, predicted
from tests.watching import CPU, run, two_steps


@pytest.fixture
def photos(tmp_path):
    """Two classes of JPEGs that are neither square nor of one size, one file a copy of another."""
    root = image_folder(tmp_path / "photos", {"cat": 15, "dog": 6}, size=(20, 13), suffix=".jpg")
    image_folder(root, {"dog/more": 9}, size=(11, 17), suffix=".jpg", seed=1)
    (root / "cat" / "copy.jpg").write_bytes((root / "cat" / "000.jpg").read_bytes())
    return root


@pytest.fixture
def splits_of(photos, tmp_path):
    """A function that loads the splits, in memory (None) or streamed by so many workers."""

    def load(workers, **options):
        data = section(photos, workers, **options)
        return images.load(data, images.survey(data).content, 0, tmp_path / "cache", CPU)

    return load


def section(photos, workers, **options):
    stream = {"stream": workers is not None, "workers": workers or 0}
    return Data(**{"name": "image_folder", "root": str(photos), "image_size": 8, **stream, **options})


def training_on(photos, workers, **train):
    """Return a training whose every random step is on."""
    data = section(photos, workers)
    augment = Augment(flip=True, crop_padding=1)
    training = two_steps(augment=augment, batch_size=4, epochs=2, **train)
    return replace(
        training,
        data=data.model_copy(update={"root": None, "classes": ("cat", "dog")}),
        data_root=data.root,
        data_content=images.survey(data).content,
        recipe=Recipe(mixes=(BatchMixup(0.2),)),
    )


STREAMS = pytest.mark.parametrize("workers", [0, 2])


@STREAMS
@pytest.mark.parametrize("shift", [(), ("invert", "rotate90")])
def test_splits_have_the_same_images_and_labels(splits_of, workers, shift):
    memory, streamed = splits_of(None, shift=shift), splits_of(workers, shift=shift)
    assert streamed.duplicates_dropped == memory.duplicates_dropped == 1
    for part in ("train", "val", "test"):
        ours, theirs = getattr(memory, part), getattr(streamed, part)
        assert isinstance(ours, ImageSet)
        assert isinstance(theirs, StreamedImages)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.images, pixels_of(theirs))
        assert len(ours) == len(theirs)


@STREAMS
def test_batches_are_the_same_bit_for_bit(photos, splits_of, workers):
    training = training_on(photos, workers)
    memory, streamed = (Batches(training, splits_of(count).train, CPU) for count in (None, workers))
    for _ in range(2):
        pairs = list(zip(memory.epoch(), streamed.epoch(), strict=True))
        assert len(pairs) == memory.per_epoch > 2
        for (inputs, targets), (other_inputs, other_targets) in pairs:
            assert torch.equal(inputs, other_inputs)
            assert torch.equal(targets, other_targets)


def test_training_ends_with_the_same_weights_and_predictions(photos, tmp_path):
    ends = [run(training_on(photos, workers), tmp_path / "cache") for workers in (None, 0, 2)]
    (epochs, memory), *streamed = ends
    for other_epochs, other in streamed:
        assert other.weights_sha256 == memory.weights_sha256
        np.testing.assert_array_equal(predicted(other), predicted(memory))
        assert [e.val for e in other_epochs] == [e.val for e in epochs]
        assert [e.train_loss for e in other_epochs] == [e.train_loss for e in epochs]


def test_path_is_no_part_of_a_training(photos):
    assert training_on(photos, None).digest == training_on(photos, 0).digest == training_on(photos, 2).digest


def test_worker_of_a_grid_may_stream(photos, tmp_path):
    """Its process is one that multiprocessing would not let have children."""
    training = training_on(photos, 2)
    job = Job((training,), tmp_path / "cache")
    *_, last = LocalExecutor(["cpu"]).run([job])
    assert isinstance(last, Finished)
    assert last.weights_sha256 == run(training_on(photos, None), tmp_path / "cache")[1].weights_sha256


@STREAMS
def test_rows_come_in_the_order_asked_for(splits_of, workers):
    memory, streamed = splits_of(None).train, splits_of(workers).train
    for seed in range(3):  # the same workers serve every pass
        rows = torch.from_numpy(np.random.default_rng(seed).permutation(len(memory))[:7])
        batches = list(streamed.batches(rows, 3))
        assert [len(labels) for _, labels in batches] == [3, 3, 1]
        assert torch.equal(torch.cat([found for found, _ in batches]), memory.images[rows])
        assert torch.equal(torch.cat([labels for _, labels in batches]), memory.labels[rows])


@STREAMS
def test_pass_that_is_left_early_disturbs_no_other(splits_of, workers):
    memory, streamed = splits_of(None).train, splits_of(workers).train
    everything = torch.arange(len(memory))
    first = streamed.batches(everything.flip(0), 2)
    next(first)
    assert torch.equal(torch.cat([batch for batch, _ in streamed.batches(everything, 2)]), memory.images)
    with pytest.raises(RuntimeError, match="another pass"):
        next(first)


@STREAMS
def test_streaming_draws_nothing_from_the_global_generator(splits_of, workers):
    before = torch.get_rng_state()
    pixels_of(splits_of(workers).train)
    assert torch.equal(torch.get_rng_state(), before)


def test_predictions_are_the_same(splits_of):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    normalise = Normalise(Data(name="digits"), CPU)
    memory, streamed = (predict(module, splits_of(workers).train, normalise) for workers in (None, 2))
    assert torch.equal(memory, streamed)


def test_streamed_set_keeps_no_decoded_images(splits_of, tmp_path):
    splits_of(0)
    kept = {file.name.split(".")[1] for file in (tmp_path / "cache").rglob("*.npy")}
    assert kept == {"rows"}
    splits_of(None)  # what was decoded for copies alone is decoded again where it is to be kept
    assert {file.name.split(".")[1] for file in (tmp_path / "cache").rglob("*.npy")} == {"rows", "images"}


def test_images_are_streamed_where_they_would_fill_the_memory():
    data = Data(name="image_folder", root="photos", image_size=224)
    limit = decoding.STREAMED_BYTES // (3 * 224 * 224)
    assert limit == 28532
    assert not decoding.streams(data, limit)
    assert decoding.streams(data, limit + 1)
    for stream in (True, False):
        chosen = data.model_copy(update={"stream": stream})
        assert decoding.streams(chosen, 1) == decoding.streams(chosen, limit + 1) == stream


def test_streamed_files_that_changed_are_refused(photos, splits_of, tmp_path):
    splits_of(0)
    data = section(photos, 0)
    content = images.survey(data).content
    image_folder(photos, {"cat": 1}, seed=9, suffix=".jpg")
    with pytest.raises(HarnessError, match="have changed"):
        images.load(data, content, 0, tmp_path / "cache", CPU)
