from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from harness.models.bfloat16 import StridedConv2d, spare_strided_convolutions
from harness.tricks.mixed_precision import MixedPrecisionTrick
from tests.watching import BOTTLENECKS, run, two_steps


def gradient(convolution: nn.Conv2d, images: Tensor) -> Tensor:
    convolution.zero_grad()
    litter = torch.full((500_000,), 1e30)  # what freed memory may hold
    del litter
    with torch.autocast("cpu", torch.bfloat16):
        convolution(images).sum().backward()
    assert convolution.weight.grad is not None
    return convolution.weight.grad.clone()


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 2, 1), (3, 3, 2), (5, 2, 1), (7, 3, 2)])
def test_taps_that_see_no_pixel_have_no_gradient(kernel, stride, side):
    convolution = nn.Conv2d(32, 32, kernel, stride, kernel // 2, bias=False)
    images = torch.rand(4, 32, side, side)
    exact = deepcopy(convolution)
    exact(images).sum().backward()
    spare_strided_convolutions(convolution)
    found = gradient(convolution, images)
    torch.testing.assert_close(found, exact.weight.grad)
    assert torch.equal(found, gradient(convolution, images))
    assert (found == 0).any()


def test_where_the_input_is_large_enough_it_computes_in_bfloat16():
    convolution = nn.Conv2d(3, 4, 3, 2, 1)
    spare_strided_convolutions(convolution)
    assert type(convolution) is StridedConv2d
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(torch.rand(1, 3, 2, 2)).dtype == torch.bfloat16
        assert convolution(torch.rand(1, 3, 1, 1)).dtype == torch.float32
        assert torch.is_autocast_enabled("cpu")
    assert convolution(torch.rand(1, 3, 1, 1)).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_convolutions_without_stride_and_the_names_of_all_stay():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2))
    names = list(module.state_dict())
    spare_strided_convolutions(module)
    assert [type(child) for child in module] == [nn.Conv2d, StridedConv2d]
    assert list(module.state_dict()) == names


def test_a_training_whose_last_stage_sees_one_pixel_gives_the_same_bits(tmp_path):
    """Images of 8 pixels, a 7×7 stem and three more halvings: the last 3×3 of stride 2 sees 1×1."""
    model = BOTTLENECKS.model_copy(update={"variant": "b"})
    training = two_steps({"mixed_precision": MixedPrecisionTrick()}, model=model, epochs=2)
    assert len({run(training, tmp_path)[1].weights_sha256 for _ in range(4)}) == 1
