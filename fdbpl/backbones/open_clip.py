"""Teachers from open_clip, named `open_clip:ARCHITECTURE/TAG` (an optional dependency)."""

import hashlib

import torch
from torch import nn

from fdbpl.backbones.backbone import Backbone
from fdbpl.errors import MachineError, UserError

PREFIX = "open_clip:"


def load_open_clip(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """The model `open_clip:ARCHITECTURE/TAG`, e.g. `open_clip:ViT-H-14-quickgelu/dfn5b`.

    Raises:
        UserError: open_clip is not installed, or the name is malformed or unknown.
        MachineError: the weights cannot be downloaded.
    """
    architecture, slash, tag = name.removeprefix(PREFIX).partition("/")
    if not (slash and architecture and tag):
        raise UserError(f"expected open_clip:ARCHITECTURE/TAG, found {name!r}; e.g. open_clip:ViT-H-14-quickgelu/dfn5b")
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise UserError(
            f"expected the optional package open_clip_torch for the teacher {name}, found none ({error}); "
            "run: pip install open_clip_torch"
        ) from error
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in known:
        choices = ", ".join(known) or f"none: architectures are {', '.join(open_clip.list_models()[:8])} ..."
        raise UserError(f"expected a tag of {architecture}, found {tag!r}; open_clip has {choices}")
    try:
        model = open_clip.create_model(architecture, pretrained=tag, device=device)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise MachineError(
            f"the weights of {name} cannot be fetched ({reason}); check the network or its cache"
        ) from error
    model = model.eval().requires_grad_(False).to(dtype)
    tokenizer = open_clip.get_tokenizer(architecture)
    size = model.visual.image_size
    return Backbone(
        name=name,
        model=model,
        sha256=_digest(model),
        image_size=size if isinstance(size, int) else size[0],
        embed_dim=int(model.encode_text(tokenizer(["a"]).to(device)).shape[-1]),
        logit_scale=float(model.logit_scale.detach().float().exp()),
        tokenize=tokenizer,
        encode_tokens=model.encode_text,
        mean=tuple(model.visual.image_mean),
        std=tuple(model.visual.image_std),
    )


def _digest(model: nn.Module) -> str:
    """SHA-256 over names and values: open_clip's files differ between mirrors, the weights do not."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
