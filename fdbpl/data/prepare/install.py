"""Installation of a data set: download, extract, move into place. Existing files are left alone."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fdbpl.data.archives import EXTRACTING, extract
from fdbpl.data.download import Downloader, Source
from fdbpl.data.prepare.sources import DatasetSources, Part
from fdbpl.errors import REMEDIES, SystemFailure, UserError
from fdbpl.io.atomic import TEMPORARY_SUFFIX, write_bytes
from fdbpl.io.locks import file_lock

DOWNLOADS = "downloads"  # below a data set's folder: archives while they are needed
SUMS = "SHA256SUMS"
EXTRACTED = ".extracted"
MAX_DEPTH = 4  # folders around a target in an archive


@dataclass
class Outcome:
    """Outcome of an installation: titles of the parts of a data set that are still missing."""

    manual: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        states = {"failed": self.failed, "manual steps needed": self.manual}
        return "; ".join(f"{state}: {', '.join(titles)}" for state, titles in states.items() if titles) or "ready"


def install(
    name: str,
    sources: DatasetSources,
    root: Path,
    downloader: Downloader,
    mirror: str = "",
    keep_archives: bool = False,
) -> Outcome:
    """Install the missing parts of a data set in CoOp's layout below `root`. A failure of a part is printed on stderr.

    Args:
        mirror: address that is tried first, as `<mirror>/<name>/<file>`; it may hold a SHA256SUMS.
        keep_archives: leave the archives in `<data set>/downloads`.
    """
    folder, outcome = root / sources.folder, Outcome()
    parts = [part for part in sources.parts if missing(part, folder)]
    fetchable = [part for part in parts if part.sources]
    if fetchable or (folder / DOWNLOADS).exists():
        try:
            _install_all(name, sources, root, downloader, mirror, keep_archives, outcome)
        except (UserError, SystemFailure) as error:
            outcome.failed.extend(part.title for part in fetchable)
            print(f"error: {name}: {error}", file=sys.stderr, flush=True)
    for part in parts:
        if part.manual:
            outcome.manual.append(part.title)
            steps = part.manual.format(folder=shlex.quote(str(folder)), python=shlex.quote(sys.executable))
            print(f"{name}: {part.title} must be downloaded by hand:\n{steps}", flush=True)
    return outcome


def missing(part: Part, folder: Path) -> list[str]:
    """Return the targets of a part that do not exist."""
    return [target for target in part.targets if not (folder / target).exists()]


def _install_all(name, sources, root, downloader, mirror, keep_archives, outcome) -> None:
    folder = root / sources.folder
    downloads = folder / DOWNLOADS
    waiting = f"{name}: another process is installing this data set; waiting for it"
    with file_lock(root / f".{sources.folder}.lock", waiting), _writing_below(folder):
        sums: dict[str, str] | None = None
        for part in sources.parts:
            if part.sources and missing(part, folder):
                print(f"{name}: downloading {part.title}", flush=True)
                if mirror:
                    sums = _checksums(f"{mirror}/{name}", downloads, downloader) if sums is None else sums
                    part = replace(part, sources=_mirrored(part, f"{mirror}/{name}", sums) + part.sources)
                try:
                    _install(part, root, folder, downloader)
                except (UserError, SystemFailure) as error:
                    outcome.failed.append(part.title)
                    print(f"error: {name}: {part.title}: {error}", file=sys.stderr, flush=True)
                    continue
            _clean_up(part, downloads, keep_archives)
        for empty in (downloads, folder):
            with suppress(OSError):  # not empty
                empty.rmdir()


@contextmanager
def _writing_below(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the disk")
        raise SystemFailure(f"cannot write below {folder} ({error.strerror}); {remedy}") from error


def _install(part: Part, root: Path, folder: Path, downloader: Downloader) -> None:
    if part.copy and (root / part.copy).is_file():
        write_bytes(folder / part.targets[0], (root / part.copy).read_bytes())
        return
    archive = downloader.fetch(part.sources, folder / DOWNLOADS)
    if not part.unpack:
        os.replace(archive, folder / part.targets[0])
        return
    extracted = archive.with_name(archive.name + EXTRACTED)
    if not extracted.is_dir():  # otherwise an earlier call was killed while it moved the targets
        extract(archive, extracted)
    for name in part.inner:
        inner = _find(extracted, name)
        if inner is not None and not inner.with_name(name + EXTRACTED).is_dir():
            extract(inner, inner.with_name(name + EXTRACTED))
    for target in missing(part, folder):
        path = _find(extracted, target, part.aliases.get(target, target))
        if path is None:
            content = ", ".join(sorted(os.listdir(extracted))[:5])
            raise UserError(
                f"{archive} does not contain {target}, but {content}; delete it and get the archive from another place"
            )
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, folder / target)


def _clean_up(part: Part, downloads: Path, keep_archives: bool) -> None:
    """Delete the archive of an installed part, what was extracted from it, and partial downloads of other sources.

    The extracted files are deleted last, so that a later call completes a clean-up that was killed. Archives that an
    earlier call kept stay.
    """
    for name in dict.fromkeys(source.file_name for source in part.sources):
        for file in (*downloads.glob(f"{name}.*{TEMPORARY_SUFFIX}*"), *downloads.glob(f".{name}*{TEMPORARY_SUFFIX}")):
            file.unlink()
        extracted, deleted = downloads / (name + EXTRACTED), downloads / f".{name}{EXTRACTED}{EXTRACTING}"
        shutil.rmtree(deleted, ignore_errors=True)
        if extracted.is_dir():
            if not keep_archives:
                (downloads / name).unlink(missing_ok=True)
            os.rename(extracted, deleted)
            shutil.rmtree(deleted)


def _find(folder: Path, *names: str) -> Path | None:
    """Find the file or folder with one of the names (or ends of paths) that is closest to `folder`."""
    level = [folder]
    for _ in range(MAX_DEPTH):
        for path in (parent / name for parent in level for name in names):
            if path.exists():
                return path
        children = [child for parent in level for child in sorted(parent.iterdir())]
        level = [child for child in children if child.is_dir() and not child.is_symlink()]
    return None


def _checksums(address: str, downloads: Path, downloader: Downloader) -> dict[str, str]:
    """Read the digests of a mirror's files from its SHA256SUMS; {} if it has none."""
    (downloads / SUMS).unlink(missing_ok=True)
    try:
        file = downloader.fetch([Source(f"{address}/{SUMS}")], downloads)
    except SystemFailure:
        return {}
    lines = file.read_text("utf-8", "replace").splitlines()
    file.unlink()
    matches = [re.fullmatch(r"([0-9a-fA-F]{64})[ *]+(\S+)", line.strip()) for line in lines]
    return {match[2]: f"sha256:{match[1].lower()}" for match in matches if match}


def _mirrored(part: Part, address: str, sums: dict[str, str]) -> tuple[Source, ...]:
    """Return the mirror's copies of a part's files, with the mirror's digests or else the published ones."""
    digests = {source.file_name: source.digest for source in reversed(part.sources)}
    names = dict.fromkeys(source.file_name for source in part.sources)
    return tuple(Source(f"{address}/{name}", sums.get(name, digests[name])) for name in names)
