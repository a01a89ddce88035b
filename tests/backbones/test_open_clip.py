"""Teachers of open_clip: a small architecture of its own kind with random weights; names and files that are wrong."""

import builtins
import json

import pytest
import torch

from fdbpl.backbones import load_backbone
from fdbpl.errors import SystemFailure, UserError

open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is optional")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An architecture called `small` (image 32, D 24) that open_clip knows, and a file of its weights."""
    folder = tmp_path_factory.mktemp("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    (folder / "small.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder / "small.json")
    torch.manual_seed(0)
    model = open_clip.create_model("small")
    torch.save(model.state_dict(), folder / "small.pt")
    return model.eval(), folder / "small.pt"


def test_a_file_gives_open_clip_s_own_features(small):
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


def test_the_hash_is_that_of_the_weights_not_of_the_file(small, tmp_path):
    model, file = small
    again = load_backbone(f"open_clip:small/{file}").sha256
    torch.save({"state_dict": model.state_dict(), "epoch": 1}, tmp_path / "other.pt")
    assert load_backbone(f"open_clip:small/{tmp_path / 'other.pt'}").sha256 == again
    changed = {**model.state_dict(), "logit_scale": model.logit_scale.detach() + 1e-3}
    torch.save(changed, tmp_path / "changed.pt")
    assert load_backbone(f"open_clip:small/{tmp_path / 'changed.pt'}").sha256 != again


def test_a_teacher_has_one_hash_and_one_scale_in_all_precisions(small):
    exact, half = (load_backbone(f"open_clip:small/{small[1]}", precision=precision) for precision in ("fp32", "bf16"))
    assert half.model.logit_scale.dtype == torch.bfloat16
    assert (half.sha256, half.logit_scale) == (exact.sha256, exact.logit_scale)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("open_clip:ViT-B-32", "expected open_clip:ARCHITECTURE/TAG"),
        ("open_clip:/openai", "expected open_clip:ARCHITECTURE/TAG"),
        ("open_clip:ViT-B-23/openai", "'ViT-B-23'.*nearest are ViT-B-32"),
        ("open_clip:ViT-B-32/laion3b", "expected a tag of ViT-B-32, found 'laion3b'.*openai"),
        ("open_clip:small//nowhere/small.pt", "/nowhere/small.pt, found no file"),
    ],
)
def test_wrong_names_are_one_sentence(small, name, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        load_backbone(name)
    assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_refused(small, tmp_path):
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for file in ("other.pt", "text.pt"):
        with pytest.raises(UserError, match="found another file") as caught:
            load_backbone(f"open_clip:small/{tmp_path / file}")
        assert "\n" not in str(caught.value)


def test_no_network_is_one_sentence(monkeypatch):
    def unreachable(*arguments, weights_only, **named):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    with pytest.raises(SystemFailure, match="ViT-B-32/openai cannot be fetched \\(no route to host\\)") as caught:
        load_backbone("open_clip:ViT-B-32/openai")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", ["ViT-B-32/openai", "small/FILE"])
def test_a_version_that_would_run_what_is_in_a_file_is_refused(small, monkeypatch, which):
    monkeypatch.setattr(open_clip, "create_model", lambda name, pretrained, device: pytest.fail("it is read"))
    with pytest.raises(UserError, match=r"without running what is in them, found .*; run: pip install -U"):
        load_backbone(f"open_clip:{which.replace('FILE', str(small[1]))}")


def test_a_tag_is_read_without_running_what_is_in_its_file(small, monkeypatch):
    asked = []
    real = open_clip.create_model

    def create_model(architecture, pretrained=None, weights_only=False, **named):
        asked.append((pretrained, weights_only))
        return real(architecture, **named)

    monkeypatch.setattr(open_clip, "create_model", create_model)
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["made_up"])
    load_backbone("open_clip:small/made_up")
    assert asked == [("made_up", True)]


def test_a_missing_package_names_the_command(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name == "open_clip":
            raise ModuleNotFoundError("No module named 'open_clip'")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install open_clip_torch"):
        load_backbone("open_clip:ViT-B-32/openai")
