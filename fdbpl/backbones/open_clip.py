"""Teachers from open_clip, named `open_clip:ARCHITECTURE/TAG` or `.../FILE` (an optional dependency)."""

import hashlib
import inspect
import os
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import nn

from fdbpl.backbones.backbone import Backbone
from fdbpl.errors import SystemFailure, UserError
from fdbpl.io import tensor_files


def load(which: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """Load the model `open_clip:<which>`, where `which` is ARCHITECTURE/TAG, e.g. `ViT-H-14-quickgelu/dfn5b`.

    Without network access, give a file of weights in place of the tag:
    `open_clip:ViT-H-14-quickgelu//weights/open_clip_pytorch_model.bin`.

    Raises:
        UserError: open_clip is missing or too old, the name is malformed or unknown, or the file does not match.
        SystemFailure: the weights cannot be downloaded.
    """
    name = f"open_clip:{which}"
    architecture, slash, tag = which.partition("/")
    if not (slash and architecture and tag):
        raise UserError(
            f"The teacher {name!r} lacks an architecture or a tag. Write e.g. open_clip:ViT-H-14-quickgelu/dfn5b."
        )
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise UserError(
            f"The teacher {name} needs the optional package open_clip_torch ({error}). Run: pip install open_clip_torch"
        ) from error
    if "weights_only" not in inspect.signature(open_clip.create_model).parameters:
        raise UserError(
            f"open_clip_torch {open_clip.__version__} may execute code from the files that it reads. "
            "Run: pip install -U open_clip_torch"
        )
    model = (_from_file if _is_file(tag) else _from_tag)(open_clip, architecture, tag, device)
    sha256, logit_scale = _digest(model), float(model.logit_scale.detach().exp())  # computed before rounding
    model = model.eval().requires_grad_(False).to(dtype)
    tokenizer = open_clip.get_tokenizer(architecture)
    size = model.visual.image_size
    return Backbone(
        name=name,
        model=model,
        sha256=sha256,
        image_size=size if isinstance(size, int) else size[0],
        embed_dim=int(model.encode_text(tokenizer(["a"]).to(device)).shape[-1]),
        logit_scale=logit_scale,
        tokenize=tokenizer,
        encode_tokens=model.encode_text,
        mean=tuple(model.visual.image_mean),
        std=tuple(model.visual.image_std),
    )


def sha256(which: str) -> None:
    """Return None: the hash is known only after loading, because open_clip's files differ between mirrors."""


def is_available(which: str) -> bool:
    """Return whether the file exists, or the tag is in the cache of the Hugging Face hub."""
    architecture, _, tag = which.partition("/")
    if "/" in tag:
        return Path(tag).expanduser().is_file()
    try:
        from huggingface_hub import try_to_load_from_cache
        from open_clip.pretrained import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME, get_pretrained_cfg
    except ImportError:
        return False
    repository, file = os.path.split((get_pretrained_cfg(architecture, tag) or {}).get("hf_hub", ""))
    files = [file] if file else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    return bool(repository) and any(isinstance(try_to_load_from_cache(repository, name), str) for name in files)


def _is_file(tag: str) -> bool:
    return "/" in tag or Path(tag).suffix in {".pt", ".pth", ".bin", ".safetensors"}


def _from_file(open_clip, architecture: str, file: str, device: str) -> nn.Module:
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"The weights of {architecture}, {file}, do not exist. Check the path.")
    if architecture not in open_clip.list_models():
        raise UserError(_unknown(open_clip, architecture))
    try:
        if path.suffix != ".safetensors":
            tensor_files.check_archive(path)
        return open_clip.create_model(architecture, pretrained=str(path), device=device, weights_only=True)
    except Exception as error:
        raise UserError(
            f"{file} does not hold weights of {architecture}, or cannot be read safely "
            f"({tensor_files.reason(error)}). Give the file that open_clip publishes for this architecture."
        ) from error


def _from_tag(open_clip, architecture: str, tag: str, device: str) -> nn.Module:
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in known:
        if not known:
            raise UserError(_unknown(open_clip, architecture))
        raise UserError(f"open_clip has no tag {tag!r} of {architecture}: choose one of {', '.join(known)}.")
    try:
        return open_clip.create_model(architecture, pretrained=tag, device=device, weights_only=True)
    except Exception as error:
        raise SystemFailure(
            f"The weights of open_clip:{architecture}/{tag} cannot be downloaded ({tensor_files.reason(error)}). "
            f"Check the network or open_clip's cache, or give a file: open_clip:{architecture}//folder/weights.bin"
        ) from error


def _unknown(open_clip, architecture: str) -> str:
    near = get_close_matches(architecture, open_clip.list_models(), n=3, cutoff=0.4)
    return (
        f"open_clip has no architecture {architecture!r} with weights (similar: {', '.join(near) or 'none'}). "
        "open_clip.list_pretrained() lists all."
    )


def _digest(model: nn.Module) -> str:
    """Hash names and values, because open_clip's files differ between mirrors although the weights agree."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
