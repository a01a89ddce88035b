"""A tiny random teacher and student, and some small images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file

from fdbpl import distributed
from fdbpl.backbones import Backbone
from fdbpl.backbones.openai import wrap
from fdbpl.regions.generation import generate
from fdbpl.regions.metadata import BankMetadata

PROMPTS = ["a photo of a cat.", "a photo of a dog.", "a photo of a hat."]


def tiny(seed: int, size: int = 16) -> Backbone:
    torch.manual_seed(seed)
    model = CLIP(24, size, 1, 64, 8, 77, 49408, 64, 1, 1).eval().requires_grad_(False)
    return wrap(model, f"tiny-{seed}", f"{seed:064d}", "cpu", torch.float32)


@pytest.fixture(scope="session")
def teacher() -> Backbone:
    return tiny(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The teacher's weights as a file that command lines can name."""
    file = tmp_path_factory.mktemp("clip") / "tiny.safetensors"
    save_file(tiny(1).model.state_dict(), file)
    return file


@pytest.fixture(scope="session")
def student() -> Backbone:
    return tiny(2)


def identity_of(model: Backbone, **changes) -> BankMetadata:
    fields = {
        "dataset": "toy",
        "teacher": model.name,
        "teacher_sha256": model.sha256,
        "logit_scale": model.logit_scale,
        "size": model.image_size,
        "mean": tuple(model.mean),
        "std": tuple(model.std),
        "scale": (0.08, 0.936),
        "ratio": (3 / 4, 4 / 3),
        "flip": 0.5,
        "seed": 1,
    }
    return BankMetadata(**{**fields, **changes})


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Twelve noisy JPEGs of different sizes below `toy/`."""
    root = tmp_path_factory.mktemp("photos")
    (root / "toy").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        height, width = rng.integers(20, 90, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "toy" / f"{number:02d}.jpg")
    return root


@pytest.fixture
def images(photos) -> list[str]:
    return sorted(f"toy/{file.name}" for file in (photos / "toy").iterdir())


@pytest.fixture
def make(photos, images, teacher, tmp_path):
    """Return a function that generates a bank in tmp_path/bank; keywords override the defaults."""

    def make(bank=None, **changes):
        arguments = {
            "root": photos,
            "images": images,
            "bank": bank or tmp_path / "bank",
            "identity": identity_of(teacher),
            "teacher": lambda: teacher,
            "per_image": 4,
            "prompts": PROMPTS,
            "pipeline": "torchvision",
        }
        return generate(**{**arguments, **changes})

    return make


@pytest.fixture
def process(monkeypatch):
    """Return process(rank, world_size), which simulates one of several torchrun processes."""

    def process(rank: int, world_size: int) -> None:
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: world_size)
        monkeypatch.setattr(distributed, "barrier", lambda: None)
        monkeypatch.setattr(distributed, "all_reduce_sum", lambda *numbers: list(numbers))

    return process


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.safetensors"))}
