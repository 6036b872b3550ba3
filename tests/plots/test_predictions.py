"""Test images with what was predicted of them."""

import io

import numpy as np
from PIL import Image

from harness.plots import predictions
from tests.plots.seen import drawn, shown


def png(shade: int, mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    Image.new(mode, (6, 4), shade if mode == "L" else (shade, 0, 255)).save(content, "PNG")
    return content.getvalue()


def test_networks_stand_below_each_other_with_their_pictures_in_order():
    figure = predictions({("full | a", 0): [png(0), png(51)], ("head | b", 3): [png(102)]})
    panels = shown(figure).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["full | a | seed 0", "", "head | b | seed 3", ""]
    reds = [[float(np.asarray(image.get_array())[0, 0, 0]) for image in panel.images] for panel in panels]
    np.testing.assert_allclose(np.concatenate(reds), [0, 0.2, 0.4], atol=1e-6)
    assert [len(found) for found in reds] == [1, 1, 1, 0]
    assert drawn(figure) == drawn(predictions({("full | a", 0): [png(0), png(51)], ("head | b", 3): [png(102)]}))


def test_a_grey_picture_is_grey():
    (panel,) = shown(predictions({("full | a", 0): [png(51, "L")]})).axes
    (image,) = panel.images
    np.testing.assert_allclose(image.to_rgba(np.asarray(image.get_array()))[0, 0], [0.2, 0.2, 0.2, 1.0], atol=0.01)


def test_no_pictures_no_figure():
    assert predictions({}) is None
