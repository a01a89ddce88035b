"""A new backbone is one file and one line of BACKENDS: tests/backbones/new_backbone, as CONTRIBUTING.md shows it."""

import sys
from pathlib import Path

import pytest
import torch

from fdbpl import backbones
from fdbpl.backbones import load_backbone, weights_available, weights_sha256
from fdbpl.errors import UserError


@pytest.fixture(autouse=True)
def one_more_file(monkeypatch):
    """tests/backbones/new_backbone/colours.py as if it lay in fdbpl/backbones; gone again behind each test."""
    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(Path(__file__).parent / "new_backbone")])
    monkeypatch.setitem(backbones.BACKENDS, "colours", "fdbpl.backbones.colours")
    yield
    sys.modules.pop("fdbpl.backbones.colours", None)


def test_it_knows_the_colours_that_it_is_shown():
    teacher = load_backbone("colours:8")
    names = ("black", "white", "red", "green", "blue", "yellow", "cyan", "magenta")
    texts = teacher.encode_text([f"a picture of {name} things" for name in names])
    pixels = torch.tensor([[0, 0, 0], [255, 255, 255], [230, 20, 9], [0, 200, 40], [30, 10, 255], [240, 250, 0],
                           [10, 255, 255], [255, 30, 200]], dtype=torch.uint8)  # fmt: skip
    images = pixels[:, :, None, None].expand(-1, -1, 8, 8)
    logits = teacher.logit_scale * teacher.encode_image(images) @ texts.T
    assert logits.argmax(-1).tolist() == list(range(8))
    half = torch.cat([images[2:3, :, :, :4], images[4:5, :, :, :4]], -1)  # red on the left, blue on the right
    torch.testing.assert_close(teacher.encode_image(half), torch.tensor([[0, 0, 0.5**0.5, 0, 0.5**0.5, 0, 0, 0]]))


def test_it_teaches(tmp_path):
    """A region bank of its labels, looked up."""
    from PIL import Image

    from fdbpl.regions.generation import generate
    from fdbpl.regions.lookup import RegionLookup
    from fdbpl.regions.metadata import BankMetadata

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
    index, region = torch.tensor([0, 0, 1, 1]).numpy(), torch.tensor([0, 2, 0, 1]).numpy()
    assert lookup.teacher_logits(index, region).argmax(-1).tolist() == [0, 0, 1, 1]


def test_what_is_told_without_loading_it():
    assert weights_sha256("colours:8") == load_backbone("colours:8").sha256 != weights_sha256("colours:9")
    assert weights_available("colours:8")
    with pytest.raises(UserError, match="colours:big has no image size"):
        load_backbone("colours:big")
