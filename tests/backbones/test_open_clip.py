"""Teachers from open_clip: a tiny architecture with random weights, and names and files that cannot be loaded."""

import builtins
import json
import shutil

import pytest
import torch

from fdbpl.backbones import load_backbone
from fdbpl.errors import SystemFailure, UserError

from ..damage import legacy_tar, torchscript, zip_bomb

open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is optional")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model of an architecture `small` (image 32, D 24) that open_clip knows, and a file of its weights."""
    folder = tmp_path_factory.mktemp("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    (folder / "small.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder / "small.json")
    torch.manual_seed(0)
    model = open_clip.create_model("small")
    torch.save(model.state_dict(), folder / "small.pt")
    return model.eval(), folder / "small.pt"


def test_features_equal_those_of_open_clip(small):
    model, file = small
    backbone = load_backbone(f"open_clip:small/{file}")
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        image = model.encode_image(backbone.normalize(images), normalize=True)
        text = model.encode_text(open_clip.get_tokenizer("small")(["a heart", "no heart"]), normalize=True)
    torch.testing.assert_close(backbone.encode_image(images), image, rtol=0, atol=1e-6)
    torch.testing.assert_close(backbone.encode_text(["a heart", "no heart"]), text, rtol=0, atol=1e-6)
    assert (backbone.image_size, backbone.embed_dim) == (32, 24)
    assert backbone.logit_scale == pytest.approx(float(model.logit_scale.exp()))
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_the_hash_does_not_depend_on_file_format_and_precision(small, tmp_path):
    model, file = small
    exact, half = (load_backbone(f"open_clip:small/{file}", precision=precision) for precision in ("fp32", "bf16"))
    assert half.model.logit_scale.dtype == torch.bfloat16
    assert (half.sha256, half.logit_scale) == (exact.sha256, exact.logit_scale)
    torch.save({"state_dict": model.state_dict(), "epoch": 1}, tmp_path / "other.pt")
    assert load_backbone(f"open_clip:small/{tmp_path / 'other.pt'}").sha256 == exact.sha256
    changed = {**model.state_dict(), "logit_scale": model.logit_scale.detach() + 1e-3}
    torch.save(changed, tmp_path / "changed.pt")
    assert load_backbone(f"open_clip:small/{tmp_path / 'changed.pt'}").sha256 != exact.sha256


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("open_clip:ViT-B-32", "lacks an architecture or a tag"),
        ("open_clip:/openai", "lacks an architecture or a tag"),
        ("open_clip:ViT-B-23/openai", r"'ViT-B-23' .*\(similar: ViT-B-32"),
        ("open_clip:ViT-B-32/laion3b", "no tag 'laion3b' of ViT-B-32: .*openai"),
        ("open_clip:small//nowhere/small.pt", "/nowhere/small.pt, do not exist"),
    ],
)
def test_wrong_names(small, name, words):
    with pytest.raises(UserError, match=words) as error:
        load_backbone(name)
    assert "\n" not in str(error.value)


DAMAGE = {
    "other weights": lambda file: torch.save({"other": torch.zeros(3)}, file),
    "text": lambda file: file.write_text("no weights"),
    "TorchScript": torchscript,
    "a zip bomb": zip_bomb,
    "a legacy .tar": legacy_tar,
}


@pytest.mark.parametrize("case", DAMAGE)
def test_files_without_weights_of_the_architecture(small, tmp_path, case):
    file = tmp_path / "weights.bin"
    shutil.copy(small[1], file)
    DAMAGE[case](file)
    with pytest.raises(UserError, match=f"{file} does not hold weights of small") as error:
        load_backbone(f"open_clip:small/{file}")
    assert "\n" not in str(error.value)


def test_no_network(monkeypatch):
    def unreachable(*arguments, weights_only, **named):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    with pytest.raises(SystemFailure, match=r"ViT-B-32/openai cannot be downloaded \(no route to host\)") as error:
        load_backbone("open_clip:ViT-B-32/openai")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("which", ["ViT-B-32/openai", "small/FILE"])
def test_versions_that_execute_code_from_files_are_refused(small, monkeypatch, which):
    monkeypatch.setattr(open_clip, "create_model", lambda name, pretrained, device: pytest.fail("the file is read"))
    with pytest.raises(UserError, match=r"may execute code .*pip install -U"):
        load_backbone(f"open_clip:{which.replace('FILE', str(small[1]))}")


def test_files_of_tags_are_read_with_weights_only(small, monkeypatch):
    requests = []
    real = open_clip.create_model

    def create_model(architecture, pretrained=None, weights_only=False, **named):
        requests.append((pretrained, weights_only))
        return real(architecture, **named)

    monkeypatch.setattr(open_clip, "create_model", create_model)
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["made_up"])
    load_backbone("open_clip:small/made_up")
    assert requests == [("made_up", True)]


def test_a_missing_package(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name == "open_clip":
            raise ModuleNotFoundError("No module named 'open_clip'")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install open_clip_torch"):
        load_backbone("open_clip:ViT-B-32/openai")
