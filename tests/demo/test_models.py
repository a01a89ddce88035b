"""Weights of the demo models: hashes, conversion to OpenAI's CLIP, and accuracy."""

import shutil
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from fdbpl.backbones import demo, load_backbone
from fdbpl.backbones.openai import tokenize
from fdbpl.demo.forms import NAMES
from fdbpl.demo.scenes import draw_workshop_image
from fdbpl.errors import UserError

GENERIC, WORKSHOP = "a photo of a {}.", "a photo of a workshop {}."
STUDENTS = ("rn-student", "vit-student")


@cache
def backbone(which: str):
    return load_backbone(f"demo:{which}")


@cache
def fresh_images(per_name: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw images outside all data sets as 64 px squares, uint8 [28 n, 3, 64, 64], with their labels."""
    labels = torch.arange(len(NAMES)).repeat_interleave(per_name)
    images = []
    for number, label in enumerate(labels.tolist()):
        image = draw_workshop_image(np.random.default_rng([77, number]), label)
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        images.append(np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC, box=box)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), labels


def accuracy(which: str, template: str) -> float:
    """Zero-shot accuracy over all 28 names in percent (chance 3.6)."""
    images, labels = fresh_images()
    model = backbone(which)
    texts = model.encode_text([template.format(name) for name in NAMES])
    return 100 * (model.encode_image(images) @ texts.T).argmax(1).eq(labels).float().mean().item()


@pytest.mark.parametrize("which", demo.NAMES)
def test_loads_as_openai_clip(which):
    import clip.model

    model = clip.model.build_model(dict(demo.load_state_dict(which)))
    assert isinstance(model, clip.model.CLIP)
    assert model.visual.input_resolution == 64 and model.vocab_size == 49408
    assert isinstance(
        model.visual, clip.model.VisionTransformer if which == "vit-student" else clip.model.ModifiedResNet
    )


def test_total_size_of_the_weights():
    assert sum(file.stat().st_size for file in demo.WEIGHTS.iterdir()) <= 20e6


def test_embeddings_of_unknown_words_are_reproducible():
    first, second = (demo.load_state_dict("rn-student")["token_embedding.weight"] for _ in range(2))
    assert torch.equal(first, second)
    zebra = int(tokenize(["zebra"])[0, 1])
    assert 0 < first[zebra].std() < 0.1


def test_damaged_and_missing_weights_are_one_line_errors(tmp_path, monkeypatch):
    shutil.copytree(demo.WEIGHTS, tmp_path / "weights")
    file = tmp_path / "weights" / "rn-student.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(demo, "WEIGHTS", tmp_path / "weights")
    demo.sha256.cache_clear()
    try:
        with pytest.raises(UserError, match="SHA-256") as caught:
            demo.load_state_dict("rn-student")
        assert "\n" not in str(caught.value)
        file.unlink()
        with pytest.raises(UserError, match="no file"):
            demo.load_state_dict("rn-student")
    finally:
        demo.sha256.cache_clear()


def test_unknown_model():
    with pytest.raises(UserError, match="rn-student"):
        demo.load_state_dict("student")


@pytest.mark.parametrize("which", demo.NAMES)
def test_truncated_text_equals_all_77_tokens(which):
    model = backbone(which)
    texts = [GENERIC.format("star"), "a photo of no workshop umbrella.", "zebra"]
    with torch.no_grad():
        whole = model.model.encode_text(tokenize(texts)).float()
    cut = model.encode_tokens(tokenize(texts))
    assert torch.allclose(cut, whole, atol=2e-5)


@pytest.mark.parametrize("which", STUDENTS)
def test_students_are_improvable_by_context(which):
    generic, workshop = accuracy(which, GENERIC), accuracy(which, WORKSHOP)
    assert generic > 3 * 100 / len(NAMES)
    assert workshop > generic + 8


def test_the_teacher_is_better_than_the_students():
    teacher = accuracy("teacher", WORKSHOP)
    assert teacher > 80
    assert all(teacher > accuracy(which, GENERIC) + 15 for which in STUDENTS)


def test_negated_prompts_differ_between_classes():
    negative = backbone("rn-student").encode_text([f"a photo of no {name}." for name in NAMES])
    cosines = negative @ negative.T
    assert (cosines.sum() - len(NAMES)) / (len(NAMES) * (len(NAMES) - 1)) < 0.9
