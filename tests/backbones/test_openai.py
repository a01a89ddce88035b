"""OpenAI's CLIP from files: features, precisions, tokens, and the import of the `clip` package."""

import sys
import types
from importlib import metadata

import pytest
import torch

from fdbpl.backbones import load_backbone, openai, openai_package
from fdbpl.errors import SystemFailure, UserError


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["dict.pt", "clip.safetensors", "archive.pt"])
def test_every_file_format_gives_the_same_model(clip_model, weights, published, name):
    backbone = load_backbone(str(weights / name))
    images = pixels(3)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    normalized = (images.float() / 255 - mean) / std
    expected = torch.nn.functional.normalize(clip_model.encode_image(normalized), dim=-1)
    for given in (images, normalized):
        torch.testing.assert_close(backbone.encode_image(given), expected, rtol=0, atol=1e-5)
    state = backbone.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in clip_model.state_dict().items())
    assert (backbone.image_size, backbone.embed_dim, len(backbone.sha256)) == (32, 32, 64)
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not backbone.model.training


def test_other_torchscript_archives_are_not_loaded(weights):
    with pytest.raises(UserError, match="none of those that OpenAI published"):
        load_backbone(str(weights / "archive.pt"))


def test_text_features_equal_those_of_77_tokens(clip_model, weights):
    backbone = load_backbone(str(weights / "dict.pt"))
    texts = ["a photo of a dog.", "a photo of an extremely long and winding road in the mountains.", "x"]
    with torch.no_grad():
        expected = torch.nn.functional.normalize(clip_model.encode_text(backbone.tokenize(texts)), dim=-1)
    torch.testing.assert_close(backbone.encode_text(texts), expected, rtol=0, atol=1e-5)


def test_bf16_is_close_to_fp32(weights):
    exact, rounded = (
        load_backbone(str(weights / "dict.pt"), precision=precision).encode_image(pixels(2))
        for precision in ("fp32", "bf16")
    )
    assert rounded.dtype == torch.float32
    assert (exact * rounded).sum(-1).min() > 0.999


@pytest.mark.parametrize("name", ["demo:rn-student", "random:tiny"])
def test_features_of_a_model_for_autocast(name):
    exact = load_backbone(name)
    half = openai.for_autocast(exact, torch.bfloat16)
    images = torch.randn(2, 3, exact.image_size, exact.image_size, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(half.encode_image(images), exact.encode_image(images))
        assert torch.equal(half.encode_text(["a cat", "two dogs"]), exact.encode_text(["a cat", "two dogs"]))
    matrices = [module for module in half.model.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
    assert all(module.weight.dtype == torch.bfloat16 for module in matrices if module is not half.model.visual.conv1)
    assert half.dtype == exact.dtype == torch.float32


def test_fp32_disables_tf32_in_convolutions(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load_backbone("random:tiny teacher")
    assert not torch.backends.cudnn.allow_tf32


def test_many_texts_are_encoded_in_parts(monkeypatch):
    model = load_backbone("random:tiny")
    texts, sizes, encode = [f"a photo of {number} cats" for number in range(7)], [], model.encode_tokens
    expected = model.encode_text(texts)
    monkeypatch.setattr("fdbpl.backbones.backbone.TEXTS_AT_A_TIME", 3)
    monkeypatch.setattr(model, "encode_tokens", lambda tokens: sizes.append(len(tokens)) or encode(tokens))
    torch.testing.assert_close(model.encode_text(texts), expected)
    assert sizes == [3, 3, 1]


def test_a_text_that_is_too_long_is_quoted(weights):
    with pytest.raises(UserError, match="more than the 75 tokens"):
        load_backbone(str(weights / "dict.pt")).tokenize(["word " * 90])


def test_a_cached_file_with_a_wrong_hash_and_no_network(tmp_path, monkeypatch):
    def no_network(url, root):
        raise OSError("no route to host")

    monkeypatch.setenv("FDBPL_CLIP_CACHE", str(tmp_path))
    (tmp_path / "RN50.pt").write_text("truncated download")
    monkeypatch.setattr(openai.clip_package().clip, "_download", no_network)
    with pytest.raises(SystemFailure, match="cannot be downloaded .*has another hash"):
        load_backbone("RN50")


def test_the_clipboard_tool_called_clip(monkeypatch):
    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setitem(sys.modules, "clip", types.ModuleType("clip"))
    monkeypatch.setattr(metadata, "distribution", not_installed)
    with pytest.raises(UserError, match="pip uninstall -y clip && pip install openai-clip"):
        openai_package.clip_package.__wrapped__()


def test_an_edited_clip_that_shadows_the_installed_one(monkeypatch, weights):
    """Forks of CoOp contain an edited folder `clip` that comes first on the path."""
    edited = types.ModuleType("clip")
    edited.tokenize = edited.model = None
    monkeypatch.setitem(sys.modules, "clip", edited)
    package = openai_package.clip_package.__wrapped__()
    state = torch.load(weights / "dict.pt", weights_only=True)
    assert package.model.build_model(dict(state)).visual.input_resolution > 0
    assert package.tokenize("a cat").shape == (1, 77)
    assert sys.modules["clip"] is edited and package is not edited
