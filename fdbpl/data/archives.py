"""Unpacking archives that nobody vouches for: nothing is written outside, nothing is left half-unpacked."""

import bz2
import gzip
import lzma
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from fdbpl.errors import REMEDIES, SystemFailure, UserError, quoted

CHUNK = 1 << 16
MEMBERS = 3_000_000  # ImageNet has 1.3 million images
EXPANSION = 20  # bytes out for a byte in, at most: photographs are compressed already
ALLOWANCE = 64 << 20  # bytes out that no archive has to account for
EXTRACTING = ".extracting"  # what a killed call leaves behind; safe to delete
HEADER = 1 << 20  # bytes of a name or an extended header
EXTENDED = {
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
}  # fmt: skip
MAGIC: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError, ValueError)


class _Member(NamedTuple):
    """A file (has `open`), a link (has `link`, its target; `hard`: told from the archive's root), or a folder."""

    name: str
    size: int = 0
    open: Callable[[], IO[bytes]] | None = None
    link: str = ""
    hard: bool = False


def extract(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file (plain, gzip, bzip2, xz: told by its content) into the new folder `folder`.

    Raises:
        UserError: the archive is damaged; or it is hostile: a name that leads outside or cannot be shown, a link that
            leads outside, a device, a name twice, or far more bytes than photographs of that size can hold.
        SystemFailure: the disk is full or cannot be written to.
    """
    temporary = folder.with_name(f".{folder.name}{EXTRACTING}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        size, title = archive.stat().st_size, f"unpacking {archive.name}"
        with open(archive, "rb") as file, tqdm(total=size, unit="B", unit_scale=True, desc=title, disable=None) as bar:
            unpacking = _Unpacking(archive, temporary)
            members = _zip_members(file) if _magic(file)[:2] == b"PK" else _tar_members(file, unpacking.limit)
            for member in members:
                unpacking.add(member)
                bar.update(max(0, file.tell() - bar.n))
            unpacking.link()
        os.rename(temporary, folder)
    except UserError as error:
        raise UserError(
            f"{error} in {archive}; nothing was unpacked, delete it and get it from another place"
        ) from error
    except DAMAGED as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 say so of damaged files
            raise _damaged(archive, error) from error
        remedy = REMEDIES.get(error.errno, "check the path and the disk")
        raise SystemFailure(f"cannot unpack {archive} to {folder} ({error.strerror}); {remedy}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def member_path(name: str) -> str:
    """The relative path that a member of an archive may be written to; "" is the folder itself.

    Raises:
        UserError: the name is absolute, leads outside, or cannot be shown on a screen.
    """
    path = posixpath.normpath(name) if name else ""
    if not path or name.startswith("/") or ".." in name.split("/") or "\\" in name or name[1:2] == ":":
        raise UserError(f"expected names below the archive's own folder, found {quoted(name)}")
    if not name.isprintable():
        raise UserError(f"expected names that can be printed, found {quoted(name)}")
    return "" if path == "." else path


class _Unpacking:
    """Writes the members of one archive and keeps count of what they may not exceed."""

    def __init__(self, archive: Path, folder: Path):
        self.archive, self.folder = archive, folder
        self.limit = ALLOWANCE + EXPANSION * archive.stat().st_size
        self.free = shutil.disk_usage(folder).free
        self.bytes = self.members = 0
        self.files: set[str] = set()
        self.folders: set[str] = {""}
        self.links: list[tuple[str, str]] = []  # made last, so that nothing is written through one

    def add(self, member: _Member) -> None:
        path = member_path(member.name)
        self._count(member)
        if member.open is None and not member.link:
            self._make_folder(path)
            return
        if path in self.files or path in self.folders:
            raise UserError(f"expected every name once, found {quoted(path)} twice")
        self._make_folder(posixpath.dirname(path))
        self.files.add(path)
        if member.link:
            base = "" if member.hard else posixpath.dirname(path)
            self.links.append((path, posixpath.normpath(posixpath.join(base, member.link))))
        else:
            self._write(path, member)

    def link(self) -> None:
        """Make the links: each to a file or folder of this archive that is itself no link."""
        names = {path for path, _ in self.links}
        for path, target in self.links:
            if target in names or not (target in self.files or target in self.folders):
                raise UserError(f"expected links to files of the archive, found {quoted(path)} to {quoted(target)}")
            os.symlink(os.path.relpath(self.folder / target, (self.folder / path).parent), self.folder / path)

    def _count(self, member: _Member) -> None:
        self.members += 1
        self.bytes += member.size
        if self.members > MEMBERS:
            raise UserError(f"expected at most {MEMBERS} files, found more")
        if self.bytes > self.limit:
            raise UserError(
                f"expected at most {self.limit / 1e6:.0f} MB from an archive of "
                f"{self.archive.stat().st_size / 1e6:.1f} MB, found more"
            )
        if self.bytes > self.free:
            raise SystemFailure(
                f"expected room for what {self.archive} holds, found {self.free / 1e9:.2f} GB of free disk; free some "
                "space and run the same command again"
            )

    def _make_folder(self, path: str) -> None:
        parent, ancestors = path, []
        while parent not in self.folders:
            if parent in self.files:
                raise UserError(f"expected every name once, found {quoted(parent)} as a file and as a folder")
            ancestors.append(parent)
            parent = posixpath.dirname(parent)
        for folder in reversed(ancestors):
            (self.folder / folder).mkdir()
            self.folders.add(folder)

    def _write(self, path: str, member: _Member) -> None:
        left = member.size
        with member.open() as source, open(self.folder / path, "xb") as file:
            while piece := source.read(CHUNK):
                left -= len(piece)
                if left < 0:
                    break
                file.write(piece)
        if left:
            raise UserError(f"expected {member.size} bytes in {quoted(path)}, found another number")


class _Header(tarfile.TarInfo):
    """Refuses extended headers that would fill the memory before any member is seen."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENDED and header.size > HEADER:
            raise UserError(f"expected headers of at most {HEADER} bytes, found one of {header.size}")
        return header


class _Stream:
    """Decompressed bytes, at most `limit` of them, whose last block is remembered."""

    def __init__(self, file: IO[bytes], limit: int):
        self.file, self.limit, self.last = file, limit, b""

    def read(self, size: int) -> bytes:
        piece = self.file.read(size)
        self.limit -= len(piece)
        if self.limit < 0:
            raise UserError("expected photographs, found far more bytes than those of this size can hold")
        self.last = (self.last + piece)[-tarfile.BLOCKSIZE :]
        return piece


def _magic(file: IO[bytes]) -> bytes:
    file.seek(0)
    start = file.read(6)
    file.seek(0)
    return start


def _tar_members(file: IO[bytes], limit: int) -> Iterator[_Member]:
    start = _magic(file)
    opener = next((opener for magic, opener in MAGIC.items() if start.startswith(magic)), None)
    stream = _Stream(opener(file, "rb") if opener else file, limit)
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as tar:
        for info in tar:
            if info.isdir():
                yield _Member(info.name)
            elif info.isreg() and not info.issparse():
                yield _Member(info.name, info.size, lambda info=info: tar.extractfile(info))
            elif info.issym() or info.islnk():
                yield _Member(info.name, link=info.linkname or "/", hard=info.islnk())
            else:
                raise UserError(f"expected files and folders, found {quoted(info.name)} of another kind (device, pipe)")
    while stream.read(CHUNK):  # to the end: decompressors check their sums there
        pass
    if stream.last.strip(b"\0"):
        raise EOFError("the end is missing")


def _zip_members(file: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                yield _Member(info.filename)
            elif kind == stat.S_IFLNK:
                if info.file_size > HEADER:
                    raise UserError(f"expected a short link, found {info.file_size} bytes")
                yield _Member(info.filename, link=archive.read(info).decode("utf-8", "replace") or "/")
            elif kind in (0, stat.S_IFREG):
                yield _Member(info.filename, info.file_size, lambda info=info: archive.open(info))
            else:
                raise UserError(
                    f"expected files and folders, found {quoted(info.filename)} of another kind (device, pipe)"
                )


def _damaged(archive: Path, error: Exception) -> UserError:
    return UserError(
        f"expected a whole zip or tar file at {archive}, found a damaged one ({error or type(error).__name__}); "
        "delete it, and the same command fetches it again"
    )
