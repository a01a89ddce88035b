"""What `python -m datasets.prepare` does: install data sets, check them, list where they come from."""

import argparse
import difflib
import os
from pathlib import Path

from datasets.prepare.recipes import RECIPES
from fdbpl.errors import MachineError, UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "datasets"


def run(arguments: argparse.Namespace) -> int:
    """Exit code: 0, 1 where something failed, 2 where what was asked for by name is not usable yet."""
    names = known(arguments.datasets) or (list(RECIPES) if not arguments.datasets else [])
    root = arguments.root.expanduser().absolute()
    if arguments.list:
        print(table(names))
        return 0
    if arguments.check:
        return check_all(names, root, bool(arguments.datasets))
    return install_all(names, root, arguments.keep_archives, bool(arguments.datasets))


def known(names: list[str]) -> list[str]:
    """The names that there are recipes for; those that need nothing are said, others refused."""
    ready = {file.stem for file in CONFIGS.glob("*.yaml")} - set(RECIPES)
    for name in names:
        if name in ready:
            what = "your own pictures" if name == "folder" else "drawn on first use"
            print(f"{name}: nothing to prepare ({what})")
        elif name not in RECIPES:
            close = difflib.get_close_matches(name, [*RECIPES, *ready], n=3, cutoff=0)
            raise UserError(f"expected a data set, found {name!r}; close ones are {', '.join(close)}")
    return [name for name in dict.fromkeys(names) if name in RECIPES]


def install_all(names: list[str], root: Path, keep_archives: bool, asked: bool) -> int:
    """Install data sets one after another, then one table of what became of them."""
    from datasets.prepare.install import install
    from fdbpl.download import Downloader

    if not names:
        return 0
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"cannot make the data root {root} ({error.strerror}); choose another --root") from error
    downloader, mirror = Downloader(), os.environ.get("FDBPL_MIRROR", "").rstrip("/")
    outcomes = {name: install(name, RECIPES[name], root, downloader, mirror, keep_archives) for name in names}
    print(f"\nData sets below {root}:")
    for name, outcome in outcomes.items():
        print(f"  {name:16} {outcome}")
    if any(outcome.failed for outcome in outcomes.values()):
        return MachineError.exit_code
    print("What is in place is not looked into: --check reads every image.")
    return UserError.exit_code if asked and any(outcome.manual for outcome in outcomes.values()) else 0


def check_all(names: list[str], root: Path, asked: bool) -> int:
    """A line for each data set. Absent ones are an error only where they were asked for by name."""
    from third_party import use_dassl

    use_dassl()  # before anything imports dassl

    from datasets.prepare.check import check

    if not root.is_dir():
        raise UserError(f"expected the data root (--root, DATA) at {root}, found no folder; check the path")
    fine = True
    for name in names:
        report = check(name, root)
        print(f"{name}: {report.line}", flush=True)
        fine = fine and (report.fine or not (report.found or asked))
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
