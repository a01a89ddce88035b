"""A new backbone takes one file and one line of BACKENDS: new_backbone/colours.py, as CONTRIBUTING.md shows."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fdbpl import backbones
from fdbpl.backbones import load_backbone, weights_available, weights_sha256
from fdbpl.errors import UserError
from fdbpl.regions.generation import generate
from fdbpl.regions.lookup import RegionLookup
from fdbpl.regions.metadata import BankMetadata


@pytest.fixture(autouse=True)
def new_backend(monkeypatch):
    """Add new_backbone/colours.py to fdbpl/backbones for one test."""
    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(Path(__file__).parent / "new_backbone")])
    monkeypatch.setitem(backbones.BACKENDS, "colours", "fdbpl.backbones.colours")
    yield
    sys.modules.pop("fdbpl.backbones.colours", None)


def test_zero_shot_classification():
    teacher = load_backbone("colours:8")
    names = ("black", "white", "red", "green", "blue", "yellow", "cyan", "magenta")
    texts = teacher.encode_text([f"a photo of {name} things" for name in names])
    pixels = torch.tensor([[0, 0, 0], [255, 255, 255], [230, 20, 9], [0, 200, 40], [30, 10, 255], [240, 250, 0],
                           [10, 255, 255], [255, 30, 200]], dtype=torch.uint8)  # fmt: skip
    images = pixels[:, :, None, None].expand(-1, -1, 8, 8)
    logits = teacher.logit_scale * teacher.encode_image(images) @ texts.T
    assert logits.argmax(-1).tolist() == list(range(8))
    halves = torch.cat([images[2:3, :, :, :4], images[4:5, :, :, :4]], -1)  # red on the left, blue on the right
    torch.testing.assert_close(teacher.encode_image(halves), torch.tensor([[0, 0, 0.5**0.5, 0, 0.5**0.5, 0, 0, 0]]))


def test_a_region_bank_of_the_outputs(tmp_path):
    teacher = load_backbone("colours:8")
    for name, colour in (("fire", (250, 10, 0)), ("sea", (0, 5, 240))):
        Image.new("RGB", (20, 12), colour).save(tmp_path / f"{name}.png")
    prompts, images = ["a red thing", "a blue thing"], ["fire.png", "sea.png"]
    identity = BankMetadata(
        "toy", teacher.name, teacher.sha256, teacher.logit_scale, 8, teacher.mean, teacher.std, (0.1, 1.0),
        (3 / 4, 4 / 3), 0.5, 1,
    )  # fmt: skip
    generate(tmp_path, images, tmp_path / "bank", identity, lambda: teacher, 3, prompts=prompts)
    lookup = RegionLookup(tmp_path / "bank", images, 3, prompts)
    logits = lookup.teacher_logits(np.array([0, 0, 1, 1]), np.array([0, 2, 0, 1]))
    assert logits.argmax(-1).tolist() == [0, 0, 1, 1]


def test_the_hash_without_loading_the_weights():
    assert weights_sha256("colours:8") == load_backbone("colours:8").sha256 != weights_sha256("colours:9")
    assert weights_available("colours:8")


def test_a_name_without_an_image_size():
    with pytest.raises(UserError, match="colours:big has no image size"):
        load_backbone("colours:big")
