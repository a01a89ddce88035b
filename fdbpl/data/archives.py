"""Extract untrusted archives safely: tarfile's data filter, a limit on the extracted size, all files or none."""

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path

from tqdm import tqdm

from fdbpl.errors import REMEDIES, SystemFailure, UserError, quoted

EXPANSION = 20  # limit of extracted bytes for each byte of the archive: images are compressed already
ALLOWANCE = 64 << 20  # extracted bytes that are always accepted
EXTRACTING = ".extracting"  # left over by a killed call; safe to delete
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, LZMAError, RuntimeError, ValueError)


def extract(archive: Path, folder: Path) -> None:
    """Extract a zip or tar file (plain, gzip, bzip2 or xz, detected from its content) into the new folder `folder`.

    Raises:
        UserError: the archive is damaged or unsafe: a name or link that leads outside, a device, or far more bytes than
            images of that size can hold.
        SystemFailure: the disk is full or not writable.
    """
    temporary = folder.with_name(f".{folder.name}{EXTRACTING}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        limit = ALLOWANCE + EXPANSION * archive.stat().st_size
        with open(archive, "rb") as file:
            is_zip = file.read(2) == b"PK"
        (_extract_zip if is_zip else _extract_tar)(archive, temporary, limit)
        os.rename(temporary, folder)
    except tarfile.FilterError as error:
        raise _unsafe(archive, str(error)) from error
    except DAMAGED as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report damaged files in this way
            raise _damaged(archive, error) from error
        remedy = REMEDIES.get(error.errno, "check the path and the disk")
        raise SystemFailure(f"cannot extract {archive} to {folder} ({error.strerror}); {remedy}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract_tar(archive: Path, folder: Path, limit: int) -> None:
    size = archive.stat().st_size
    with (
        open(archive, "rb") as file,
        tqdm.wrapattr(file, "read", total=size, desc=f"extracting {archive.name}", disable=None) as stream,
        tarfile.open(fileobj=stream, mode="r|*") as tar,
    ):
        extracted = 0
        for member in tar:
            extracted += member.size
            _check_size(archive, extracted, limit)
            _check_name(archive, member.name)
            tar.extract(member, folder, filter="data")
        assert tar.fileobj is not None
        if tar.fileobj.tell() < tar.offset + tarfile.BLOCKSIZE:  # tarfile takes a cut before a member for the end
            raise tarfile.ReadError("the end of the archive is missing")


def _extract_zip(archive: Path, folder: Path, limit: int) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        extracted = sum(member.file_size for member in members)
        _check_size(archive, extracted, limit)
        free = shutil.disk_usage(folder).free
        if extracted > free:
            raise SystemFailure(
                f"not enough disk space to extract {archive} ({extracted / 1e9:.2f} GB needed, {free / 1e9:.2f} GB "
                "free); free some space and run the command again"
            )
        for member in tqdm(members, desc=f"extracting {archive.name}", disable=None):
            _check_name(archive, member.filename)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(archive, f"{quoted(member.filename)} is neither a file nor a folder")
            file.extract(member, folder)


def _check_size(archive: Path, extracted: int, limit: int) -> None:
    if extracted > limit:
        raise _unsafe(archive, f"it holds more than {limit / 1e6:.0f} MB, which images of its size cannot")


def _check_name(archive: Path, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if not name.isprintable() or name.startswith("/") or ".." in parts or "\\" in name or name[1:2] == ":":
        raise _unsafe(archive, f"the name {quoted(name)} leads outside of its folder or cannot be printed")


def _unsafe(archive: Path, reason: str) -> UserError:
    return UserError(f"{archive} is unsafe and was not extracted: {reason}; delete it and get it from another source")


def _damaged(archive: Path, error: Exception) -> UserError:
    return UserError(
        f"{archive} is damaged or not a zip or tar file ({error or type(error).__name__}); delete it, and the same "
        "command downloads it again"
    )
