"""CLIP models of the demo: OpenAI's architecture with embeddings of only the tokens in use."""

import json
from pathlib import Path

from torch import nn

from fdbpl.backbones.openai import sha256_of
from fdbpl.backbones.openai_package import clip_package
from fdbpl.io.atomic import write_text
from fdbpl.io.tensor_files import write_tensors

WEIGHTS = Path(__file__).resolve().parents[2] / "fdbpl" / "backbones" / "weights"
SIDE, EMBEDDING, CONTEXT = 64, 128, 77
IMAGE_TOWERS = {  # layers, width, patch size
    "rn-student": ((1, 1, 1, 1), 16, None),
    "teacher": ((1, 1, 1, 1), 24, None),
    "vit-student": (4, 128, 8),
}
TEXT_TOWER = (128, 2, 3)  # width, heads, layers


def build(which: str, vocabulary: int) -> nn.Module:
    """Return a `clip.model.CLIP` with random weights, float32."""
    layers, width, patch = IMAGE_TOWERS[which]
    return clip_package().model.CLIP(EMBEDDING, SIDE, layers, width, patch, CONTEXT, vocabulary, *TEXT_TOWER).float()


def save_small(model: nn.Module, token_ids: list[int], which: str, folder: Path) -> Path:
    """Save fp16 weights with the token ids in the metadata of the file, and update SHA256SUMS."""
    file = folder / f"{which}.safetensors"
    state = {key: value.cpu() for key, value in model.state_dict().items()}
    state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    write_tensors(file, state, {"token_ids": json.dumps(token_ids), "made_by": "tools.demo_pretraining"})
    write_sums(folder)
    return file


def load_small(which: str, folder: Path = WEIGHTS) -> tuple[nn.Module, list[int]]:
    """Load a trained model and the ids of its token table."""
    from safetensors import safe_open

    with safe_open(folder / f"{which}.safetensors", "pt") as file:
        ids = json.loads(file.metadata()["token_ids"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    model = build(which, len(ids))
    model.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    return model, ids


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of all weights in `folder` to SHA256SUMS."""
    files = sorted(folder.glob("*.safetensors"))
    write_text(folder / "SHA256SUMS", "".join(f"{sha256_of(file)}  {file.name}\n" for file in files))
