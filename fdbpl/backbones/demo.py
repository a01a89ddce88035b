"""The embedded demo models: small CLIPs trained on synthetic images, part of the package, checked by hash."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from fdbpl.backbones.backbone import Backbone
from fdbpl.backbones.openai import build_clip, sha256_of, wrap
from fdbpl.errors import UserError

WEIGHTS = Path(__file__).with_name("weights")
NAMES = ("rn-student", "vit-student", "teacher")
VOCABULARY_SIZE = 49408


def load(which: str, device: str, dtype: torch.dtype) -> Backbone:
    """Load the demo model `which`; raises the errors of `load_state_dict`."""
    name = f"demo:{which}"
    return wrap(build_clip(load_state_dict(which), name), name, sha256(which), device, dtype)


def load_state_dict(which: str) -> dict[str, Tensor]:
    """Load a state dict with OpenAI's parameter names, float32, and all 49408 rows of the token embedding.

    The files hold the rows of the words in the demo data sets. All other tokens get fixed random rows without meaning.

    Raises:
        UserError: the name is unknown, or the file is missing or has changed.
    """
    sha256(which)
    with safe_open(WEIGHTS / f"{which}.safetensors", "pt") as file:
        ids = json.loads(file.metadata()["token_ids"])
        state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a dict)
    small = state["token_embedding.weight"]
    table = 0.02 * torch.randn(VOCABULARY_SIZE, small.shape[1], generator=torch.Generator().manual_seed(0))
    table[ids] = small
    return {**state, "token_embedding.weight": table}


@cache
def sha256(which: str) -> str:
    """Return the hash of a demo model's file after comparing it with SHA256SUMS."""
    if which not in NAMES:
        names = ", ".join(f"demo:{name}" for name in NAMES)
        raise UserError(f"Unknown demo model demo:{which}: choose one of {names}.")
    file = WEIGHTS / f"{which}.safetensors"
    sums = WEIGHTS / "SHA256SUMS"
    rows = [line.split() for line in sums.read_text().splitlines()] if sums.is_file() else []
    expected = {name: digest for digest, name in rows}
    found = sha256_of(file) if file.is_file() else "no file"
    if found != expected.get(file.name):
        raise UserError(
            f"{file} is missing or has changed (SHA-256: {found[:16]}). SHA256SUMS lists "
            f"{expected.get(file.name, 'none')[:16]}. Restore the file from the repository."
        )
    return found


def is_available(which: str) -> bool:
    return True
