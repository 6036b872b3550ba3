"""Image folders: layouts, odd images, what is refused, the fingerprint and the decoded cache."""

import os
import shutil
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness import data as images
from harness.data import decoding
from harness.data.sizes import OPEN, TEST, TRAIN, VAL
from harness.errors import HarnessError
from harness.spec import Data
from tests.samples import image_folder, pixels_of

CIFAR = os.path.join(os.path.dirname(__file__), "..", "..", "..", "shared", "data", "cifar10.tgz")


def folder_at(root, size=8, **options):
    return Data(name="image_folder", root=str(root), image_size=size, **options)


def counts(root, **options):
    return decoding.catalogue_of(folder_at(root, **options)).counts()


def fingerprint(root, **options):
    return decoding.catalogue_of(folder_at(root, **options)).content()


def read(root, cache, **options):
    data = folder_at(root, **options)
    return decoding.read(data, fingerprint(root, **options), cache)


# Layouts.


def test_one_folder_is_open_to_be_split(tmp_path):
    image_folder(tmp_path, {"cat": 3, "dog": 2})
    assert counts(tmp_path) == {"cat": {OPEN: 3}, "dog": {OPEN: 2}}


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_splits_of_the_publisher_are_kept(tmp_path, val):
    image_folder(tmp_path, {"train/cat": 4, "train/dog": 3, f"{val}/cat": 2, f"{val}/dog": 1, "test/cat": 1})
    assert counts(tmp_path) == {"cat": {TRAIN: 4, VAL: 2, TEST: 1}, "dog": {TRAIN: 3, VAL: 1}}


def test_names_of_splits_may_be_capitalised(tmp_path):
    image_folder(tmp_path, {"Train/cat": 2, "Train/dog": 2, "Test/cat": 1})
    assert counts(tmp_path) == {"cat": {TRAIN: 2, TEST: 1}, "dog": {TRAIN: 2}}


def test_folders_beside_the_splits_are_no_classes(tmp_path):
    image_folder(tmp_path, {"train/cat": 2, "train/dog": 2, "drafts/cat": 5, "unlabelled": 5})
    assert counts(tmp_path) == {"cat": {TRAIN: 2}, "dog": {TRAIN: 2}}


def test_images_may_lie_deeper_in_their_class(tmp_path):
    image_folder(tmp_path, {"cat/indoors/day": 2, "cat/outdoors": 1, "dog": 2})
    assert counts(tmp_path) == {"cat": {OPEN: 3}, "dog": {OPEN: 2}}


def test_hidden_folders_are_no_classes(tmp_path):
    image_folder(tmp_path, {"cat": 1, "dog": 1, ".thumbnails": 3})
    assert list(counts(tmp_path)) == ["cat", "dog"]


@pytest.mark.parametrize("name", ["cat/.ipynb_checkpoints/000.png", "cat/._000.png"])
def test_hidden_files_and_folders_within_a_class_are_ignored(tmp_path, name):
    """Notebooks and file managers leave copies and thumbnails there that nobody sees."""
    image_folder(tmp_path, {"cat": 1, "dog": 1})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    shutil.copy(tmp_path / "cat" / "000.png", tmp_path / name)
    assert counts(tmp_path)["cat"] == {OPEN: 1}


def test_files_that_are_no_images_are_ignored(tmp_path):
    image_folder(tmp_path, {"cat": 1, "dog": 1, "notes": 0})
    for name in ("readme.txt", "cat/labels.csv", "cat/Thumbs.db", "notes/todo.md", "stray.png"):
        (tmp_path / name).write_text("no image")
    assert counts(tmp_path) == {"cat": {OPEN: 1}, "dog": {OPEN: 1}}


def test_suffix_may_be_in_capitals(tmp_path):
    image_folder(tmp_path, {"cat": 1, "dog": 1}, suffix=".JPG")
    assert counts(tmp_path) == {"cat": {OPEN: 1}, "dog": {OPEN: 1}}


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(HarnessError, match=str(tmp_path / "none")):
        counts(tmp_path / "none")


def test_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match="no folder"):
        counts(tmp_path / "file")


@pytest.mark.parametrize("layout", [{}, {"cat": 0}, {"train/cat": 0}, {"train": 2}, {".": 2}])
def test_folder_without_images_says_what_was_expected(tmp_path, layout):
    image_folder(tmp_path, layout)
    with pytest.raises(HarnessError, match=f"no images under {tmp_path}.*<class>/<image>"):
        counts(tmp_path)


# Classes.


def test_classes_asked_for_are_labels_in_their_order(tmp_path):
    image_folder(tmp_path, {"ant": 2, "bee": 3, "cat": 1})
    pool = read(tmp_path, tmp_path / "cache", classes=("cat", "ant"))
    assert pool.classes == ("cat", "ant")
    assert np.bincount(pool.labels).tolist() == [1, 2]
    assert counts(tmp_path, classes=("cat", "ant")) == {"cat": {OPEN: 1}, "ant": {OPEN: 2}}


def test_unknown_class_names_the_legal_ones_and_the_likely_one(tmp_path):
    image_folder(tmp_path, {"ant": 2, "bee": 3})
    with pytest.raises(HarnessError, match=r"'bea'; legal: ant, bee\. Did you mean 'bee'"):
        counts(tmp_path, classes=("ant", "bea"))


# Decoding.


def test_pixels_and_labels_are_those_of_the_files(tmp_path):
    image_folder(tmp_path / "photos", {"train/cat": 3, "train/dog": 4, "test/dog": 2})
    pool = read(tmp_path / "photos", tmp_path)
    assert pool.images.shape == (9, 3, 8, 8)
    assert pool.images.dtype == np.uint8
    assert pool.labels.dtype == np.int64
    files = sorted((tmp_path / "photos").rglob("*.png"))
    for row, file in enumerate(files):
        assert np.array_equal(pool.images[row], np.asarray(Image.open(file)).transpose(2, 0, 1))
        assert pool.classes[pool.labels[row]] == file.parent.name
        assert pool.given[row] == {"train": TRAIN, "test": TEST}[file.parent.parent.name]


COLOURS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def saved(tmp_path, image, name="image.png", **options):
    image.save(tmp_path / name, **options)
    return decoding.decode(str(tmp_path / name), 8)


def test_grey_image_is_grey_in_three_channels(tmp_path):
    decoded = saved(tmp_path, Image.fromarray(COLOURS[..., 0]))
    assert np.array_equal(decoded, np.broadcast_to(COLOURS[..., 0], (3, 8, 8)))


def test_opaque_rgba_image_keeps_its_colours(tmp_path):
    image = Image.fromarray(np.dstack([COLOURS, np.full((8, 8), 255, np.uint8)]))
    assert image.mode == "RGBA"
    assert np.array_equal(saved(tmp_path, image), COLOURS.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["image.png", "image.gif"])
def test_palette_image_has_the_colours_of_its_palette(tmp_path, name):
    image = Image.fromarray(COLOURS // 64 * 64).quantize(64)
    assert image.mode == "P"
    assert np.array_equal(saved(tmp_path, image, name), np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_black_and_white_image(tmp_path):
    bits = COLOURS[..., 0] > 127
    assert np.array_equal(saved(tmp_path, Image.fromarray(bits))[1], np.where(bits, 255, 0))


def test_grey_image_of_16_bits_keeps_its_shades(tmp_path):
    shades = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    decoded = saved(tmp_path, Image.fromarray(shades))[0].astype(float)
    assert np.abs(decoded - shades / 257).max() <= 1


def test_palette_image_with_transparency_is_read_in_silence(tmp_path):
    image = Image.fromarray(COLOURS).quantize(16)
    saved(tmp_path, image, transparency=bytes([0, 100] + [255] * 14))


@pytest.mark.parametrize("size", [(24, 8), (8, 24), (48, 16), (16, 48), (25, 8)])
def test_image_that_is_not_square_is_cut_at_its_centre(tmp_path, size):
    """Three stripes across the longer side: only the middle one is left."""
    width, height = size
    stripe = np.linspace(0, 3, max(size), endpoint=False).astype(int)
    colour = np.eye(3, dtype=np.uint8)[stripe] * 255
    pixels = np.broadcast_to(colour[None] if width > height else colour[:, None], (height, width, 3))
    decoded = saved(tmp_path, Image.fromarray(np.ascontiguousarray(pixels)))
    assert decoded.shape == (3, 8, 8)
    inner = decoded[:, 2:6, 2:6]  # resizing may blend the stripes at the border
    assert (inner[1] == 255).all()
    assert (inner[[0, 2]] == 0).all()


def test_larger_and_smaller_images_are_resized(tmp_path):
    grey = Image.fromarray(np.full((30, 30, 3), 77, np.uint8))
    assert (saved(tmp_path, grey) == 77).all()
    assert saved(tmp_path, grey.resize((3, 5))).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda pixels: pixels),
        (2, lambda pixels: pixels[:, ::-1]),
        (3, lambda pixels: pixels[::-1, ::-1]),
        (6, lambda pixels: np.rot90(pixels, -1)),  # the camera was held with its right side down
        (8, lambda pixels: np.rot90(pixels, 1)),
    ],
)
def test_photograph_is_turned_upright(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = saved(tmp_path, Image.fromarray(COLOURS), exif=exif)
    assert np.array_equal(decoded, turned(COLOURS).transpose(2, 0, 1))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_file_that_is_no_image_is_named(tmp_path, content):
    image_folder(tmp_path, {"cat": 3, "dog": 3})
    broken = tmp_path / "dog" / "001.png"
    broken.write_bytes(content)
    with pytest.raises(HarnessError, match=f"cannot read image {broken}"):
        read(tmp_path, tmp_path / "cache")


def test_truncated_image_is_named(tmp_path):
    image_folder(tmp_path, {"cat": 3, "dog": 3}, size=(64, 64), suffix=".jpg")
    broken = tmp_path / "dog" / "001.jpg"
    broken.write_bytes(broken.read_bytes()[:600])
    with pytest.raises(HarnessError, match=f"cannot read image {broken}"):
        read(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ppm", b"P6\nx y\n255\n"),
        ("b.bmp", b"BM" + bytes(12) + b"\x28\0\0\0" + b"\xff\xff\0\0" * 2 + b"\1\0\x18\0" + bytes(24)),
    ],
    ids=["bad header", "absurd size"],
)
def test_image_that_breaks_its_decoder_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HarnessError, match=f"cannot read image {tmp_path / name}"):
        decoding.decode(str(tmp_path / name), 8)


# The fingerprint.


def test_fingerprint_changes_with_the_files(tmp_path):
    image_folder(tmp_path, {"cat": 3, "dog": 3})
    found = [fingerprint(tmp_path)]
    image_folder(tmp_path, {"cow": 1})  # added
    found.append(fingerprint(tmp_path))
    file = tmp_path / "cat" / "000.png"
    file.write_bytes(file.read_bytes()[::-1])  # other bytes, no other size
    found.append(fingerprint(tmp_path))
    (tmp_path / "cow" / "000.png").rename(tmp_path / "dog" / "#.png")  # another class, in the same place of the order
    found.append(fingerprint(tmp_path))
    (tmp_path / "dog" / "#.png").unlink()
    found.append(fingerprint(tmp_path))
    assert len(set(found)) == len(found)


def test_fingerprint_is_not_where_and_when_the_files_were_written(tmp_path):
    image_folder(tmp_path / "here", {"cat": 3, "dog": 3})
    before = fingerprint(tmp_path / "here")
    (tmp_path / "here" / "notes.txt").write_text("no image")
    os.utime(tmp_path / "here" / "cat" / "000.png", (0, 0))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert fingerprint(tmp_path / "there") == before


def test_fingerprint_is_that_of_the_classes_asked_for(tmp_path):
    image_folder(tmp_path, {"ant": 2, "bee": 3, "cat": 1})
    before = fingerprint(tmp_path, classes=("ant", "bee"))
    image_folder(tmp_path, {"cow": 1, "cat": 5})
    assert fingerprint(tmp_path, classes=("ant", "bee")) == before
    assert fingerprint(tmp_path, classes=("ant", "cat")) != before


@pytest.mark.skipif(os.geteuid() == 0, reason="whoever is root may read every file")
def test_file_that_may_not_be_read_is_named(tmp_path):
    image_folder(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "cat" / "001.png").chmod(0)
    with pytest.raises(HarnessError, match=f"cannot read image {tmp_path}/cat/001.png"):
        fingerprint(tmp_path)


def test_link_to_nowhere_is_named(tmp_path):
    image_folder(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(HarnessError, match=f"cannot read image {tmp_path}/cat/gone.png"):
        fingerprint(tmp_path)


@pytest.fixture
def opened(monkeypatch):
    """The files whose bytes were read, on a clock that is an hour ahead of the files."""
    files = []

    def read_bytes(path, real=Path.read_bytes):
        files.append(path.name)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(time, "time_ns", lambda real=time.time_ns: real() + 3600 * 10**9)
    return files


def remembered(root, cache, **options):
    return decoding.catalogue_of(folder_at(root, **options)).content(cache)


def test_files_that_were_not_touched_are_not_read_again(tmp_path, opened):
    photos = image_folder(tmp_path / "photos", {"cat": 3, "dog": 3})
    first = remembered(photos, tmp_path / "cache")
    assert len(opened) == 6
    assert remembered(photos, tmp_path / "cache") == first == fingerprint(photos)
    assert len(opened) == 6 + 6  # those of the fingerprint, which has no memory


def test_only_files_that_were_touched_are_read_again(tmp_path, opened):
    photos = image_folder(tmp_path / "photos", {"cat": 3, "dog": 3})
    remembered(photos, tmp_path / "cache")
    changed = photos / "dog" / "001.png"
    stat = changed.stat()
    changed.write_bytes(changed.read_bytes()[::-1])
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as archives and copies do
    opened.clear()
    found = remembered(photos, tmp_path / "cache")
    assert opened == ["001.png"]
    assert found == fingerprint(photos)


def test_files_touched_just_now_are_not_trusted(tmp_path, opened, monkeypatch):
    """Within one tick of the clock a file can change and keep its size and its times."""
    monkeypatch.undo()
    photos = image_folder(tmp_path / "photos", {"cat": 3, "dog": 3})
    remembered(photos, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("files-*"))
    assert opened == []


def test_tasks_on_one_folder_keep_one_memory(tmp_path, opened):
    photos = image_folder(tmp_path / "photos", {"ant": 1, "bee": 1, "cat": 1, "dog": 1})
    for classes in (("ant", "bee"), ("cat", "dog")):
        remembered(photos, tmp_path / "cache", classes=classes)
    opened.clear()
    remembered(photos, tmp_path / "cache")
    assert opened == []


def test_memory_that_is_broken_is_made_anew(tmp_path, opened):
    photos = image_folder(tmp_path / "photos", {"cat": 3, "dog": 3})
    first = remembered(photos, tmp_path / "cache")
    (memory,) = (tmp_path / "cache").rglob("files-*")
    memory.write_text("{")
    assert remembered(photos, tmp_path / "cache") == first
    assert len(opened) == 12


def test_files_that_changed_after_the_plan_are_refused(tmp_path):
    photos = image_folder(tmp_path / "photos", {"cat": 3, "dog": 3})
    planned = fingerprint(photos)
    image_folder(photos, {"cat": 3}, seed=1)
    with pytest.raises(HarnessError, match=f"images under {photos} have changed"):
        decoding.read(folder_at(photos), planned, tmp_path / "cache")


# The cache.


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded, in any order."""
    files = []

    def spy(path, size, real=decoding.decode):
        files.append(path)
        return real(path, size)

    monkeypatch.setattr(decoding, "decode", spy)
    return files


def test_second_read_opens_no_image(tmp_path, decoded):
    image_folder(tmp_path / "photos", {"cat": 3, "dog": 2})
    first = read(tmp_path / "photos", tmp_path / "cache")
    assert len(decoded) == 5
    again = read(tmp_path / "photos", tmp_path / "cache")
    assert len(decoded) == 5
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)


def test_other_size_and_other_files_are_decoded_anew(tmp_path, decoded):
    image_folder(tmp_path / "photos", {"cat": 3, "dog": 2})
    read(tmp_path / "photos", tmp_path / "cache")
    assert read(tmp_path / "photos", tmp_path / "cache", size=16).images.shape[2:] == (16, 16)
    assert len(decoded) == 10
    image_folder(tmp_path / "photos", {"cow": 1})
    assert len(read(tmp_path / "photos", tmp_path / "cache").images) == 6
    assert len(decoded) == 16


def test_order_of_the_classes_makes_other_labels_of_the_same_pixels(tmp_path):
    image_folder(tmp_path / "photos", {"ant": 2, "bee": 3})
    one, other = (read(tmp_path / "photos", tmp_path, classes=classes) for classes in (("ant", "bee"), ("bee", "ant")))
    assert np.array_equal(one.images, other.images)
    assert np.array_equal(1 - one.labels, other.labels)


def test_two_folders_with_files_of_the_same_name_and_size_are_two(tmp_path):
    for seed, name in enumerate(("first", "second")):
        image_folder(tmp_path / name, {"cat": 2, "dog": 2}, suffix=".bmp", seed=seed)
    one, other = (read(tmp_path / name, tmp_path).images for name in ("first", "second"))
    assert not np.array_equal(one, other)


def test_cache_of_which_a_part_is_missing_is_made_anew(tmp_path, decoded):
    """A process that was killed between its two files leaves one of them."""
    image_folder(tmp_path / "photos", {"cat": 3, "dog": 2})
    before = read(tmp_path / "photos", tmp_path / "cache")
    for file in sorted((tmp_path / "cache").rglob("*rows*")):
        file.unlink()
    again = read(tmp_path / "photos", tmp_path / "cache")
    assert len(decoded) == 10
    assert np.array_equal(before.images, again.images)
    assert np.array_equal(before.labels, again.labels)
    assert np.array_equal(before.given, again.given)


def test_failed_decoding_leaves_nothing_behind(tmp_path, decoded):
    photos = image_folder(tmp_path / "photos", {"cat": 3, "dog": 3})
    good = (photos / "dog" / "001.png").read_bytes()
    (photos / "dog" / "001.png").write_bytes(b"x" * len(good))
    with pytest.raises(HarnessError, match="cannot read image"):
        read(photos, tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*.*")) == []
    (photos / "dog" / "001.png").write_bytes(good)
    pool = read(photos, tmp_path / "cache")
    assert np.array_equal(pool.images[4], np.asarray(Image.open(photos / "dog" / "001.png")).transpose(2, 0, 1))
    assert decoded


def test_cache_appears_whole(tmp_path, monkeypatch):
    """Whoever looks while the images are decoded finds no file that is only begun."""
    image_folder(tmp_path / "photos", {"cat": 3, "dog": 2})
    seen, lock = [], threading.Lock()

    def spy(path, size, real=decoding.decode):
        with lock:
            seen.extend((tmp_path / "cache").rglob("*.npy"))
        return real(path, size)

    monkeypatch.setattr(decoding, "decode", spy)
    read(tmp_path / "photos", tmp_path / "cache")
    assert seen == []
    assert {file.suffix for file in (tmp_path / "cache").rglob("*.*")} == {".npy"}  # no draft is left


# Real images.


@pytest.mark.skipif(not os.path.exists(CIFAR), reason="the CIFAR-10 images are not beside this repository")
def test_real_images_are_read_and_split(tmp_path):
    """A few images of each class of CIFAR-10, 32×32 JPEG, as `train` and `test` were published."""
    with tarfile.open(CIFAR) as archive:
        for member in archive:
            name = member.name
            if member.isfile() and int(os.path.basename(name).split(".")[0]) < (8 if "/train/" in name else 3):
                target = tmp_path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None
                target.write_bytes(content.read())
    data = folder_at(tmp_path / "cifar10", size=32, train_per_class=4)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert counts(tmp_path / "cifar10") == {name: {TRAIN: 8, TEST: 3} for name in names}
    found = images.survey(data)
    assert found.classes == tuple(names)
    assert (found.train_size, found.val_size, found.test_size) == (40, 20, 30)
    splits = images.load(data, found.content, 0, tmp_path / "cache", torch.device("cpu"))
    for part, per_class in ((splits.train, 4), (splits.val, 2), (splits.test, 3)):
        assert pixels_of(part).shape == (10 * per_class, 3, 32, 32)
        assert pixels_of(part).dtype == torch.uint8
        assert part.labels.bincount().tolist() == [per_class] * 10
    tested = {image.numpy().tobytes() for image in pixels_of(splits.test)}
    files = (tmp_path / "cifar10" / "test").rglob("*.jpg")
    assert tested == {np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes() for file in files}
    assert pixels_of(splits.train).float().std() > 30  # photographs, no blank squares
