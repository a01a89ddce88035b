"""Folders, disk and the machine."""

from __future__ import annotations

import ast
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fdbpl.doctor.findings import ROOT, Finding, fine, problem, warning

DEMO_BYTES = 200 * 2**20  # what the demo world's pictures, bank and runs take


def data_sets(data: Path) -> Iterator[Finding]:
    folders = declared_folders()
    if not folders:
        return  # an installed package brings no data sets
    there = sorted(name for folder, name in folders.items() if (data / folder).is_dir())
    if there:
        yield fine("data sets", f"{', '.join(there)} in {data}")
    elif own := own_images(data):
        yield fine("data sets", f"{data} is a data set of your own: {own}")
    else:
        remedy = "the demo world is drawn by itself; for others name their folder: --data DIR"
        yield warning("data sets", f"none in {data}", remedy)


def own_images(data: Path) -> str:
    """How many images and class folders are in a folder of a user's own images; "" where it is none, or cannot be
    told because Pillow or torch is missing."""
    try:
        from fdbpl.io.image_files import Skipped, images_below, is_hidden
    except ImportError:
        return ""
    folders = sorted(path for path in data.glob("*") if path.is_dir() and not is_hidden(path.name))
    skipped = Skipped()
    counts = [len(images_below(str(folder), skipped)) for folder in folders]
    if not any(counts):
        return ""
    total = f"{sum(counts)} images in {sum(map(bool, counts))} folders"
    return total + (f" (skipped: {skipped})" if skipped else "")


def declared_folders() -> dict[str, str]:
    """{folder: class} of the data sets, read from their files, not run."""
    folders = {}
    for file in sorted((ROOT / "datasets").glob("*.py")):
        for declared in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(declared, ast.ClassDef):
                continue
            for node in declared.body:
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "dataset_dir":
                    folder = getattr(node.value, "value", "")
                    folders.update({folder: declared.name} if folder else {})
    return folders


def writable(output: Path) -> Iterator[Finding]:
    place = existing(output)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        remedy = "choose another folder: OUTPUT, --output-dir"
        yield problem("output", f"{output} cannot be written ({error.strerror})", remedy)
    else:
        yield fine("output", f"{output} can be written")


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def disk(output: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(existing(output)).free
    found = f"{free / 2**30:.1f} GiB free for {output}"
    if free < DEMO_BYTES:
        yield problem("disk", found, f"free some space: the demo takes {DEMO_BYTES // 2**20} MiB")
    elif free < 10 * 2**30:
        yield warning("disk", found, "enough for the demo; banks of large data sets take 10 GiB and more")
    else:
        yield fine("disk", found)


def machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{cores} processors"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        found += f", {memory:.0f} GiB of memory"
    yield fine("machine", f"{found}, {platform.system()} {platform.machine()}")
