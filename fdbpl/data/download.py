"""Downloads: several sources in order, resumed after interruptions, compared with a checksum, complete or absent.

gdown does the transfers, from Google Drive and from other servers: it continues partial files, which pooch cannot.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from tqdm import tqdm

from fdbpl.errors import REMEDIES, SystemFailure, UserError
from fdbpl.io.atomic import TEMPORARY_SUFFIX

DRIVE = "drive:"  # prefix of the id of a file on Google Drive
DRIVE_HOST = "drive.google.com"
OFFLINE_AFTER = 3  # if so many hosts are unreachable and none has answered, there is no network: skip the others
TEMPORARY_ERRORS = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Source:
    """Location of a file.

    Attributes:
        url: http(s) address, or `drive:ID` for Google Drive.
        digest: `md5:HEX` or `sha256:HEX` of the file; "" if none is published.
        name: file name; "" = the last part of the address.
    """

    url: str
    digest: str = ""
    name: str = ""

    @property
    def file_name(self) -> str:
        return self.name or unquote(urlsplit(self.url).path.rpartition("/")[2])

    @property
    def host(self) -> str:
        return DRIVE_HOST if self.url.startswith(DRIVE) else urlsplit(self.url).netloc


class _SourceFailed(Exception):
    """The source does not provide the file; another one may."""


class Downloader:
    """Downloader of files, which remembers unreachable hosts.

    Args:
        timeout: seconds to wait for a connection, and for the next bytes.
        attempts: failed attempts in a row without new bytes before the next source is tried.
        pause: seconds before the second attempt; doubled each time.
    """

    def __init__(self, timeout: tuple[float, float] = (5.0, 30.0), attempts: int = 4, pause: float = 1.0):
        self.timeout, self.attempts, self.pause = timeout, attempts, pause
        self.reached: set[str] = set()
        self.unreachable: set[str] = set()

    def fetch(self, sources: Sequence[Source], folder: Path) -> Path:
        """Return the file in `folder`, downloaded from the first source that provides it unless it exists.

        An interrupted transfer leaves a partial file, from which a later call continues.

        Raises:
            SystemFailure: no source provides the file, or it cannot be written.
            UserError: the file exists, but its checksum is wrong.
        """
        for source in sources:
            existing = folder / source.file_name
            if existing.is_file():
                _check_existing(existing, [other.digest for other in sources if other.file_name == source.file_name])
                return existing
        failures = []
        for source in sources:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                return self._fetch(source, folder / source.file_name)
            except _SourceFailed as failure:
                failures.append(f"{source.host}: {failure}")
            except OSError as error:
                remedy = REMEDIES.get(error.errno or 0, "check the disk")
                raise SystemFailure(f"cannot write to {folder} ({error.strerror}); {remedy}") from error
        names = " or ".join(dict.fromkeys(source.file_name for source in sources))
        raise SystemFailure(
            f"{names} could not be downloaded ({'; '.join(dict.fromkeys(failures))}); check the network and run the "
            f"same command again, or put the file into {folder} yourself"
        )

    def _fetch(self, source: Source, target: Path) -> Path:
        # Files of equal content share a partial file. Without a checksum, the one of another address is not continued.
        key = hashlib.sha256((source.digest or source.url).encode()).hexdigest()[:8]
        partial = target.with_name(f"{target.name}.{key}{TEMPORARY_SUFFIX}")
        for last in (not _parts(partial), True):  # the partial file of an earlier call may be damaged
            self._download(source, partial)
            defect = _defect(partial, source.digest)
            if not defect:
                break
            partial.unlink()
            if last:
                raise _SourceFailed(defect)
        if not source.digest:
            print(f"No checksum is published for {target.name}; its content is checked when it is read", flush=True)
        os.replace(partial, target)
        return target

    def _download(self, source: Source, partial: Path) -> None:
        """Download to `partial`, in several attempts; a failure keeps what has arrived."""
        import gdown  # optional dependency

        failed = farthest = 0
        while True:
            if source.host in self.unreachable or (not self.reached and len(self.unreachable) >= OFFLINE_AFTER):
                raise _SourceFailed("no connection")
            try:
                return self._transfer(source, partial)
            except gdown.exceptions.FileURLRetrievalError as error:
                raise _SourceFailed("Google Drive does not give the file out (daily quota or permission)") from error
            except (requests.RequestException, gdown.exceptions.DownloadError) as error:
                size = max((part.stat().st_size for part in _parts(partial)), default=0)
                failed = 1 if size > farthest else failed + 1
                farthest = max(farthest, size)
                if isinstance(error, gdown.exceptions.DownloadError) and error.__cause__ is None:
                    for part in _parts(partial):  # the server cannot continue it
                        part.unlink()
                reason, temporary = self._explain(source.host, error)
                if not temporary or failed >= self.attempts:
                    raise _SourceFailed(reason) from error
            time.sleep(self.pause * 2 ** (failed - 1))

    def _transfer(self, source: Source, partial: Path) -> None:
        import gdown

        with _progress_bar(source.file_name) as bar:

            def progress(received: int, total: int | None) -> None:
                if source.host not in self.reached or not bar.n:
                    self.reached.add(source.host)
                    _check_space(partial.parent, (total or 0) - received)
                    bar.total, bar.initial = total, received  # what an earlier call received does not count as speed
                bar.update(received - bar.n)

            is_drive = source.url.startswith(DRIVE)
            gdown.download(
                url=None if is_drive else source.url, id=source.url.removeprefix(DRIVE) if is_drive else None,
                output=str(partial), resume=True, progress=progress, timeout=self.timeout,
                quiet=True, use_cookies=False, user_agent="fdbpl",
            )  # fmt: skip

    def _explain(self, host: str, error: Exception) -> tuple[str, bool]:
        """Return the reason of a failure, and whether another attempt may succeed."""
        response = getattr(error, "response", None)
        if response is not None:
            self.reached.add(host)
            return f"{response.status_code} {response.reason}", response.status_code in TEMPORARY_ERRORS
        if isinstance(error, requests.ConnectionError | requests.Timeout) and host not in self.reached:
            self.unreachable.add(host)
            return f"no connection ({_cause(error)})", False
        return f"interrupted ({_cause(error)})", True


def file_digest(path: Path, algorithm: str) -> str:
    """Return `algorithm:HEX` of a file."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file, _progress_bar(f"checking {path.name}", path.stat().st_size) as bar:
        while piece := file.read(1 << 20):
            digest.update(piece)
            bar.update(len(piece))
    return f"{algorithm}:{digest.hexdigest()}"


def _defect(path: Path, digest: str) -> str:
    """Return why a downloaded file is not the wanted one; "" if it is."""
    with open(path, "rb") as file:
        start = file.read(100).lstrip().lower()
    if start.startswith((b"<html", b"<!doctype html")):
        return "a web page instead of the file (a quota, a login, or the file has moved)"
    actual = file_digest(path, digest.partition(":")[0]) if digest else ""
    return "" if actual == digest else f"the file has checksum {actual}, not {digest}"


def _check_existing(path: Path, digests: list[str]) -> None:
    actual = {file_digest(path, algorithm) for algorithm in {digest.partition(":")[0] for digest in digests if digest}}
    if actual.isdisjoint(digests) and "" not in digests:
        raise UserError(
            f"the checksum of {path} is {' or '.join(sorted(actual))}, not {' or '.join(digests)}; delete the file "
            "and run the same command to download it again"
        )


def _parts(partial: Path) -> list[Path]:
    """Return the partial file once it is complete, and gdown's temporary file with its random name."""
    return list(partial.parent.glob(f"{escape(partial.name)}*"))


def _progress_bar(title: str, total: int | None = None) -> tqdm:
    return tqdm(desc=title, total=total, unit="B", unit_scale=True, disable=None)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SystemFailure(
            f"not enough disk space in {folder} ({needed / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free); free some "
            "space and run the same command again"
        )


def _cause(error: BaseException) -> str:
    """Return the innermost cause of a chain of network errors, on one line and without addresses of objects."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    text = getattr(error, "strerror", None) or str(error).partition(" object at ")[0] or type(error).__name__
    return text.partition(".\n")[0]
