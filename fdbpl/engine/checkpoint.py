"""Checkpoint files: Dassl's layout and the official names, written whole or not at all, read without running anything.

<run folder>/<module>/model.pth.tar-<epoch> holds {state_dict, epoch, optimizer, scheduler, val_result};
<run folder>/<module>/checkpoint names the file written last.
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
    """Write one checkpoint and point `checkpoint` at it."""
    path = Path(folder) / file_name
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())
    write_text(path.parent / "checkpoint", f"{file_name}\n")
    return path


def epochs(folder: str | os.PathLike) -> list[int]:
    """Epochs there is a numbered checkpoint of, ascending."""
    folder = Path(folder)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(NUMBERED.fullmatch, names) if match)


def choose(folder: str | os.PathLike, epoch: int | None) -> Path:
    """The checkpoint of `epoch`; without one, Dassl's choice: the best if there is one, else the last.

    Raises:
        UserError: there is none; those there are get named.
    """
    folder = Path(folder)
    there = epochs(folder)
    if epoch is None and (folder / BEST).is_file():
        return folder / BEST
    if epoch is None and there:
        epoch = there[-1]
    if epoch not in there:
        wanted = "a checkpoint" if epoch is None else f"the checkpoint of epoch {epoch}"
        run = _run_folder_above(folder.parent)
        if run:
            raise UserError(f"{folder.parent} is inside the run folder {run}: give that folder as --model-dir")
        found = f"those of epochs {', '.join(map(str, there))}" if there else "none"
        raise UserError(f"expected {wanted} in {folder}, found {found}; check --model-dir and --load-epoch")
    return folder / f"model.pth.tar-{epoch}"


def _run_folder_above(path: Path) -> Path | None:
    """The run folder that a checkpoint file, or the folder of one module's checkpoints, belongs to; else None."""
    if path.is_file():
        path = path.parent
    return path.parent if epochs(path) or (path / BEST).is_file() else None


# what those objects keep their values in
CONTAINERS = [
    (defaultdict, "collections.defaultdict"),
    (Counter, "collections.Counter"),
    (dict, "builtins.dict"),
    (dict, "__builtin__.dict"),
]


class Inert:
    """Stands for an object of torch's or Dassl's schedulers that old checkpoints contain; holds data, does nothing."""

    def __init__(self, *arguments, **keywords):
        pass


def read(path: str | os.PathLike) -> dict:
    """The content of a checkpoint on the CPU. Never runs code from the file.

    Official files of the field hold a live learning-rate scheduler; its classes are read as `Inert`.

    Raises:
        UserError: no checkpoint, or one that cannot be read safely.
    """
    path = Path(path)
    try:
        content = tensor_files.load(path, _inert_globals(path))
    except Exception as error:  # truncated, foreign or unsafe files each raise their own kind
        refused = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds {refused[1]}" if refused else tensor_files.reason(error)
        raise UserError(
            f"expected a checkpoint in {path}, found a file that cannot be read safely ({reason}); "
            "train again or give another --model-dir"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"expected a checkpoint with a state_dict in {path}, found none; give a Dassl checkpoint")
    extra = content.get("extra", {})
    if not isinstance(extra, dict) or not all(isinstance(value, Tensor) for value in extra.values()):
        raise UserError(f"expected tensors by name under extra in {path}, found others; give another checkpoint")
    named, held = NUMBERED.fullmatch(path.name), content.get("epoch")
    if named and isinstance(held, int) and held != int(named[1]):
        raise UserError(f"expected the checkpoint of epoch {named[1]} in {path}, found that of epoch {held}; rename it")
    return content


@contextmanager
def _inert_globals(path: Path) -> Iterator[None]:
    """Stand-ins for the scheduler and optimiser classes named in the file; anything else stays refused."""
    unsafe = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if unsafe is None:  # older torch: such files stay refused
        yield
        return
    inert = [(Inert, name) for name in unsafe(path) if name.startswith(("torch.optim.", "dassl.optim."))]
    with torch.serialization.safe_globals([*inert, *CONTAINERS]):
        yield


def restore(
    module: nn.Module, state: dict[str, Tensor], path: str | os.PathLike, ignored: tuple[str, ...] = ()
) -> None:
    """Load learnt parameters into `module`: all that `fitting` gives, or nothing."""
    module.load_state_dict(fitting(module, state, path, ignored))


def fitting(
    module: nn.Module, state: dict[str, Tensor], path: str | os.PathLike, ignored: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """A state dict of `module` with the learnt parameters of `state`; its class-name tokens are those at hand.

    As in the official `load_model`, `token_prefix` and `token_suffix` are dropped: a shared context serves any class
    list. The frozen CLIP that official checkpoints of VPT, IVLP, MaPLe, PromptSRC and PromptKD carry along is left out,
    and so are names that begin with one of `ignored`. Unlike there, nothing is loaded in part: `module` stays as it is.

    Raises:
        UserError: missing or unexpected names, other shapes, or class-specific contexts of other classes.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    expected = {key: value for key, value in module.state_dict().items() if not _is_token_buffer(key)}
    learnt = {
        key: value
        for key, value in state.items()
        if key in expected or not (_is_token_buffer(key) or _is_frozen(key) or key.startswith(tuple(ignored)))
    }
    if learnt.keys() != expected.keys():
        missing, surplus = sorted(expected.keys() - learnt.keys()), sorted(learnt.keys() - expected.keys())
        found = [f"no {enumerated(missing)}"] * bool(missing) + [f"also {enumerated(surplus)}"] * bool(surplus)
        raise UserError(
            f"expected the parameters {enumerated(sorted(expected))} in {path}, found {' and '.join(found)}; "
            "give a checkpoint of this method"
        )
    for key, value in learnt.items():
        if value.shape != expected[key].shape:
            raise UserError(
                f"expected {key} of shape {tuple(expected[key].shape)} in {path}, found {tuple(value.shape)}; "
                "N_CTX, CTX_INIT, CSC and the backbone must be those of the training run, and class-specific "
                "contexts (CSC) serve only the classes they were trained for"
            )
    other = [key for key, value in learnt.items() if value.is_floating_point() != expected[key].is_floating_point()]
    if other:
        raise UserError(
            f"expected {other[0]} of {expected[other[0]].dtype} in {path}, found {learnt[other[0]].dtype}; give a "
            "checkpoint of this method"
        )
    odd = [key for key, value in learnt.items() if not value.isfinite().all()]
    if odd:
        raise UserError(
            f"expected finite numbers in {path}, found others in {enumerated(odd)}; delete that file, and the one "
            "before is used"
        )
    if isinstance(module, PromptLearner) and module.class_specific:
        _refuse_other_classes(module, state.get("token_suffix"), path)
    return {**module.state_dict(), **learnt}


def restore_optimiser(optimiser: torch.optim.Optimizer, content: dict, path: str | os.PathLike) -> None:
    """Take up an optimiser's state, to go on training.

    Raises:
        UserError: there is none (files for tests hold weights alone), or that of another optimiser.
    """
    state = content.get("optimizer")
    theirs = state.get("param_groups") if isinstance(state, dict) else None
    theirs = theirs[0] if isinstance(theirs, list) and theirs else None
    marks = {"betas", "momentum", "alpha"}  # settings that tell the kinds apart
    if not isinstance(theirs, dict) or marks & theirs.keys() != marks & optimiser.param_groups[0].keys():
        raise UserError(
            f"expected the state of {type(optimiser).__name__} in {path} to go on from, found "
            f"{'that of another optimiser' if theirs else 'none'}; give --resume a run with the same OPTIM.NAME"
        )
    try:
        optimiser.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"expected the state of {type(optimiser).__name__} in {path} to go on from, found one that does not fit "
            f"({tensor_files.reason(error)}); delete that file, and the one before is used"
        ) from error


def _is_token_buffer(key: str) -> bool:
    return key.rpartition(".")[2].startswith(("token_prefix", "token_suffix", "token_midfix"))


FROZEN = ("image_encoder.", "text_encoder.", "logit_scale", "prompt_learner.ZS_image_encoder.", "ZS_image_encoder.")


def _is_frozen(key: str) -> bool:
    """Of the frozen CLIP; learnt prompts in its towers are called VPT."""
    return key.startswith(FROZEN) and "VPT" not in key


def _refuse_other_classes(learner: PromptLearner, suffix: Tensor | None, path: str | os.PathLike) -> None:
    """Class-specific contexts are only for the classes whose name tokens lie beside them."""
    if suffix is None:
        return
    own = learner.token_suffix.float().cpu()
    for row, name in enumerate(learner.classnames):
        end = int(learner.eot[row]) - learner.n_ctx  # positions of the suffix up to EOT
        theirs = suffix[row, :end].float()
        if theirs.shape != own[row, :end].shape or not torch.allclose(theirs, own[row, :end], rtol=1e-2, atol=1e-3):
            raise UserError(
                f"expected class-specific contexts (CSC) in {path} for this class list, found another class (or "
                f"backbone) at {row} ({name}); test on the classes of the training run"
            )
