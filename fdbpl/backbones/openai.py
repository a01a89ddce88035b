"""OpenAI's CLIP models: by name (downloaded by the `clip` package) or from a file. `clip/model.py` stays unmodified."""

import copy
import hashlib
import importlib
import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fdbpl.backbones.backbone import Backbone
from fdbpl.backbones.openai_package import clip_package
from fdbpl.errors import SystemFailure, UserError
from fdbpl.io import tensor_files

NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's archives carry along


def model_names() -> list[str]:
    """Names that `load_openai` downloads."""
    return clip_package().available_models()


def load_openai(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Backbone:
    """A model of OpenAI by its name, kept in `~/.cache/clip` and checked against the hash in its address.

    Raises:
        UserError: unknown name.
        SystemFailure: it is not cached and cannot be downloaded.
    """
    package = clip_package()
    models = package.clip._MODELS
    if name not in models:
        raise UserError(f"expected a CLIP name, a file or a demo model, found {name!r}; names are {', '.join(models)}")
    cache = Path(os.environ.get("FDBPL_CLIP_CACHE", "~/.cache/clip")).expanduser()
    file = cache / os.path.basename(models[name])
    expected = models[name].split("/")[-2]
    if not file.is_file() or sha256_of(file) != expected:
        try:
            package.clip._download(models[name], str(cache))
        except Exception as error:
            raise SystemFailure(
                f"expected the weights of {name} at {file} (SHA-256 {expected[:12]}...), found "
                f"{'a file with another hash' if file.is_file() else 'no file'} and the download failed ({error}); "
                f"fetch {models[name]} elsewhere and put it there"
            ) from error
    return load_file(file, device, dtype, name=name, sha256=expected)


def load_file(
    file: str | os.PathLike,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    name: str | None = None,
    sha256: str | None = None,
) -> Backbone:
    """A CLIP in OpenAI's parameter names from a TorchScript archive, a state dict (.pt) or safetensors.

    Nothing in the file is run, as pickle or as TorchScript. Raises `UserError` for a missing file or one that holds no
    CLIP.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        found = "a folder" if file.is_dir() else "no file"
        raise UserError(f"expected CLIP weights at {file}, found {found}; check the path")
    state = _read_state_dict(file)
    model = build_clip(state, source=str(file))
    return wrap(model, name or str(file), sha256 or sha256_of(file), device, dtype)


def build_clip(state: dict[str, Tensor], source: str = "the state dict") -> nn.Module:
    """`clip.model.CLIP` with these weights: float32, frozen, eval."""
    for key, value in state.items():
        if key in NOT_WEIGHTS:
            continue
        if not value.is_floating_point() and not key.endswith(".num_batches_tracked"):
            raise UserError(
                f"expected floating-point numbers in {key} of {source}, found {value.dtype}; give a CLIP file"
            )
        if not value.isfinite().all():
            raise UserError(f"expected finite numbers in {key} of {source}, found others; fetch the file again")
    try:
        state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        model = clip_package().model.build_model(dict(state))
    except (KeyError, RuntimeError, AttributeError, IndexError, ZeroDivisionError, AssertionError, ValueError,
            TypeError) as error:  # fmt: skip
        raise UserError(
            f"expected the parameters of OpenAI's CLIP in {source}, found others ({tensor_files.reason(error)}); "
            "give a CLIP file"
        ) from error
    model = model.float()
    # build_model passes through fp16: restore what that rounding lost
    model.load_state_dict({key: value for key, value in state.items() if key in model.state_dict()})
    return model.eval().requires_grad_(False)


def wrap(model: nn.Module, name: str, sha256: str, device: str, dtype: torch.dtype) -> Backbone:
    """A `Backbone` around OpenAI's model on `device`, weights in `dtype`."""
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
    """A copy of an OpenAI model for use under autocast alone: the matrices that autocast would cast at every use are
    stored in `dtype`.

    Its features are bit for bit those of autocast around float32 weights. The image tower's first convolution stays in
    float32, because CLIP reads the dtype of its activations there. Other models are returned as they are.
    """
    if not isinstance(backbone.model, clip_package().model.CLIP):
        return backbone
    model = copy.deepcopy(backbone.model)
    _cast(model, dtype, keep=model.visual.conv1)
    return replace(backbone, model=model, encode_tokens=lambda tokens: encode_tokens(model, tokens))


def tokenize(texts: list[str], package=None) -> Tensor:
    """Token ids, int64 [C, 77]; a text that does not fit ends in a sentence that quotes it."""
    package = package or clip_package()
    rows = []
    for text in texts:
        try:
            rows.append(package.tokenize(text).long())
        except RuntimeError as error:
            raise UserError(
                f"expected a text of at most 75 tokens, found a longer one ({text[:60]!r}...); shorten it"
            ) from error
    return torch.cat(rows) if rows else torch.zeros(0, 77, dtype=torch.long)


def vocabulary() -> list[str]:
    """The text of each token of CLIP, in the order of the token embedding's rows; "-" ends a piece of a word."""
    package = clip_package()
    tokenizer = importlib.import_module(f"{package.__name__}.simple_tokenizer").SimpleTokenizer()
    texts = [tokenizer.decode([number]) for number in range(len(tokenizer.decoder))]
    return [text.strip() if text.endswith(" ") or text.startswith("<|") else f"{text}-" for text in texts]


def encode_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """Text features [C, D] of int64 [C, 77], computed on the tokens up to the last EOT only.

    CLIP's text tower is causal, so the tokens behind EOT cannot reach it: the result is that of all 77.
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
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _cast(model: nn.Module, dtype: torch.dtype, keep: nn.Module | None = None) -> None:
    """Matrices and their biases to `dtype`, but for those of `keep`; norms, embeddings and the logit scale stay in
    float32, as in OpenAI's."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.MultiheadAttention) and module is not keep:
            module.to(dtype)
        for name in ("text_projection", "proj"):
            if isinstance(getattr(module, name, None), nn.Parameter):
                getattr(module, name).data = getattr(module, name).data.to(dtype)


def _read_state_dict(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file as load_safetensors

            state = load_safetensors(file)
        elif tensor_files.is_torchscript(file):
            state = tensor_files.torchscript_tensors(file)
        else:
            state = tensor_files.load(file)
    except Exception as error:  # each reader raises its own kinds
        raise UserError(
            f"expected CLIP weights (TorchScript archive, state dict or safetensors) in {file}, "
            f"found a file that cannot be read safely ({tensor_files.reason(error)}); fetch it again"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"expected a state dict of tensors in {file}, found {type(state).__name__}; give a CLIP file")
    return {str(key).removeprefix("module."): value for key, value in state.items()}
