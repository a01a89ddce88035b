"""Search for run folders below a directory."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

RUN_FILES = ("run.json", "metrics.json", "done.json")  # any of them makes a directory a run folder of this project
SKIPPED = {"regions", "split_fewshot", "report", "tensorboard"}


def find_run_folders(root: Path, on_error: Callable[[OSError], None]) -> Iterator[tuple[Path, set[str]]]:
    """Yield each run folder at or below `root` with the names of its files, in sorted order.

    A run folder holds one of RUN_FILES, or a log.txt of Dassl. Folders below a run folder are not searched.

    Args:
        on_error: called for a directory that cannot be read.
    """
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=on_error, followlinks=True):
        real, files = os.path.realpath(folder), set(names)
        if real in seen:  # a cycle of links, or a second path to the same runs
            subfolders.clear()
            continue
        seen.add(real)
        if "log.txt" in files or any(name in files for name in RUN_FILES):
            subfolders.clear()
            yield Path(folder), files
        subfolders[:] = sorted(name for name in subfolders if name not in SKIPPED and not name.startswith("."))
