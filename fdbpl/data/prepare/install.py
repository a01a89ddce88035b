"""Carrying out a recipe: fetch, unpack, put in place; what is in place is left alone."""

import fcntl
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fdbpl.data.archives import EXTRACTING, extract
from fdbpl.data.download import Downloader, Source
from fdbpl.data.prepare.recipes import Part, Recipe
from fdbpl.errors import REMEDIES, SystemFailure, UserError
from fdbpl.io.atomic import TEMPORARY_SUFFIX, write_bytes
from fdbpl.io.locks import try_lock

DOWNLOADS = "downloads"  # below a data set's folder: archives while they are needed
SUMS = "SHA256SUMS"
UNPACKED = ".unpacked"
DEPTH = 4  # folders around a target in an archive, at most


@dataclass
class Outcome:
    """What became of a data set: the parts of it that are not there."""

    manual: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        states = {"failed": self.failed, "manual steps needed": self.manual}
        troubles = [f"{state}: {', '.join(parts)}" for state, parts in states.items() if parts]
        return "; ".join(troubles) or "ready"


def install(
    name: str, recipe: Recipe, root: Path, downloader: Downloader, mirror: str = "", keep_archives: bool = False
) -> Outcome:
    """Bring the missing parts of a data set into CoOp's layout below `root`. A part's failure is said on stderr.

    Args:
        mirror: address tried before all others, as `<mirror>/<name>/<file>`; a file SHA256SUMS there tells its hashes.
        keep_archives: leave them in `<data set>/downloads`.
    """
    folder = root / recipe.folder
    outcome = Outcome()
    parts = [part for part in recipe.parts if missing(part, folder)]
    fetchable = [part for part in parts if part.sources]
    try:
        with _lock(folder / DOWNLOADS) if fetchable or _leftovers(folder / DOWNLOADS) else nullcontext():
            for part in recipe.parts:
                if part not in parts:
                    _clear(part, folder / DOWNLOADS, keep_archives)
            sums = _sums(f"{mirror}/{name}", folder / DOWNLOADS, downloader) if mirror and fetchable else {}
            for part in fetchable:
                try:
                    print(f"{name}: fetching {part.what}", flush=True)
                    if mirror:
                        part = replace(part, sources=_mirrored(part, f"{mirror}/{name}", sums) + part.sources)
                    _install(name, part, root, folder, downloader)
                    _clear(part, folder / DOWNLOADS, keep_archives)
                except (UserError, SystemFailure) as error:
                    outcome.failed.append(part.what)
                    print(f"error: {name}: {part.what}: {error}", file=sys.stderr, flush=True)
    except (UserError, SystemFailure) as error:
        outcome.failed.append("all of it")
        print(f"error: {name}: {error}", file=sys.stderr, flush=True)
    for part in parts:
        if part.manual:
            outcome.manual.append(part.what)
            steps = part.manual.format(folder=shlex.quote(str(folder)), python=shlex.quote(sys.executable))
            print(f"{name}: {part.what} cannot be fetched without a person:\n{steps}", flush=True)
    return outcome


def missing(part: Part, folder: Path) -> list[str]:
    """The targets of a part that are not there."""
    return [target for target in part.targets if not (folder / target).exists()]


@contextmanager
def _writing_below(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SystemFailure(
            f"cannot write below {folder} ({error.strerror}); {REMEDIES.get(error.errno or 0, 'check the disk')}"
        ) from error


def _install(name: str, part: Part, root: Path, folder: Path, downloader: Downloader) -> None:
    with _writing_below(folder):
        if part.copy and (root / part.copy).is_file():
            write_bytes(folder / part.targets[0], (root / part.copy).read_bytes())
            return

        def unchecked(file: str) -> None:
            print(f"{name}: no hash is published for {file}; its content is checked as it is read", flush=True)

        archive = downloader.fetch(part.sources, folder / DOWNLOADS, unchecked)
        if not part.unpack:
            os.replace(archive, folder / part.targets[0])
            return
        unpacked = archive.with_name(archive.name + UNPACKED)
        if not unpacked.is_dir():  # else an earlier call was interrupted between here and the last target
            extract(archive, unpacked)
        for inner in part.inner:
            inside = _find(unpacked, inner)
            if inside is not None and not inside.with_name(inner + UNPACKED).is_dir():
                extract(inside, inside.with_name(inner + UNPACKED))
        for target in missing(part, folder):
            found = _find(unpacked, target, part.found_as.get(target, target))
            if found is None:
                raise UserError(
                    f"expected {target} in {archive}, found {', '.join(sorted(os.listdir(unpacked))[:5])}; get the "
                    "archive from another place and delete this one"
                )
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(found, folder / target)


def _leftovers(downloads: Path) -> bool:
    """Whether a killed call left something behind; archives may be kept."""
    names = ("*" + UNPACKED, "*" + EXTRACTING, f"*{TEMPORARY_SUFFIX}*", SUMS, ".lock")
    return any(next(downloads.glob(name), None) for name in names)


def _clear(part: Part, downloads: Path, keep_archives: bool) -> None:
    """Delete what a part that is in place was made from, and what was begun from addresses that broke off.

    What was unpacked goes last: a call that was killed in here leaves it to the next one.
    """
    names = dict.fromkeys(source.file_name for source in part.sources)
    with _writing_below(downloads):
        for name in names:
            for pattern in (f"{name}{TEMPORARY_SUFFIX}*", f".{name}*{TEMPORARY_SUFFIX}"):
                for file in downloads.glob(pattern):
                    file.unlink()
            unpacked, rest = downloads / (name + UNPACKED), downloads / f".{name}{UNPACKED}{EXTRACTING}"
            shutil.rmtree(rest, ignore_errors=True)
            if unpacked.is_dir():
                if not keep_archives:
                    (downloads / name).unlink(missing_ok=True)
                os.rename(unpacked, rest)
                shutil.rmtree(rest)


def _find(folder: Path, *names: str) -> Path | None:
    """The file or folder with one of the names (or paths' ends) that is least deep below `folder`."""
    level = [folder]
    for _ in range(DEPTH):
        for parent in level:
            for name in names:
                if (parent / name).exists():
                    return parent / name
        children = [child for parent in level for child in sorted(parent.iterdir())]
        level = [child for child in children if child.is_dir() and not child.is_symlink()]
    return None


def _sums(address: str, downloads: Path, downloader: Downloader) -> dict[str, str]:
    """Hashes of a mirror's files by their names; none where it states none."""
    (downloads / SUMS).unlink(missing_ok=True)
    try:
        lines = downloader.fetch([Source(f"{address}/{SUMS}")], downloads).read_text("utf-8", "replace").splitlines()
    except SystemFailure:
        return {}
    (downloads / SUMS).unlink()
    matches = [re.fullmatch(r"([0-9a-fA-F]{64})[ *]+(\S+)", line.strip()) for line in lines]
    return {match[2]: f"sha256:{match[1].lower()}" for match in matches if match}


def _mirrored(part: Part, address: str, sums: dict[str, str]) -> tuple[Source, ...]:
    """The mirror's places for a part: the same file names, its own hashes or else the official ones."""
    digests = {source.file_name: source.digest for source in reversed(part.sources)}
    return tuple(
        Source(f"{address}/{source}", sums.get(source, digests[source]))
        for source in dict.fromkeys(source.file_name for source in part.sources)
    )


@contextmanager
def _lock(downloads: Path) -> Iterator[None]:
    """Holds a data set's downloads for this process, and takes the folder away when nothing is left in it."""
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        file = open(downloads / ".lock", "w")  # noqa: SIM115
    except OSError as error:
        raise SystemFailure(
            f"cannot write to {downloads} ({error.strerror}); {REMEDIES.get(error.errno or 0, 'check the disk')}"
        ) from error
    with file:
        try:
            try_lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(file.name)):
                raise BlockingIOError  # who held it took it away, and somebody else made another one
        except (BlockingIOError, FileNotFoundError) as error:
            raise SystemFailure(f"{downloads} is in use by another call of this command; wait for its end") from error
        try:
            yield
        finally:
            for leftover in (*downloads.glob(f"{SUMS}*"), downloads / ".lock"):
                leftover.unlink(missing_ok=True)
            with suppress(OSError):  # something is left in it
                downloads.rmdir()
                downloads.parent.rmdir()
