"""Checks of a disturbed folder: nothing was lost, repeated, left over or changed."""

import fnmatch
import hashlib
import json
import os
import re
from pathlib import Path

import torch
from safetensors import safe_open

RESULTS = ("accuracy", "macro_f1", "error_rate", "parameters", "protocol")
# files that only a disturbed folder may contain: logs and curves of earlier attempts, and locks
OWN = ("*/log.txt-*", "*/tensorboard/events.out.tfevents.*", "*.lock", "*/.lock")
SPARED = ("cost.json", "readable.safetensors")  # records that may be missing in a disturbed folder
TEMPORARY = (".partial", ".partial.json", ".extracting", ".unpacked")  # endings of temporary files and folders
NUMBERED = re.compile(r"model\.pth\.tar-(\d+)")
STEP = re.compile(r"epoch \[(\d+)/\d+\] batch \[(\d+)/\d+\].* (loss .*?) lr (\S+)")


class Lost(AssertionError):
    """Something was lost, repeated, left over or changed; the message names it."""


def require(holds: bool, message: str) -> None:
    if not holds:
        raise Lost(message)


# ------------------------------------------------------------------------------------------- finished work


def finished(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, time and size of every finished file by path. Writing the file again would change them.

    Finished files are those of region banks, image features, few-shot lists and images, the checkpoints of epochs
    that all modules have saved, and the files of a run with its done marker.
    """
    files = {}
    for file in _files(folder):
        name = file.relative_to(folder).as_posix()
        if _temporary(name) or file.name.startswith("."):
            continue
        numbered = NUMBERED.fullmatch(file.name)
        if numbered:
            run = file.parents[1]
            counts = int(numbered[1]) in finished_epochs(run)
        elif file.name in ("metrics.json", "log.txt"):
            counts = (file.parent / "done.json").is_file()
        elif file.parts[-3] == "features" and file.name.startswith("regions-"):  # written before their regions
            counts = (file.parents[2] / file.name).is_file()
        else:
            kinds = (".safetensors", ".jpg", "/done.json", "/manifest.json", "/drawn.json")
            counts = f"/{name}".endswith(kinds) or "split_fewshot" in name
        if counts:
            files[name] = _stamp(file)
    return files


def finished_epochs(run: Path) -> set[int]:
    """Return the epochs with a checkpoint of every trainable module of a run; the logs list the modules."""
    names = {name for log in run.glob("log.txt*") for line in re.findall("^Trainable: .*", log.read_text(), re.M)
             for name in re.findall(r"(\w+)\.[\w.]+ \[", line)}  # fmt: skip
    learners = [{int(match[1]) for match in map(NUMBERED.fullmatch, _listed(run / name)) if match} for name in names]
    return set.intersection(*learners) if learners else set()


def require_unchanged(folder: Path, before: dict[str, tuple[int, int, int]]) -> None:
    """Require that every file in `before` is unchanged."""
    for name, stamp in before.items():
        require((folder / name).is_file(), f"{folder / name} was finished and is missing")
        require(_stamp(folder / name) == stamp, f"{folder / name} was finished and has been written again")


def logs(folder: Path) -> dict[str, int]:
    """Return the inode of each run's log."""
    return {str(file.parent.relative_to(folder)): file.stat().st_ino for file in folder.rglob("log.txt")}


def require_epochs_kept(folder: Path, before: dict[str, set[int]], logs_before: dict[str, int]) -> None:
    """Require that newer logs resume from the last epoch in `before` and repeat no finished epoch."""
    for run, inode in logs(folder).items():
        text, done = (folder / run / "log.txt").read_text(), before.get(run, set())
        trained = {int(match[1]) for match in STEP.finditer(text)}
        if inode == logs_before.get(run) or not trained or not done:
            continue
        require(min(trained) > max(done), f"{folder / run} had finished epoch {max(done)} and trained {min(trained)}")
        require(f"Resuming from epoch {max(done)} " in text, f"{folder / run} did not resume from epoch {max(done)}")


# ------------------------------------------------------------------------------------------- same results


def same(undisturbed: Path, disturbed: Path, drawn: bool = False) -> None:
    """Require that both folders hold the same files with the same content.

    Args:
        drawn: the images were drawn again, so the record of their modification times differs.
    """
    expected, found = _names(undisturbed), _names(disturbed)
    extra = sorted(found - expected)
    require(not extra, f"{disturbed / (extra or ['?'])[0]} was left over ({len(extra)} such files)")
    missing = sorted(name for name in expected - found if Path(name).name not in SPARED)
    require(not missing, f"{disturbed / (missing or ['?'])[0]} is missing ({len(missing)} such files)")
    for name in sorted(expected & found):
        first, second = undisturbed / name, disturbed / name
        if drawn and first.name == "readable.safetensors":
            continue
        if name.startswith("features/"):  # safetensors writes metadata of several keys in any order
            require(_equal(_tensors(first), _tensors(second)), f"{second} differs from {first}")
        elif name.endswith((".safetensors", ".jpg")) or "split_fewshot" in name:
            require(_sha256(first) == _sha256(second), f"{second} differs from {first}")
        elif NUMBERED.fullmatch(first.name) or first.name == "model-best.pth.tar":
            require(_equal(_load(first), _load(second)), f"{second} differs from {first}")
        elif first.name == "metrics.json":
            numbers = [json.loads(file.read_text()) for file in (first, second)]
            for key in RESULTS:
                require(numbers[0].get(key) == numbers[1].get(key), f"{key} in {second} differs from {first}")
        elif first.name == "done.json":
            require(curve(first.parent) == curve(second.parent), f"losses or learning rates of {second.parent} differ")
        elif first.name == "grid.json":
            cells = [[(cell["trainer"], cell["seed"], cell["status"]) for cell in json.loads(file.read_text())["cells"]]
                     for file in (first, second)]  # fmt: skip
            require(sorted(cells[0]) == sorted(cells[1]), f"{second} records other results than {first}")


def curve(run: Path) -> dict[tuple[int, int], tuple[str, str]]:
    """Return losses and learning rates of a run's logs by (epoch, batch).

    Raises:
        Lost: two attempts have different losses in a step.
    """
    steps: dict[tuple[int, int], tuple[str, str]] = {}
    for file in sorted(run.glob("log.txt*")):
        for epoch, batch, losses, rate in STEP.findall(file.read_text()):
            step = (int(epoch), int(batch))
            require(steps.setdefault(step, (losses, rate)) == (losses, rate), f"{run} has two losses at {step}")
    return steps


def require_no_temporary_files(folder: Path) -> None:
    """Require that no temporary file is left after a command has ended."""
    left = [str(file) for file in folder.rglob("*") if _temporary(file.relative_to(folder).as_posix())]
    require(not left, f"{(left or ['?'])[0]} was left over ({len(left)} temporary files)")


def _temporary(name: str) -> bool:
    return any(part.endswith(TEMPORARY) for part in name.split("/"))


def _names(folder: Path) -> set[str]:
    names = {file.relative_to(folder).as_posix() for file in _files(folder)}
    return {name for name in names if not any(fnmatch.fnmatch(f"/{name}", pattern) for pattern in OWN)}


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _listed(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _stamp(file: Path) -> tuple[int, int, int]:
    stat = file.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _load(file: Path) -> dict:
    return torch.load(file, weights_only=True, map_location="cpu")


def _tensors(file: Path) -> dict:
    with safe_open(file, "pt") as content:
        return {**content.metadata(), "features": content.get_tensor("features")}


def _equal(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return isinstance(second, dict) and first.keys() == second.keys() and all(
            _equal(value, second[key]) for key, value in first.items())  # fmt: skip
    if isinstance(first, list | tuple):
        return isinstance(second, list | tuple) and len(first) == len(second) and all(map(_equal, first, second))
    return first == second
