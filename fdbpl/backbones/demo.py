"""The embedded demo pair: CLIPs of the drawn world, shipped with the code, checked by hash."""

import json
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from fdbpl.backbones.backbone import Backbone
from fdbpl.backbones.openai import build_clip, sha256_of, wrap
from fdbpl.errors import UserError

WEIGHTS = Path(__file__).with_name("weights")
NAMES = ("rn-student", "vit-student", "teacher")
VOCABULARY_SIZE = 49408


def load(which: str, device: str, dtype: torch.dtype) -> Backbone:
    """The demo model `which`; raises as `load_state_dict`."""
    name = f"demo:{which}"
    return wrap(build_clip(load_state_dict(which), name), name, sha256(which), device, dtype)


def load_state_dict(which: str) -> dict[str, Tensor]:
    """A full state dict in OpenAI's names, float32, with all 49408 rows of the token table.

    The files hold the rows of the words that the demo world uses. Every other word gets a fixed random row, so that it
    can be typed, but it means nothing.

    Raises:
        UserError: unknown name, or a file that is missing or changed.
    """
    from safetensors import safe_open

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
    """The hash of a demo model's file, compared with the list that ships beside it."""
    if which not in NAMES:
        names = ", ".join(f"demo:{name}" for name in NAMES)
        raise UserError(f"expected a demo model of {names}, found demo:{which}; choose one of these")
    file = WEIGHTS / f"{which}.safetensors"
    sums = WEIGHTS / "SHA256SUMS"
    rows = [line.split() for line in sums.read_text().splitlines()] if sums.is_file() else []
    expected = {name: digest for digest, name in rows}
    found = sha256_of(file) if file.is_file() else "no file"
    if found != expected.get(file.name):
        raise UserError(
            f"expected {file} with SHA-256 {expected.get(file.name, 'listed in SHA256SUMS')[:16]}, found {found[:16]}; "
            "restore the file from the repository"
        )
    return found


def is_available(which: str) -> bool:
    return True
