import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from harness.data.normalise import Normalise
from harness.errors import HarnessError
from harness.recipe import Conflict, Recipe
from harness.seeds import derive
from harness.spec import Data
from harness.tricks import compose
from harness.tricks.random_erasing import EraseBoxes, RandomErasingTrick
from tests.watching import CPU, TWO_CLASSES, changed, two_steps, watch

DEFAULT = EraseBoxes(0.5, (0.02, 0.33), (0.3, 3.3), (124, 116, 104))
ALWAYS = EraseBoxes(1.0, (0.02, 0.33), (0.3, 3.3), (124, 116, 104))


def random_images(n: int = 40, height: int = 20, width: int = 30) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, height, width), dtype=np.uint8))


def test_each_box_is_painted_as_torchvision_does():
    images = random_images()
    erased = DEFAULT(images, np.random.default_rng(7))
    boxes = DEFAULT.boxes(40, 20, 30, np.random.default_rng(7)).tolist()
    value = torch.tensor([124, 116, 104], dtype=torch.uint8)[:, None, None]
    for image, result, (top, left, tall, wide) in zip(images, erased, boxes, strict=True):
        assert torch.equal(result, functional.erase(image, top, left, tall, wide, value))
    assert erased.dtype == torch.uint8


@pytest.mark.parametrize("size", [(32, 32), (20, 30), (8, 8)])
def test_boxes_are_those_of_torchvisions_transform(size, monkeypatch):
    """Handed our draws in the order of its own, its transform finds the same boxes, failed attempts included."""
    height, width = size
    hard = EraseBoxes(1.0, (0.02, 0.9), (0.1, 9.0), (0, 0, 0))
    boxes = hard.boxes(200, height, width, np.random.default_rng(3))
    again = np.random.default_rng(3)
    areas, ratios = again.uniform(0.02, 0.9, (10, 200)), again.uniform(np.log(0.1), np.log(9.0), (10, 200))
    theirs = v2.RandomErasing(p=1.0, scale=(0.02, 0.9), ratio=(0.1, 9.0))
    attempts = []
    for index, (top, left, tall, wide) in enumerate(boxes.tolist()):
        numbers = iter(np.stack([areas[:, index], ratios[:, index]], axis=1).ravel().tolist())
        places = iter([top, left])

        def uniform(self, *_, numbers=numbers):
            return self.double().fill_(next(numbers))

        def randint(_, high, places=places, **__):
            place = next(places)
            assert 0 <= place < high
            return torch.tensor([place])

        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "uniform_", uniform)
            patch.setattr(torch, "randint", randint)
            found = theirs.make_params([torch.zeros(3, height, width)])
        attempts.append((20 - len(list(numbers))) // 2)
        if found["v"] is None:
            assert tall == wide == 0
        else:
            assert [found[key] for key in "ijhw"] == [top, left, tall, wide]
    assert max(attempts) > 3


def test_each_image_has_a_box_of_its_own_with_probability_p():
    for p in (0.25, 0.5, 1.0):
        boxes = EraseBoxes(p, (0.02, 0.33), (0.3, 3.3), (0, 0, 0)).boxes(4000, 32, 32, np.random.default_rng(0))
        erased = boxes[:, 2] > 0
        assert erased.mean() == pytest.approx(p, abs=0.03 * (p < 1))
        assert len({tuple(box) for box in boxes[erased].tolist()}) > 0.9 * erased.sum()


def test_areas_are_uniform_and_tall_is_as_likely_as_wide():
    boxes = ALWAYS.boxes(20000, 224, 224, np.random.default_rng(0))
    shares = boxes[:, 2] * boxes[:, 3] / 224**2
    assert shares.min() == pytest.approx(0.02, abs=0.002)
    assert shares.max() == pytest.approx(0.33, abs=0.01)
    assert shares.mean() == pytest.approx((0.02 + 0.33) / 2, abs=0.005)
    ratios = np.log(boxes[:, 2] / boxes[:, 3])
    assert ratios.mean() == pytest.approx((np.log(0.3) + np.log(3.3)) / 2, abs=0.03)
    assert np.exp([ratios.min(), ratios.max()]) == pytest.approx([0.3, 3.3], rel=0.08)


def test_boxes_reach_every_corner_and_lie_inside():
    top, left, tall, wide = ALWAYS.boxes(40000, 9, 12, np.random.default_rng(0)).T
    assert (top.min(), left.min(), (top + tall).max(), (left + wide).max()) == (0, 0, 9, 12)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert {tuple(pair) for pair in np.stack([top, left], 1)[(tall == 2) & (wide == 2)].tolist()} == {
        (row, column) for row in range(8) for column in range(11)
    }


def test_an_image_that_no_box_fits_stays_whole():
    images = random_images(height=2, width=2)
    assert torch.equal(EraseBoxes(1.0, (0.9, 0.99), (1.0, 1.0), (0, 0, 0))(images, np.random.default_rng(0)), images)


def test_what_is_painted_is_nothing_once_it_is_normalised():
    """As torchvision's reference training erases normalised images with 0; half a byte is what bytes can tell."""
    painted = torch.tensor(RandomErasingTrick().value, dtype=torch.uint8)[None, :, None, None]
    assert Normalise(Data(name="digits"), CPU)(painted).abs().max() < 0.5 / 255 / 0.224


def test_it_draws_from_the_generator_it_is_given_and_leaves_its_images_alone():
    images = random_images()
    kept, torch_state = images.clone(), torch.get_rng_state()
    one, other = (DEFAULT(images, np.random.default_rng(9)) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, DEFAULT(images, np.random.default_rng(10)))
    generator = np.random.default_rng(9)
    DEFAULT(images, generator)
    assert not torch.equal(one, DEFAULT(images, generator))
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_trick_adds_to_the_augmentations_and_nothing_else():
    assert RandomErasingTrick()(Recipe()) == Recipe(augments=(DEFAULT,))


def test_two_levels_conflict():
    with pytest.raises(Conflict, match="two EraseBoxes stand in the augments of the recipe; only one can"):
        compose({"weak": RandomErasingTrick(0.1), "strong": RandomErasingTrick()})


def test_a_training_sees_erased_images_of_the_same_batches(tmp_path):
    base, with_trick = (
        watch(two_steps(tricks, seed=5), tmp_path) for tricks in ({}, {"random_erasing": RandomErasingTrick()})
    )
    generator = np.random.default_rng(derive(5, "EraseBoxes"))
    value = Normalise(TWO_CLASSES, CPU)(torch.tensor([124, 116, 104], dtype=torch.uint8)[None, :, None, None])[0]
    erased = 0
    for plain, other in zip(base, with_trick, strict=True):
        for image, result, (top, left, tall, wide) in zip(
            plain.images, other.images, DEFAULT.boxes(8, 8, 8, generator).tolist(), strict=True
        ):
            assert torch.equal(result, functional.erase(image, top, left, tall, wide, value))
            erased += tall > 0
        assert torch.equal(plain.targets, other.targets)
    assert 0 < erased < 16
    assert changed(base[-1].after, with_trick[-1].after) >= {"conv1.weight", "fc.weight"}


def test_parameters_as_a_user_writes_them(read_trick):
    assert read_trick("random_erasing: ") == RandomErasingTrick(0.5, (0.02, 0.33), (0.3, 3.3), (124, 116, 104))
    assert read_trick(
        "random_erasing: {p: 0.1, scale: [0.02, 0.4], ratio: [0.5, 2], value: [0, 0, 255]}"
    ) == RandomErasingTrick(0.1, (0.02, 0.4), (0.5, 2.0), (0, 0, 255))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("p", "0"),
        ("p", "1.5"),
        ("p", "'0.5'"),
        ("scale", "[0, 0.3]"),
        ("scale", "[0.1, 1]"),
        ("scale", "[0.1]"),
        ("ratio", "[-1, 2]"),
        ("ratio", "[1, .inf]"),
        ("value", "[0, 0, 256]"),
        ("value", "0"),
    ],
)
def test_values_that_mean_nothing_are_refused(name, value, read_trick):
    with pytest.raises(HarnessError, match=rf"tiny.yaml:10: tricks\.random_erasing\.{name}"):
        read_trick(f"random_erasing: {{{name}: {value}}}")


@pytest.mark.parametrize("name", ["scale", "ratio"])
def test_a_range_that_ends_before_it_begins_is_refused(name, read_trick):
    with pytest.raises(
        HarnessError, match=rf"tiny.yaml:10: tricks\.random_erasing: {name} goes from 0.5 to 0.4: write the smaller"
    ):
        read_trick(f"random_erasing: {{{name}: [0.5, 0.4]}}")
