"""Whether a backbone's weights lie on this machine, without loading or downloading them."""

import os
from pathlib import Path

from fdbpl.errors import UserError


def weights_at_hand(name: str) -> bool:
    """Whether `load_backbone(name)` would find its weights here; of a file: whether it is there, not what it holds."""
    from fdbpl.backbones.openai_package import clip_package

    if name.startswith("demo:"):
        return True
    if name.startswith("open_clip:"):
        architecture, _, tag = name.removeprefix("open_clip:").partition("/")
        return Path(tag).expanduser().is_file() if "/" in tag else _open_clip_cached(architecture, tag)
    try:
        models = clip_package().clip._MODELS
    except UserError:
        return False
    if name not in models:
        return Path(name).expanduser().is_file()
    cache = Path(os.environ.get("FDBPL_CLIP_CACHE", "~/.cache/clip")).expanduser()
    return (cache / os.path.basename(models[name])).is_file()


def _open_clip_cached(architecture: str, tag: str) -> bool:
    """In the cache of the Hugging Face hub, where open_clip keeps what it downloads from there."""
    try:
        from huggingface_hub import try_to_load_from_cache
        from open_clip.pretrained import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME, get_pretrained_cfg
    except ImportError:
        return False
    repository, file = os.path.split((get_pretrained_cfg(architecture, tag) or {}).get("hf_hub", ""))
    files = [file] if file else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    return bool(repository) and any(isinstance(try_to_load_from_cache(repository, name), str) for name in files)
