"""The commands of `python -m fdbpl.data.prepare`: install, check, list."""

import argparse
import difflib
import os
from pathlib import Path

from fdbpl.data.download import Downloader
from fdbpl.data.prepare.install import install
from fdbpl.data.prepare.sources import SOURCES
from fdbpl.errors import SystemFailure, UserError

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "datasets"


def run(arguments: argparse.Namespace) -> int:
    """Return the exit code: 0, 1 if an installation failed, 2 if a data set that was named is not usable yet."""
    names, root = list(dict.fromkeys(arguments.datasets)), arguments.root.expanduser().absolute()
    check_names(names)
    if arguments.check:
        return check_all(names, root)
    for name in names:
        if name not in SOURCES:
            print(f"{name}: nothing to download (synthetic images are drawn on first use; custom data are not copied)")
    downloaded = [name for name in names or SOURCES if name in SOURCES]
    if arguments.list:
        print(table(downloaded))
        return 0
    return install_all(downloaded, root, arguments.keep_archives, bool(names))


def check_names(names: list[str]) -> None:
    """Check that the names are those of data sets.

    Raises:
        UserError: names the first unknown one, and similar names.
    """
    known = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
    for name in names:
        if name not in known:
            similar = difflib.get_close_matches(name, known, n=3, cutoff=0)
            raise UserError(f"there is no data set {name!r} in configs/datasets; similar names: {', '.join(similar)}")


def install_all(names: list[str], root: Path, keep_archives: bool, named: bool) -> int:
    """Install data sets one after another and print a table of the outcomes; `named`: the user gave their names."""
    if not names:
        return 0
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemFailure(f"cannot create the data root {root} ({error.strerror}); choose another --root") from error
    downloader, mirror = Downloader(), os.environ.get("FDBPL_MIRROR", "").rstrip("/")
    outcomes = {name: install(name, SOURCES[name], root, downloader, mirror, keep_archives) for name in names}
    print(f"\nData sets below {root}:")
    for name, outcome in outcomes.items():
        print(f"  {name:16} {outcome}")
    if any(outcome.failed for outcome in outcomes.values()):
        return SystemFailure.exit_code
    print("Files that existed before were not checked: use --check to read every image.")
    return UserError.exit_code if named and any(outcome.manual for outcome in outcomes.values()) else 0


def check_all(names: list[str], root: Path) -> int:
    """Print a line for each data set, by default for all but the synthetic ones and `folder`.

    A missing data set is an error only if it was named.
    """
    from third_party import use_dassl

    use_dassl()  # before dassl is imported

    from fdbpl.data.prepare.check import check, dataset_class

    if not root.is_dir() and names != ["folder"]:  # whose root may be a CSV
        raise UserError(f"the data root {root} (--root, DATA) is not a folder; check the path")
    added = sorted({file.stem for file in CONFIGS.glob("*.yaml")} - {*SOURCES, "folder"})
    fine = True
    for name in names or [*SOURCES, *added]:
        if name not in SOURCES and dataset_class(name).synthetic:
            if names:
                print(f"{name}: nothing to check (drawn on first use)")
            continue
        report = check(name, root)
        print(f"{name}: {report.line}", flush=True)
        fine = fine and (report.fine or not (report.found or names))
    return 0 if fine else UserError.exit_code


def table(names: list[str]) -> str:
    """Return a Markdown table of the parts, their sizes and their hosts in the order in which they are tried."""
    lines = ["| data set | folder | part | size | from (\\* = with checksum) |", "|---|---|---|---|---|"]
    for name in names:
        for part in SOURCES[name].parts:
            hosts = ", then ".join(source.host + ("\\*" if source.digest else "") for source in part.sources)
            size = f"{part.size / 1e9:.2f} GB" if part.size > 1e8 else f"{part.size / 1e6:.2f} MB"
            lines.append(
                f"| {name} | {SOURCES[name].folder} | {part.title} | {size if part.size else ''} "
                f"| {hosts or 'image-net.org, by hand: licence'} |"
            )
    return "\n".join(lines)
