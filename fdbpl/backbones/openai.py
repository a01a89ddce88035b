"""OpenAI's CLIP models, by name (downloaded by the `clip` package) or from a file; `clip/model.py` stays unmodified."""

import copy
import hashlib
import importlib
import os
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn

from fdbpl.backbones.backbone import Backbone
from fdbpl.backbones.openai_package import clip_package
from fdbpl.errors import SystemFailure, UserError
from fdbpl.io import tensor_files

NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # integers in OpenAI's archives


def model_names() -> list[str]:
    """Return the names that `load_openai` knows."""
    return clip_package().available_models()


def load_openai(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """Load a model of OpenAI by name; it is cached in `~/.cache/clip` and checked against the hash in its URL.

    Raises:
        UserError: the name is unknown.
        SystemFailure: the weights are not cached and cannot be downloaded.
    """
    package = clip_package()
    models = package.clip._MODELS
    if name not in models:
        raise UserError(f"{name!r} is neither a CLIP name nor a file. Known names: {', '.join(models)}.")
    cache = Path(os.environ.get("FDBPL_CLIP_CACHE", "~/.cache/clip")).expanduser()
    file = cache / os.path.basename(models[name])
    expected = _published_sha256(models[name])
    if not file.is_file() or sha256_of(file) != expected:
        try:
            package.clip._download(models[name], str(cache))
        except Exception as error:
            raise SystemFailure(
                f"The weights of {name} cannot be downloaded ({error}), and {file} "
                f"{'has another hash' if file.is_file() else 'does not exist'}. Download {models[name]} on another "
                f"machine and copy it to that path."
            ) from error
    return load_file(file, device, dtype, name=name, sha256=expected)


def load_file(
    file: str | os.PathLike,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    name: str | None = None,
    sha256: str | None = None,
) -> Backbone:
    """Load a CLIP with OpenAI's parameter names from a TorchScript archive, a state dict (.pt) or safetensors.

    No code in the file is executed. TorchScript archives have to be those that OpenAI published.

    Raises:
        UserError: the file is missing or does not hold a CLIP, or is another TorchScript archive.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        found = "is a folder" if file.is_dir() else "does not exist"
        raise UserError(f"The file of CLIP weights {file} {found}. Check the path.")
    state = _read_state_dict(file)
    model = build_clip(state, source=str(file))
    return wrap(model, name or str(file), sha256 or sha256_of(file), device, dtype)


def build_clip(state: dict[str, Tensor], source: str = "the state dict") -> nn.Module:
    """Build `clip.model.CLIP` with these weights: float32, frozen, in eval mode."""
    for key, value in state.items():
        if key in NOT_WEIGHTS:
            continue
        if not value.is_floating_point() and not key.endswith(".num_batches_tracked"):
            raise UserError(f"{key} of {source} has dtype {value.dtype} instead of floats. Give a CLIP file.")
        if not value.isfinite().all():
            raise UserError(f"{key} of {source} contains NaN or Inf. Download the file again.")
    try:
        state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        model = clip_package().model.build_model(dict(state))
    except (KeyError, RuntimeError, AttributeError, IndexError, ZeroDivisionError, AssertionError, ValueError,
            TypeError) as error:  # fmt: skip
        raise UserError(
            f"The parameters in {source} are not those of OpenAI's CLIP ({tensor_files.reason(error)}). "
            "Give a CLIP file."
        ) from error
    model = model.float()
    # build_model rounds to fp16: restore the exact values
    model.load_state_dict({key: value for key, value in state.items() if key in model.state_dict()})
    return model.eval().requires_grad_(False)


def wrap(model: nn.Module, name: str, sha256: str, device: str, dtype: torch.dtype) -> Backbone:
    """Wrap OpenAI's model as a `Backbone` on `device`, with weights in `dtype`."""
    package = clip_package()
    model = model.to(device)
    if dtype != torch.float32:
        _cast(model, dtype)
    return Backbone(
        name=name,
        model=model,
        sha256=sha256,
        image_size=model.visual.input_resolution,
        embed_dim=model.text_projection.shape[1],
        logit_scale=float(model.logit_scale.detach().float().exp()),
        tokenize=lambda texts: tokenize(texts, package),
        encode_tokens=lambda tokens: encode_tokens(model, tokens),
    )


def for_autocast(backbone: Backbone, dtype: torch.dtype) -> Backbone:
    """Copy an OpenAI model for use under autocast, with the matrices that autocast would cast stored in `dtype`.

    Its features are bit for bit those of float32 weights under autocast. The image encoder's first convolution stays in
    float32, because CLIP takes the dtype of its activations from there. Other models are returned unchanged.
    """
    if not isinstance(backbone.model, clip_package().model.CLIP):
        return backbone
    model = copy.deepcopy(backbone.model)
    _cast(model, dtype, keep=model.visual.conv1)
    return replace(backbone, model=model, encode_tokens=lambda tokens: encode_tokens(model, tokens))


def tokenize(texts: list[str], package=None) -> Tensor:
    """Tokenize texts: int64 [C, 77].

    Raises:
        UserError: quotes a text that is too long.
    """
    package = package or clip_package()
    rows = []
    for text in texts:
        try:
            rows.append(package.tokenize(text).long())
        except RuntimeError as error:
            raise UserError(
                f"A text has more than the 75 tokens that CLIP reads ({text[:60]!r}...). Shorten it."
            ) from error
    return torch.cat(rows) if rows else torch.zeros(0, 77, dtype=torch.long)


def vocabulary() -> list[str]:
    """Return the text of each CLIP token, in the order of the embedding's rows; "-" marks an incomplete word."""
    package = clip_package()
    tokenizer = importlib.import_module(f"{package.__name__}.simple_tokenizer").SimpleTokenizer()
    texts = [tokenizer.decode([number]) for number in range(len(tokenizer.decoder))]
    return [text.strip() if text.endswith(" ") or text.startswith("<|") else f"{text}-" for text in texts]


def encode_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """Encode int64 [C, 77] to text features [C, D], on the tokens up to the last EOT only.

    CLIP's text encoder is causal: later tokens cannot affect the result.
    """
    ends = tokens.argmax(dim=-1)
    length = int(ends.max()) + 1
    mask = torch.full((length, length), float("-inf"), device=tokens.device).triu_(1)
    hidden = (model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]).to(model.dtype)
    hidden = hidden.permute(1, 0, 2)
    for block in model.transformer.resblocks:
        normed = block.ln_1(hidden)
        hidden = hidden + block.attn(normed, normed, normed, need_weights=False, attn_mask=mask.to(hidden.dtype))[0]
        hidden = hidden + block.mlp(block.ln_2(hidden))
    hidden = model.ln_final(hidden.permute(1, 0, 2)).to(model.dtype)
    return hidden[torch.arange(len(tokens), device=tokens.device), ends] @ model.text_projection


def sha256_of(file: str | os.PathLike) -> str:
    """Compute the hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _cast(model: nn.Module, dtype: torch.dtype, keep: nn.Module | None = None) -> None:
    """Cast matrices and their biases to `dtype`, except those of `keep`; norms, embeddings and the logit scale stay in
    float32, as in OpenAI's conversion."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.MultiheadAttention) and module is not keep:
            module.to(dtype)
        for name in ("text_projection", "proj"):
            if isinstance(getattr(module, name, None), nn.Parameter):
                getattr(module, name).data = getattr(module, name).data.to(dtype)


def _read_state_dict(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            state = load_safetensors(file)
        elif tensor_files.is_torchscript(file):
            state = _read_torchscript(file)
        else:
            state = tensor_files.load(file)
    except UserError:
        raise
    except Exception as error:  # each reader raises its own exceptions
        raise UserError(
            f"The CLIP weights in {file} cannot be read safely ({tensor_files.reason(error)}). Download the file again."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file} holds a {type(state).__name__} instead of a state dict of tensors. Give a CLIP file.")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _read_torchscript(file: Path) -> dict[str, Tensor]:
    """Read an archive that OpenAI published. Loading others could run code, so that they are rejected."""
    if sha256_of(file) not in {_published_sha256(url) for url in clip_package().clip._MODELS.values()}:
        raise UserError(
            f"{file} is a TorchScript archive, which can hold code, and none of those that OpenAI published (by its "
            "SHA-256). Download it again, or save its state_dict() with torch.save where you trust it."
        )
    return torch.jit.load(file, map_location="cpu").state_dict()


def _published_sha256(url: str) -> str:
    """Return the SHA-256 in the URL of a model of OpenAI."""
    return url.split("/")[-2]
