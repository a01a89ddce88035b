import sys
import types
from importlib import metadata

import pytest
import torch
from clip.model import CLIP
from safetensors.torch import save_file

from fdbpl.backbones import load_backbone, openai, openai_package
from fdbpl.errors import SystemFailure, UserError


@pytest.fixture(scope="module")
def tiny():
    """A ViT CLIP with random weights: image 32, patch 16, widths 64, embedding 32."""
    torch.manual_seed(0)
    return CLIP(32, 32, 2, 64, 16, 77, 49408, 64, 1, 2).eval()


@pytest.fixture(scope="module")
def weights(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(tiny.state_dict(), folder / "dict.pt")
    save_file(tiny.state_dict(), folder / "clip.safetensors")
    archive = torch.jit.trace_module(Holder(tiny), {"forward": torch.zeros(1)})
    archive.save(folder / "archive.pt")
    return folder


class Holder(torch.nn.Module):
    """TorchScript carrier of the parameters under their own names."""

    def __init__(self, model):
        super().__init__()
        for name, child in model.named_children():
            setattr(self, name, child)
        for name in ("positional_embedding", "text_projection", "logit_scale"):
            setattr(self, name, getattr(model, name))

    def forward(self, x):
        return x + self.logit_scale


@pytest.mark.parametrize("name", ["dict.pt", "clip.safetensors", "archive.pt"])
def test_every_kind_of_file_gives_the_same_model(tiny, weights, name):
    backbone = load_backbone(str(weights / name))
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    pixels = (images.float() / 255 - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(
        3, 1, 1
    )
    expected = torch.nn.functional.normalize(tiny.encode_image(pixels), dim=-1)
    torch.testing.assert_close(backbone.encode_image(images), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(backbone.encode_image(pixels), expected, rtol=0, atol=1e-5)
    assert (backbone.image_size, backbone.embed_dim, len(backbone.sha256)) == (32, 32, 64)
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not backbone.model.training


def test_text_cut_after_eot_equals_77_tokens(tiny, weights):
    backbone = load_backbone(str(weights / "dict.pt"))
    texts = ["a photo of a dog.", "a photo of an extremely long and winding road in the mountains.", "x"]
    with torch.no_grad():
        expected = torch.nn.functional.normalize(tiny.encode_text(backbone.tokenize(texts)), dim=-1)
    torch.testing.assert_close(backbone.encode_text(texts), expected, rtol=0, atol=1e-5)


def test_bf16_stays_near_fp32(weights):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    exact = load_backbone(str(weights / "dict.pt")).encode_image(images)
    rounded = load_backbone(str(weights / "dict.pt"), precision="bf16").encode_image(images)
    assert rounded.dtype == torch.float32
    assert (exact * rounded).sum(-1).min() > 0.999


@pytest.mark.parametrize(
    ("name", "precision", "sentence"),
    [
        ("RN50", "fp16", "PREC fp16 needs a GPU"),
        ("RN50", "int8", "Unknown PREC 'int8'"),
        ("RN51", "fp32", "neither a CLIP name nor a file.*RN50"),
        ("missing.pt", "fp32", r"missing\.pt does not exist"),
        ("open_clip:ViT-B-32", "fp32", "expected open_clip:ARCHITECTURE/TAG"),
    ],
)
def test_what_cannot_be_loaded_is_said(name, precision, sentence):
    with pytest.raises(UserError, match=sentence):
        load_backbone(name, precision=precision)


def test_files_that_hold_no_clip(tmp_path):
    (tmp_path / "text.pt").write_text("not weights")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, sentence in [
        ("text.pt", "cannot be read safely"),
        ("other.pt", "expected the parameters of OpenAI's CLIP"),
        ("list.pt", "expected a state dict of tensors"),
    ]:
        with pytest.raises(UserError, match=sentence):
            load_backbone(str(tmp_path / name))


class Payload:
    def __reduce__(self):
        return (open, ("executed-pickle", "w"))


def test_a_pickle_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Payload()}, "evil.pt")
    with pytest.raises(UserError, match="cannot be read safely"):
        load_backbone("evil.pt")
    assert not (tmp_path / "executed-pickle").exists()


def test_cached_file_with_a_wrong_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("FDBPL_CLIP_CACHE", str(tmp_path))
    (tmp_path / "RN50.pt").write_text("truncated download")
    monkeypatch.setattr(openai.clip_package().clip, "_download", no_network)
    with pytest.raises(SystemFailure, match="cannot be downloaded .*has another hash"):
        load_backbone("RN50")


def no_network(url, root):
    raise OSError("no route to host")


def test_the_clipboard_tool_called_clip(monkeypatch):
    monkeypatch.setitem(sys.modules, "clip", types.ModuleType("clip"))
    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(UserError, match="pip uninstall -y clip && pip install openai-clip"):
        openai_package.clip_package.__wrapped__()


def absent(name):
    raise metadata.PackageNotFoundError(name)


def test_an_edited_clip_in_front_of_the_installed_one_is_left_alone(monkeypatch, weights):
    """As in forks of CoOp: their folder `clip` takes more arguments and comes first on the path."""
    edited = types.ModuleType("clip")
    edited.tokenize = edited.model = None
    monkeypatch.setitem(sys.modules, "clip", edited)
    package = openai_package.clip_package.__wrapped__()
    state = torch.load(weights / "dict.pt", weights_only=True)
    assert package.model.build_model(dict(state)).visual.input_resolution > 0
    assert package.tokenize("a cat").shape == (1, 77)
    assert sys.modules["clip"] is edited and package is not edited


def test_too_long_text_is_quoted(weights):
    with pytest.raises(UserError, match="more than the 75 tokens"):
        load_backbone(str(weights / "dict.pt")).tokenize(["word " * 90])


def test_many_texts_are_encoded_in_parts(monkeypatch):
    model = load_backbone("random:tiny")
    texts, sizes, encode = [f"a photo of {number} cats" for number in range(7)], [], model.encode_tokens
    expected = model.encode_text(texts)
    monkeypatch.setattr("fdbpl.backbones.backbone.TEXTS_AT_A_TIME", 3)
    monkeypatch.setattr(model, "encode_tokens", lambda tokens: sizes.append(len(tokens)) or encode(tokens))
    torch.testing.assert_close(model.encode_text(texts), expected)
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize("name", ["demo:rn-student", "random:tiny"])
def test_a_model_for_autocast_has_the_features_of_autocast(name):
    exact = load_backbone(name)
    half = openai.for_autocast(exact, torch.bfloat16)
    images = torch.randn(2, 3, exact.image_size, exact.image_size, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        for model in (exact, half):
            assert torch.equal(model.encode_image(images), exact.encode_image(images))
            assert torch.equal(model.encode_text(["a cat", "two dogs"]), exact.encode_text(["a cat", "two dogs"]))
    kept = half.model.visual.conv1
    linear = [module for module in half.model.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
    assert all(module.weight.dtype == torch.bfloat16 for module in linear if module is not kept)
    assert half.dtype == exact.dtype == torch.float32


def test_float32_is_float32_in_convolutions(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load_backbone("random:tiny teacher")
    assert not torch.backends.cudnn.allow_tf32
