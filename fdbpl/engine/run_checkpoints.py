"""Checkpoints of a run: one file for each trained module, read and written for all modules together."""

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import nn

from fdbpl.errors import UserError

from . import checkpoint


def common_epochs(folder: Path, modules: Collection[str]) -> set[int]:
    """Return the epochs of a run folder with a checkpoint of every module."""
    return set.intersection(*(set(checkpoint.epochs(folder / name)) for name in modules))


def write(folder: Path, file_name: str, contents: Mapping[str, dict], is_best: bool) -> None:
    """Write a checkpoint of each module, and once more as the best model if `is_best`."""
    for name, content in contents.items():
        print(f"Checkpoint saved to {checkpoint.write(folder / name, file_name, content)}")
        if is_best and file_name != checkpoint.BEST:
            checkpoint.write(folder / name, checkpoint.BEST, content)


def remove_older(folder: Path, modules: Collection[str], epoch: int, frequency: int) -> None:
    """Delete the checkpoints up to `epoch`, except those of every `frequency`-th epoch (0 = keep none)."""
    for name in modules:
        checkpoint.remove_older(folder / name, epoch, frequency)


def load_weights(modules: Mapping[str, nn.Module], folder: Path, epoch: int | None, ignored: tuple[str, ...]) -> None:
    """Load the trained parameters of all modules, completely or not at all.

    Args:
        epoch: epoch of the checkpoints; None = the best model if there is one, else the last epoch.
        ignored: prefixes of unused parameters in official checkpoints.

    Raises:
        UserError: a checkpoint is missing, broken or of another method.
    """
    paths = {name: checkpoint.find_checkpoint(folder / name, epoch) for name in modules}
    contents = {name: checkpoint.read(path) for name, path in paths.items()}
    states = {name: checkpoint.match_keys(modules[name], content["state_dict"], paths[name], ignored)
              for name, content in contents.items()}  # fmt: skip
    for name, state in states.items():  # all of them fit
        modules[name].load_state_dict(state)
        print(f'Loaded {name} from "{paths[name]}" (epoch = {contents[name].get("epoch")})')


def read_last(folder: Path, modules: Collection[str]) -> tuple[int, dict[Path, dict]]:
    """Read the last epoch with a readable checkpoint of every module.

    Returns:
        The epoch, counted from 1, and the content of each module's file; (0, {}) if there is none.
    """
    for epoch in sorted(common_epochs(folder, modules), reverse=True):
        try:
            paths = [folder / name / f"model.pth.tar-{epoch}" for name in modules]
            return epoch, {path: checkpoint.read(path) for path in paths}
        except UserError as error:
            print(f"Skipping epoch {epoch}: {error}")
    return 0, {}


def read_best(folder: Path, modules: Collection[str]) -> dict[str, dict]:
    """Read the best model on the validation images; {} if a module lacks it or its validation result."""
    paths = {name: folder / name / checkpoint.BEST for name in modules}
    if not all(path.is_file() for path in paths.values()):
        return {}
    contents = {name: checkpoint.read(path) for name, path in paths.items()}
    return contents if all(content.get("val_result") is not None for content in contents.values()) else {}
