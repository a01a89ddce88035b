"""Acceptance test of the demo's CLIP models: accuracy with the generic and with the workshop context."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdbpl.backbones.backbone import CLIP_MEAN, CLIP_STD
from fdbpl.backbones.openai import encode_tokens
from fdbpl.demo.forms import NAMES
from fdbpl.demo.scenes import draw_scene

GENERIC, WORKSHOP_TEMPLATE, NEGATIVE = "a photo of a {}.", "a photo of a workshop {}.", "a photo of no {}."


@torch.no_grad()
def report(model: nn.Module, tokenize, per_name: int = 20, seed: int = 999) -> str:
    """Return a summary of the accuracy on everyday and workshop scenes with both templates."""
    model.eval()
    device = model.logit_scale.device
    generic, workshop, negative = (
        text_features(model, tokenize, template, device) for template in (GENERIC, WORKSHOP_TEMPLATE, NEGATIVE)
    )
    words = []
    for sense, title in enumerate(("everyday", "workshop")):
        images, labels = held_out_scenes(sense, per_name, seed)
        features = F.normalize(model.visual(images.to(device)).float(), dim=-1).cpu()
        scores = [100 * ((features @ text.T).argmax(1) == labels).float().mean() for text in (generic, workshop)]
        words.append(f"{title} forms: generic {scores[0]:.1f} workshop {scores[1]:.1f}")
    between = (negative @ negative.T).sum() - len(NAMES)
    words.append(f"cosine between `no X`: {between / (len(NAMES) * (len(NAMES) - 1)):.2f}")
    return "; ".join([*words, f"scale {model.logit_scale.exp():.1f}"])


def text_features(model: nn.Module, tokenize, template: str, device) -> Tensor:
    """Return normalised features of all names in a template, float32 [28, D] on the CPU."""
    tokens = tokenize([template.format(name) for name in NAMES]).to(device)
    return F.normalize(encode_tokens(model, tokens).float(), dim=-1).cpu()


def held_out_scenes(sense: int, per_name: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw scenes in the downstream style outside the training pools: float32 [28 n, 3, 64, 64], labels [28 n]."""
    rng = np.random.default_rng([seed, sense])
    names = np.arange(len(NAMES) * per_name) % len(NAMES)
    pixels = np.stack([draw_scene(rng, 64, 64, "photo", int(n), sense, workshop_style=True)[0] for n in names])
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    return images, torch.from_numpy(names)
