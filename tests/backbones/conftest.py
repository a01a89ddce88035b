"""A tiny CLIP with random weights, in all file formats."""

from pathlib import Path

import pytest
import torch
from clip.model import CLIP
from safetensors.torch import save_file

from fdbpl.backbones import openai


class Archive(torch.nn.Module):
    """Module with the parameters of a CLIP that TorchScript can trace."""

    def __init__(self, model: CLIP):
        super().__init__()
        for name, child in model.named_children():
            setattr(self, name, child)
        for name in ("positional_embedding", "text_projection", "logit_scale"):
            setattr(self, name, getattr(model, name))

    def forward(self, x):
        return x + self.logit_scale


@pytest.fixture(scope="session")
def clip_model() -> CLIP:
    """A ViT CLIP: image 32, patch 16, widths 64, embedding 32."""
    torch.manual_seed(0)
    return CLIP(32, 32, 2, 64, 16, 77, 49408, 64, 1, 2).eval()


@pytest.fixture(scope="session")
def weights(clip_model, tmp_path_factory) -> Path:
    """Folder with the weights as dict.pt, clip.safetensors and archive.pt."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(clip_model.state_dict(), folder / "dict.pt")
    save_file(clip_model.state_dict(), folder / "clip.safetensors")
    torch.jit.trace_module(Archive(clip_model), {"forward": torch.zeros(1)}).save(folder / "archive.pt")
    return folder


@pytest.fixture
def published(weights, monkeypatch) -> None:
    """Make archive.pt one of the files that OpenAI published."""
    url = f"https://example.org/{openai.sha256_of(weights / 'archive.pt')}/archive.pt"
    monkeypatch.setitem(openai.clip_package().clip._MODELS, "tiny", url)
