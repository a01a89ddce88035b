"""What `python -m fdbpl.data.prepare` does: install data sets, check them, list where they come from."""

import argparse
import difflib
import os
from pathlib import Path

from fdbpl.data.prepare.recipes import RECIPES
from fdbpl.errors import SystemFailure, UserError

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "datasets"


def run(arguments: argparse.Namespace) -> int:
    """Exit code: 0, 1 where something failed, 2 where what was asked for by name is not usable yet."""
    names = known(arguments.datasets)
    root = arguments.root.expanduser().absolute()
    if arguments.check:
        return check_all(names, root)
    for name in names:
        if name not in RECIPES:
            print(
                f"{name}: nothing to fetch (synthetic data sets are drawn on first use; your own images are in place)"
            )
    fetched = [name for name in names or RECIPES if name in RECIPES]
    if arguments.list:
        print(table(fetched))
        return 0
    return install_all(fetched, root, arguments.keep_archives, bool(names))


def known(names: list[str]) -> list[str]:
    """The names without repetitions.

    Raises:
        UserError: one names no data set of configs/datasets.
    """
    every = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
    for name in names:
        if name not in every:
            close = difflib.get_close_matches(name, every, n=3, cutoff=0)
            raise UserError(f"expected a data set, found {name!r}; close ones are {', '.join(close)}")
    return list(dict.fromkeys(names))


def install_all(names: list[str], root: Path, keep_archives: bool, asked: bool) -> int:
    """Install data sets one after another, then one table of what became of them."""
    from fdbpl.data.download import Downloader
    from fdbpl.data.prepare.install import install

    if not names:
        return 0
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemFailure(f"cannot make the data root {root} ({error.strerror}); choose another --root") from error
    downloader, mirror = Downloader(), os.environ.get("FDBPL_MIRROR", "").rstrip("/")
    outcomes = {name: install(name, RECIPES[name], root, downloader, mirror, keep_archives) for name in names}
    print(f"\nData sets below {root}:")
    for name, outcome in outcomes.items():
        print(f"  {name:16} {outcome}")
    if any(outcome.failed for outcome in outcomes.values()):
        return SystemFailure.exit_code
    print("What is in place is not looked into: --check reads every image.")
    return UserError.exit_code if asked and any(outcome.manual for outcome in outcomes.values()) else 0


def check_all(names: list[str], root: Path) -> int:
    """Print a line for each data set, by default for all but the synthetic ones and `folder`.

    A data set that is not there is an error only if its name is given.
    """
    from third_party import use_dassl

    use_dassl()  # before anything imports dassl

    from fdbpl.data.prepare.check import check, dataset_class

    if not root.is_dir() and names != ["folder"]:  # there it may be a CSV
        raise UserError(f"expected the data root (--root, DATA) at {root}, found no folder; check the path")
    added = sorted({file.stem for file in CONFIGS.glob("*.yaml")} - {*RECIPES, "folder"})
    drawn = {name for name in names or added if dataset_class(name).synthetic}
    fine = True
    for name in names or [*RECIPES, *added]:
        if name in drawn:
            if names:
                print(f"{name}: nothing to check (drawn on first use)")
            continue
        report = check(name, root)
        print(f"{name}: {report.line}", flush=True)
        fine = fine and (report.fine or not (report.found or names))
    return 0 if fine else UserError.exit_code


def table(names: list[str]) -> str:
    """Markdown: what is fetched, how many bytes, from which hosts in order, and whether their hash is known."""
    lines = ["| data set | folder | part | size | from (\\* = checked against a hash) |", "|---|---|---|---|---|"]
    for name in names:
        for part in RECIPES[name].parts:
            hosts = ", then ".join(source.host + ("\\*" if source.digest else "") for source in part.sources)
            size = f"{part.size / 1e9:.2f} GB" if part.size > 1e8 else f"{part.size / 1e6:.2f} MB"
            lines.append(
                f"| {name} | {RECIPES[name].folder} | {part.what} | {size if part.size else ''} "
                f"| {hosts or 'image-net.org, by hand: a licence'} |"
            )
    return "\n".join(lines)
