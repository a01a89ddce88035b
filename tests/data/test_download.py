"""Downloads from a faulty server: the file arrives complete, or not at all."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gdown
import pytest

from fdbpl.data.download import OFFLINE_AFTER, Downloader, Source
from fdbpl.errors import SystemFailure, UserError

ROOT = Path(__file__).resolve().parents[2]
CONTENT = random.Random(1).randbytes(3_000_000)  # gdown writes pieces of 512 KiB
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def downloader(offline) -> Downloader:
    return Downloader(timeout=(2.0, 0.5), attempts=3, pause=0.01)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "with a space"


@pytest.fixture
def drive(server, monkeypatch) -> None:
    """Let the server answer for Google Drive."""
    download = gdown.download

    def from_server(id=None, url=None, **options):
        return download(url=url or f"{server.url}/{id}", **options)

    monkeypatch.setattr(gdown, "download", from_server)


def assert_only(path: Path, content: bytes = CONTENT) -> None:
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("digest", ["", MD5, SHA256])
@pytest.mark.parametrize("fault", ["", "cut:1100000", "cut_once:1500000", "no_ranges", "slow:0.0001"])
def test_complete_file(server, downloader, folder, fault, digest):
    source = Source(server.add("/a/file.tar", CONTENT, fault), digest)
    assert_only(downloader.fetch([source], folder))


@pytest.mark.parametrize(
    ("fault", "message", "requests"),
    [
        ("404", "404 Not Found", 1),
        ("page:403", "403 Forbidden", 1),
        ("page:200", "a web page instead of the file", 1),
        ("500", "500 Internal Server Error", 3),
        ("429", "429 Too Many Requests", 3),
        ("no_ranges:1100000", "interrupted", None),
        ("too_long", "interrupted", None),
        ("slow:30", "timed out", None),
    ],
)
def test_failures(server, downloader, folder, fault, message, requests):
    source = Source(server.add("/file.tar", CONTENT, fault))
    with pytest.raises(SystemFailure, match=f"{message}.*run the same command again") as caught:
        downloader.fetch([source], folder)
    assert requests in (None, len(server.requests))
    assert "\n" not in str(caught.value) and not (folder / "file.tar").exists()


def test_wrong_checksum(server, downloader, folder):
    source = Source(server.add("/file.tar", CONTENT[:-1] + b"?"), MD5)
    with pytest.raises(SystemFailure, match=f"checksum md5:.*, not {MD5}"):
        downloader.fetch([source], folder)
    assert not os.listdir(folder)


def test_sources_in_order(server, downloader, folder):
    sources = [
        Source(server.add("/1/file.tar", CONTENT, "404"), MD5),
        Source(server.add("/2/file.tar", b"another"), MD5),
        Source(server.add("/3/other%20name.tar", CONTENT), SHA256),
        Source(server.add("/4/file.tar", CONTENT), MD5),
    ]
    assert_only(downloader.fetch(sources, folder))
    assert (folder / "other name.tar").is_file()
    assert [path for path, _ in server.requests] == ["/1/file.tar", "/2/file.tar", "/3/other%20name.tar"]


@pytest.mark.parametrize("digest", [MD5, ""])
def test_later_call_continues(server, downloader, folder, digest):
    """The partial file is also continued from another source with the same checksum."""
    first = Source(server.add("/1/file.tar", CONTENT, "no_ranges:1100000"), digest)
    downloader.attempts = 1
    server.faults["/1/file.tar"] = "cut_once:1100000"
    server.add("/2/file.tar", CONTENT)
    with pytest.raises(SystemFailure):
        downloader.fetch([first], folder)
    second = Source(f"{server.url}/{2 if digest else 1}/file.tar", digest)
    assert_only(Downloader(pause=0.01).fetch([second], folder))
    assert server.requests[-1][1] == "bytes=1048576-"


def test_damaged_partial_file(server, downloader, folder):
    source = Source(server.add("/file.tar", CONTENT, "cut_once:1100000"), MD5)
    downloader.attempts = 1
    with pytest.raises(SystemFailure):
        downloader.fetch([source], folder)
    (partial,) = folder.iterdir()
    partial.write_bytes(b"?" * 1_048_576)
    server.faults["/file.tar"] = ""
    assert_only(downloader.fetch([source], folder))


def test_existing_file(server, downloader, folder):
    source = Source(server.add("/file.tar", CONTENT), MD5)
    folder.mkdir()
    (folder / "file.tar").write_bytes(CONTENT)
    assert downloader.fetch([source, Source(source.url, SHA256)], folder) == folder / "file.tar"
    (folder / "file.tar").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"the checksum of .*file.tar is md5:.*delete the file"):
        downloader.fetch([source], folder)
    assert downloader.fetch([source, Source(source.url)], folder).read_bytes() == b"mine" and not server.requests


def test_unreachable_hosts_are_tried_once(offline, folder):
    downloader, start = Downloader(), time.monotonic()
    for number in range(30):
        with pytest.raises(SystemFailure, match="no connection"):
            downloader.fetch([Source(f"https://host{number % 5}.invalid/file{number}")], folder)
    with pytest.raises(SystemFailure, match="drive.google.com: no connection"):
        downloader.fetch([Source("drive:ID", MD5, "split.json")], folder)
    assert len(downloader.unreachable) == OFFLINE_AFTER and time.monotonic() - start < 5


def test_full_disk(server, downloader, folder, monkeypatch):
    source = Source(server.add("/file.tar", CONTENT))
    usage = shutil.disk_usage(folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(SystemFailure, match=r"not enough disk space in .*free some space"):
        downloader.fetch([source], folder)


def test_disk_that_fills_up(server, downloader, folder, monkeypatch):
    def full(**options):
        Path("/dev/full").write_bytes(b"1")

    monkeypatch.setattr(gdown, "download", full)
    with pytest.raises(SystemFailure, match="No space left on device.*free some space"):
        downloader.fetch([Source(server.add("/file.tar", CONTENT))], folder)


def test_killed_download_continues(server, downloader, folder):
    url = server.add("/file.tar", CONTENT, "slow:0.01")
    code = (
        "import sys; from pathlib import Path; from fdbpl.data.download import *;"
        "Downloader().fetch([Source(sys.argv[1], sys.argv[2])], Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, url, SHA256, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not any(file.stat().st_size > 1_000_000 for file in folder.glob("*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (partial,) = folder.iterdir()
    kept = partial.stat().st_size
    assert 1_000_000 < kept < len(CONTENT)
    server.faults["/file.tar"] = ""
    assert_only(downloader.fetch([Source(url, SHA256)], folder))
    assert server.requests[-1] == ("/file.tar", f"bytes={kept}-")


def test_google_drive(server, downloader, folder, drive):
    server.add("/ID", CONTENT, "cut_once:1500000")
    assert_only(downloader.fetch([Source("drive:ID", SHA256, "split.json")], folder))
    assert server.requests[-1] == ("/ID", "bytes=1048576-")


def test_google_drive_quota(server, downloader, folder, drive, monkeypatch):
    def refuse(id=None, **options):
        if id:
            raise gdown.exceptions.FileURLRetrievalError("Cannot retrieve the public link of the file.\nToo many users")
        return download(**options)

    download = gdown.download
    monkeypatch.setattr(gdown, "download", refuse)
    source = Source("drive:ID", MD5, "split.json")
    with pytest.raises(SystemFailure, match=r"drive.google.com: Google Drive does not give the file out \(daily quota"):
        downloader.fetch([source], folder)
    assert_only(downloader.fetch([source, Source(server.add("/split.json", CONTENT), MD5)], folder))


def test_missing_checksum_is_printed(server, downloader, folder, capsys):
    sources = [Source(server.add("/a.tar", CONTENT, "404"), MD5), Source(server.add("/b.tar", CONTENT))]
    downloader.fetch(sources, folder)
    assert capsys.readouterr().out == "No checksum is published for b.tar; its content is checked when it is read\n"
