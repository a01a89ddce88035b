"""Sampling of regions: distribution, independence of order, epochs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from fdbpl.crops import pixel_boxes, sample_crops, sample_regions

SCALE, RATIO = (0.08, 0.936), (3 / 4, 4 / 3)


def draw(path="a.jpg", seed=1, first=0, count=20, hw=(300, 200), flip=0.5):
    return sample_crops(seed, path, first, count, hw, SCALE, RATIO, flip)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8000), st.integers(1, 8000), st.integers(0, 2**31), st.text(max_size=12))
def test_boxes_lie_inside_the_image_and_convert_to_whole_pixels(height, width, seed, path):
    regions = sample_crops(seed, path, 0, 5, (height, width), SCALE, RATIO, 0.5)
    boxes = pixel_boxes(regions.boxes, (height, width))
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= [height, width]).all()
    exact = boxes / np.tile([height, width], 2)  # fractions of whole pixels, to float32 rounding
    np.testing.assert_allclose(regions.boxes, exact, atol=1e-7)


def test_regions_do_not_depend_on_each_other():
    together = draw(count=10)
    apart = [draw(first=number, count=1) for number in range(10)]
    assert all((together.boxes[k] == apart[k].boxes[0]).all() for k in range(10))
    assert [bool(flip) for flip in together.flips] == [bool(regions.flips[0]) for regions in apart]
    for other in (draw(seed=2, count=10), draw(path="b.jpg", count=10)):
        assert (together.boxes != other.boxes).any(axis=1).all()


@pytest.mark.parametrize("hw", [(300, 200), (224, 224), (60, 400)])
def test_distribution_equals_random_resized_crop(hw):
    ours = pixel_boxes(draw(count=4000, hw=hw).boxes, hw)
    torch.manual_seed(0)
    image = torch.empty(3, *hw)
    theirs = np.array([RandomResizedCrop.get_params(image, SCALE, RATIO) for _ in range(4000)])
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4


def test_flip_probability():
    assert abs(draw(count=4000).flips.mean() - 0.5) < 0.04
    assert not draw(flip=0.0).flips.any() and draw(flip=1.0).flips.all()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 1000))
def test_epochs_contain_each_image_once_and_all_its_regions_before_repeats(images, per_image, seed):
    seen = np.zeros((images, per_image), int)
    for epoch in range(2 * per_image):
        order, region = sample_regions(images, per_image, epoch, seed)
        assert sorted(order) == list(range(images))
        seen[order, region] += 1
        assert seen.max() - seen.min() <= 1
    assert (seen == 2).all()


def test_epochs_are_deterministic():
    first, again = sample_regions(20, 5, 3, 1), sample_regions(20, 5, 3, 1)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != sample_regions(20, 5, 4, 1)[0]).any() and (first[0] != sample_regions(20, 5, 3, 2)[0]).any()
