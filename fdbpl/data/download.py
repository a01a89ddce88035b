"""Files from the network: mirrors in order, resumed, checked against their hash, there whole or not at all."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from tqdm import tqdm

from fdbpl.errors import REMEDIES, SystemFailure, UserError
from fdbpl.io.atomic import TEMPORARY_SUFFIX, read_record, write_json

ORIGIN = ("url", "digest", "is")  # what is kept beside a part of a file: where from, its hash, the server's mark of it
CHUNK = 1 << 16  # what a silent connection may lose
DRIVE = "drive:"  # a file on Google Drive by its id
DRIVE_HOST = "drive.google.com"
TOO_MANY_DEAD = 3  # hosts out of reach, none in reach: there is no network, and the other hosts are not waited for


@dataclass(frozen=True)
class Source:
    """One place to get a file from.

    Attributes:
        url: http(s) address, or `drive:ID` of Google Drive.
        digest: `md5:HEX` or `sha256:HEX` of the file; "" = not known.
        name: of the file; "" = the last part of the address.
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


class _Refused(Exception):
    """This source will not give the file; another one may."""


class _Interrupted(Exception):
    """The transfer broke after the file's byte `reached`; the same source may go on."""

    def __init__(self, reason: str, reached: int = 0):
        super().__init__(reason)
        self.reached = reached


class Downloader:
    """Fetches files one after another and remembers which hosts are out of reach.

    Args:
        timeout: seconds to wait for a connection, and between two pieces of the answer.
        attempts: transfers in a row without a new byte before a source is given up.
        pause: seconds before the second attempt; doubled each time.
    """

    def __init__(self, timeout: tuple[float, float] = (5.0, 30.0), attempts: int = 4, pause: float = 1.0):
        self.timeout, self.attempts, self.pause = timeout, attempts, pause
        self.session = requests.Session()
        # Byte ranges count the bytes of the file: it must not be compressed on the way.
        self.session.headers.update({"User-Agent": "fdbpl", "Accept-Encoding": "identity"})
        self.reached: set[str] = set()
        self.dead: set[str] = set()

    def fetch(
        self, sources: Sequence[Source], folder: Path, unchecked: Callable[[str], None] = lambda name: None
    ) -> Path:
        """The file of the first source that gives it, in `folder`; one that lies there already is checked and taken.

        An interrupted transfer leaves `<name>.partial` behind, and a later call goes on from there.

        Args:
            unchecked: told the name of a file that is taken without a hash to compare with.

        Raises:
            SystemFailure: no source gives the file, or it cannot be written.
            UserError: a file of that name lies there, and its hash is another one.
        """
        for name in dict.fromkeys(source.file_name for source in sources):
            if (folder / name).is_file():
                return _accepted(
                    folder / name, [source.digest for source in sources if source.file_name == name], unchecked
                )
        reasons = []
        for source in sources:
            target = folder / source.file_name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._fetch(source, target)
                if not source.digest:
                    unchecked(source.file_name)
                return target
            except _Refused as refusal:
                reasons.append(f"{source.host}: {refusal}")
            except requests.RequestException as error:  # an OSError as well: told apart from those of the disk
                reasons.append(f"{source.host}: {_short(error)}")
            except OSError as error:
                raise SystemFailure(
                    f"cannot write {target} ({error.strerror}); {REMEDIES.get(error.errno or 0, 'check the disk')}"
                ) from error
        names = " or ".join(dict.fromkeys(source.file_name for source in sources))
        raise SystemFailure(
            f"expected {names} from the network, found none ({'; '.join(dict.fromkeys(reasons))}); check the "
            f"network and run the same command again, or put the file into {folder} yourself"
        )

    def _fetch(self, source: Source, target: Path) -> None:
        partial = target.with_name(target.name + TEMPORARY_SUFFIX)
        transfer = self._from_drive if source.url.startswith(DRIVE) else self._from_web
        for fresh in (not partial.exists(), True):
            self._until_whole(transfer, source, partial)
            found = file_digest(partial, source.digest) if source.digest else ""
            if found == source.digest:
                break
            partial.unlink()
            _origin(partial).unlink(missing_ok=True)
            if fresh:  # else what an earlier run had left may be at fault
                raise _Refused(f"expected a file with {source.digest}, found one with {found}")
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
        _origin(partial).unlink(missing_ok=True)

    def _until_whole(self, transfer, source: Source, partial: Path) -> None:
        farthest = fruitless = 0
        while True:
            if source.host in self.dead or (not self.reached and len(self.dead) >= TOO_MANY_DEAD):
                raise _Refused("no connection")
            try:
                return transfer(source, partial)
            except _Interrupted as interruption:
                fruitless = 0 if interruption.reached > farthest else fruitless + 1
                farthest = max(farthest, interruption.reached)
                if fruitless >= self.attempts:
                    raise _Refused(str(interruption)) from interruption
                time.sleep(self.pause * 2**fruitless)

    def _from_web(self, source: Source, partial: Path) -> None:
        offset, headers = _resumable(source, partial)
        try:
            response = self.session.get(source.url, headers=headers, stream=True, timeout=self.timeout)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise self._unreached(source.host, error) from error
        with response:
            self.reached.add(source.host)
            offset, total = _range(response, offset, partial)
            if offset == total:
                return
            if total is not None:
                _check_space(partial.parent, total - offset)
            if not offset:
                origin = (source.url, source.digest, _validator(response))
                write_json(_origin(partial), dict(zip(ORIGIN, origin, strict=True)))
            bar = _bar(source.file_name, total, offset)
            with open(partial, "r+b" if offset else "wb") as file, bar:
                file.seek(offset)
                pieces = response.raw.stream(CHUNK, decode_content=False)
                while True:
                    try:
                        piece = next(pieces, None)
                    except urllib3.exceptions.HTTPError as error:
                        at = file.tell()
                        raise _Interrupted(f"interrupted after {at} bytes ({_short(error)})", at) from error
                    if piece is None:
                        break
                    file.write(piece)
                    bar.update(len(piece))
                if total is not None and file.tell() != total:
                    raise _Interrupted(f"interrupted after {file.tell()} of {total} bytes", file.tell())

    def _from_drive(self, source: Source, partial: Path) -> None:
        import gdown

        if not source.digest:  # nothing would tell that a part is of another version, or of another source
            for part in partial.parent.glob(f"{escape(partial.name)}*"):
                part.unlink()
        with _bar(source.file_name) as bar:

            def progress(received: int, total: int | None) -> None:
                self.reached.add(source.host)
                bar.total = total
                bar.update(received - bar.n)

            try:
                gdown.download(
                    id=source.url.removeprefix(DRIVE), output=str(partial), quiet=True, resume=True, use_cookies=False,
                    timeout=self.timeout, progress=progress,
                )  # fmt: skip
            except TypeError as error:  # its arguments were others once
                raise SystemFailure(
                    f"expected gdown 6.4 or newer, found {gdown.__version__}; pip install -U gdown"
                ) from error
            except gdown.exceptions.FileURLRetrievalError as error:
                self.reached.add(source.host)
                raise _Refused("Google Drive does not give the file out now (quota of the day, permission)") from error
            except (requests.ConnectionError, requests.Timeout) as error:
                raise self._unreached(source.host, error, bar.n) from error
            except (requests.exceptions.ChunkedEncodingError, gdown.exceptions.DownloadError) as error:
                raise _Interrupted(_short(error), bar.n) from error

    def _unreached(self, host: str, error: Exception, at: int = 0) -> Exception:
        """A host that has answered before may answer again; one that never did is not asked a second time."""
        if host in self.reached:
            return _Interrupted(_short(error), at)
        self.dead.add(host)
        return _Refused(f"no connection ({_short(error)})")


def file_digest(path: Path, like: str) -> str:
    """Hash of a file as `algorithm:HEX`, by the algorithm of the digest `like`."""
    algorithm = like.partition(":")[0]
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file, _bar(f"checking {path.name}", path.stat().st_size) as bar:
        while piece := file.read(CHUNK):
            digest.update(piece)
            bar.update(len(piece))
    return f"{algorithm}:{digest.hexdigest()}"


def _bar(title: str, total: int | None = None, done: int = 0) -> tqdm:
    return tqdm(desc=title, total=total, initial=done, unit="B", unit_scale=True, disable=None)


def _accepted(path: Path, digests: list[str], unchecked: Callable[[str], None]) -> Path:
    found = [file_digest(path, digest) for digest in digests if digest]
    if set(found) & set(digests):
        return path
    if "" not in digests:
        raise UserError(
            f"expected a file with {' or '.join(digests)} at {path}, found one with {' or '.join(found)}; delete it, "
            "and the same command fetches it again"
        )
    unchecked(path.name)
    return path


def _origin(partial: Path) -> Path:
    """Says which file a partial one is a part of."""
    return partial.with_name(partial.name + ".json")


def _resumable(source: Source, partial: Path) -> tuple[int, dict[str, str]]:
    """Bytes that need not be fetched again, and the headers that ask for the others.

    The parts fit where the whole is checked against the same hash, or where the server vouches for it (If-Range).
    """
    if not partial.is_file() or not _origin(partial).is_file():
        return 0, {}
    try:
        kinds: dict[str, Any] = dict.fromkeys(ORIGIN, str)
        origin = read_record(_origin(partial), "the origin of a part of a file", **kinds)
    except UserError:  # cut off by a fault: begun anew
        return 0, {}
    size = partial.stat().st_size
    wanted = {"Range": f"bytes={size}-"}
    if source.digest and source.digest == origin["digest"]:
        return size, wanted if size else {}
    if source.url == origin["url"] and origin["is"]:
        return size, {**wanted, "If-Range": origin["is"]} if size else {}
    return 0, {}


def _validator(response: requests.Response) -> str:
    """What tells this version of the file from others: a strong ETag, else the date."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _range(response: requests.Response, offset: int, partial: Path) -> tuple[int, int | None]:
    """First byte that the answer holds, and the size of the file (None = not said)."""
    said = response.headers.get("Content-Range", "")
    size = said.rpartition("/")[2]
    if response.status_code == 416 and offset:
        if size == str(offset):
            return offset, offset
        partial.unlink()
        raise _Interrupted("the file has become another one")
    if response.status_code == 429 or response.status_code >= 500:
        raise _Interrupted(f"{response.status_code} {response.reason}")
    if response.status_code not in (200, 206):
        raise _Refused(f"{response.status_code} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _Refused("a web page in place of the file (a quota, a login, or the file has moved)")
    if response.status_code == 206:
        if not said.startswith(f"bytes {offset}-"):
            raise _Refused(f"expected bytes from {offset}, found {said or 'none'}")
        return offset, int(size) if size.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SystemFailure(
            f"expected {needed / 1e9:.2f} GB of free disk for {folder}, found {free / 1e9:.2f} GB; free some space and "
            "run the same command again"
        )


def _short(error: BaseException) -> str:
    """The innermost cause of a chain of network errors, without addresses of objects."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return getattr(error, "strerror", None) or str(error).partition(" object at ")[0] or type(error).__name__
