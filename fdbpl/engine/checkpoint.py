"""Checkpoint files in Dassl's layout with the official names: written atomically, read without executing code.

<run folder>/<module>/model.pth.tar-<epoch> holds {state_dict, epoch, optimizer, scheduler, val_result};
<run folder>/<module>/checkpoint contains the name of the latest file.
"""

import io
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from fdbpl.errors import UserError, enumerated
from fdbpl.io import tensor_files
from fdbpl.io.atomic import write_bytes, write_text
from fdbpl.prompts import PromptLearner

BEST = "model-best.pth.tar"
NUMBERED = re.compile(r"model\.pth\.tar-(\d+)")


def write(folder: str | os.PathLike, file_name: str, content: dict) -> Path:
    """Write a checkpoint and its name into the file `checkpoint`."""
    path = Path(folder) / file_name
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())
    write_text(path.parent / "checkpoint", f"{file_name}\n")
    return path


def epochs(folder: str | os.PathLike) -> list[int]:
    """Return the epochs with a numbered checkpoint in a module's folder, ascending."""
    folder = Path(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(NUMBERED.fullmatch, names) if match)


def find_checkpoint(folder: str | os.PathLike, epoch: int | None) -> Path:
    """Return the path of the checkpoint of `epoch`; None = the best model if there is one, else the last epoch.

    Raises:
        UserError: there is none; the message lists the epochs that exist.
    """
    folder = Path(folder)
    saved = epochs(folder)
    if epoch is None and (folder / BEST).is_file():
        return folder / BEST
    if epoch is None and saved:
        epoch = saved[-1]
    if epoch not in saved:
        run = _run_folder_above(folder.parent)
        if run:
            raise UserError(f"{folder.parent} is inside the run folder {run}: give that folder as --model-dir")
        wanted = "checkpoint" if epoch is None else f"checkpoint of epoch {epoch}"
        others = f" (epochs {', '.join(map(str, saved))} are saved)" if saved else ""
        raise UserError(f"There is no {wanted} in {folder}{others}; check --model-dir and --load-epoch")
    return folder / f"model.pth.tar-{epoch}"


def _run_folder_above(path: Path) -> Path | None:
    """Run folder of a checkpoint file or of a module's folder; None for other paths."""
    if path.is_file():
        path = path.parent
    return path.parent if epochs(path) or (path / BEST).is_file() else None


def remove_older(folder: str | os.PathLike, epoch: int, frequency: int) -> None:
    """Delete a module's checkpoints up to `epoch`, except those of every `frequency`-th epoch (0 = keep none)."""
    for earlier in epochs(folder):
        if earlier <= epoch and (frequency == 0 or earlier % frequency):
            Path(folder, f"model.pth.tar-{earlier}").unlink()


# containers in the state of those objects
CONTAINERS = [
    (defaultdict, "collections.defaultdict"),
    (Counter, "collections.Counter"),
    (dict, "builtins.dict"),
    (dict, "__builtin__.dict"),
]


class _Stub:
    """Replacement of a scheduler or optimiser object in old checkpoints; it holds data and has no behaviour."""

    def __init__(self, *arguments, **keywords):
        pass


def read(path: str | os.PathLike) -> dict:
    """Read a checkpoint to the CPU without executing code from it.

    Official checkpoints contain pickled learning-rate schedulers; their classes are read as `_Stub`.

    Raises:
        UserError: the file is missing, broken or unsafe, or no checkpoint.
    """
    path = Path(path)
    try:
        content = tensor_files.load(path, _stub_globals(path))
    except Exception as error:  # truncated, foreign and unsafe files raise different types
        refused = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds {refused[1]}" if refused else tensor_files.reason(error)
        raise UserError(
            f"The checkpoint {path} cannot be read safely ({reason}); train again or give another --model-dir"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} has no state_dict of tensors; give a Dassl checkpoint")
    extra = content.get("extra", {})
    if not isinstance(extra, dict) or not all(isinstance(value, Tensor) for value in extra.values()):
        raise UserError(f"The entry `extra` of {path} does not hold tensors by name; give another checkpoint")
    named, held = NUMBERED.fullmatch(path.name), content.get("epoch")
    if named and isinstance(held, int) and held != int(named[1]):
        raise UserError(f"{path} contains the checkpoint of epoch {held}, not of epoch {named[1]}; rename it")
    return content


@contextmanager
def _stub_globals(path: Path) -> Iterator[None]:
    """Make torch read the file's scheduler and optimiser classes as `_Stub`; all other classes are refused."""
    unsafe = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if unsafe is None:  # older torch refuses such files
        yield
        return
    stubs = [(_Stub, name) for name in unsafe(path) if name.startswith(("torch.optim.", "dassl.optim."))]
    with torch.serialization.safe_globals([*stubs, *CONTAINERS]):
        yield


def restore(
    module: nn.Module, state: dict[str, Tensor], path: str | os.PathLike, ignored: tuple[str, ...] = ()
) -> None:
    """Load trained parameters into `module`, completely or not at all (see `match_keys`)."""
    module.load_state_dict(match_keys(module, state, path, ignored))


def match_keys(
    module: nn.Module, state: dict[str, Tensor], path: str | os.PathLike, ignored: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Return the state dict of `module` with the trained parameters of `state` and the class-name tokens of `module`.

    As in the official `load_model`, `token_prefix` and `token_suffix` are dropped, since a shared context serves any
    class list. The frozen CLIP that official checkpoints of VPT, IVLP, MaPLe, PromptSRC and PromptKD contain is dropped
    as well, and so are names that start with one of `ignored`. Unlike there, a state is never loaded in part.

    Raises:
        UserError: missing or unexpected names, other shapes or types, NaN or Inf, or class-specific contexts of other
            classes.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    expected = {key: value for key, value in module.state_dict().items() if not _is_token_buffer(key)}
    trained = {
        key: value
        for key, value in state.items()
        if key in expected or not (_is_token_buffer(key) or _is_frozen(key) or key.startswith(tuple(ignored)))
    }
    if trained.keys() != expected.keys():
        missing, unexpected = sorted(expected.keys() - trained.keys()), sorted(trained.keys() - expected.keys())
        found = [f"lacks {enumerated(missing)}"] * bool(missing)
        found += [f"has the unexpected {enumerated(unexpected)}"] * bool(unexpected)
        raise UserError(
            f"The parameters in {path} are not those of this method ({enumerated(sorted(expected))}): it "
            f"{' and '.join(found)}. Give a checkpoint of this method"
        )
    for key, value in trained.items():
        if value.shape != expected[key].shape:
            raise UserError(
                f"{key} has shape {tuple(value.shape)} in {path}, but {tuple(expected[key].shape)} here; N_CTX, "
                "CTX_INIT, CSC and the backbone must be those of the training run, and class-specific contexts (CSC) "
                "work only for the classes they were trained for"
            )
        if value.is_floating_point() != expected[key].is_floating_point():
            raise UserError(
                f"{key} has dtype {value.dtype} in {path}, but {expected[key].dtype} here; give a checkpoint of this "
                "method"
            )
    broken = [key for key, value in trained.items() if not value.isfinite().all()]
    if broken:
        raise UserError(
            f"{enumerated(broken)} in {path} contain NaN or Inf; delete that file to use the checkpoint before it"
        )
    if isinstance(module, PromptLearner) and module.class_specific:
        _check_classes(module, state.get("token_suffix"), path)
    return {**module.state_dict(), **trained}


def restore_optimiser(optimiser: torch.optim.Optimizer, content: dict, path: str | os.PathLike) -> None:
    """Restore the state of an optimiser to resume a training.

    Raises:
        UserError: the file has none (files for tests hold weights only), or that of another optimiser.
    """
    state = content.get("optimizer")
    theirs = state.get("param_groups") if isinstance(state, dict) else None
    theirs = theirs[0] if isinstance(theirs, list) and theirs else None
    marks = {"betas", "momentum", "alpha"}  # settings that identify the type of optimiser
    if not isinstance(theirs, dict) or marks & theirs.keys() != marks & optimiser.param_groups[0].keys():
        raise UserError(
            f"{path} holds {'the state of another optimiser' if theirs else 'no optimiser state'}, so "
            f"{type(optimiser).__name__} cannot resume from it; give --resume a run with the same OPTIM.NAME"
        )
    try:
        optimiser.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"The state of {type(optimiser).__name__} in {path} does not fit this training "
            f"({tensor_files.reason(error)}); delete that file to use the checkpoint before it"
        ) from error


def _is_token_buffer(key: str) -> bool:
    return key.rpartition(".")[2].startswith(("token_prefix", "token_suffix", "token_midfix"))


FROZEN = ("image_encoder.", "text_encoder.", "logit_scale", "prompt_learner.ZS_image_encoder.", "ZS_image_encoder.")


def _is_frozen(key: str) -> bool:
    """Return whether a parameter belongs to the frozen CLIP; trained prompts in its towers are called VPT."""
    return key.startswith(FROZEN) and "VPT" not in key


def _check_classes(learner: PromptLearner, suffix: Tensor | None, path: str | os.PathLike) -> None:
    """Refuse class-specific contexts of other classes, by the class-name tokens in the checkpoint."""
    if suffix is None:
        return
    own = learner.token_suffix.float().cpu()
    for row, name in enumerate(learner.classnames):
        end = int(learner.eot[row]) - learner.n_ctx  # positions of the suffix up to EOT
        theirs = suffix[row, :end].float()
        if theirs.shape != own[row, :end].shape or not torch.allclose(theirs, own[row, :end], rtol=1e-2, atol=1e-3):
            raise UserError(
                f"The class-specific contexts (CSC) in {path} belong to another class list or backbone: class {row} "
                f"is not {name} there. Test on the classes of the training run"
            )
