"""Downloads against a faulty server: what arrives is the file, or nothing."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gdown
import pytest

import fdbpl.data.download
from fdbpl.data.download import Downloader, Source
from fdbpl.errors import SystemFailure, UserError

ROOT = Path(__file__).resolve().parents[2]
CONTENT = random.Random(1).randbytes(300_000)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
BIG = random.Random(2).randbytes(4_000_000)
BIG_DIGEST = "sha256:" + hashlib.sha256(BIG).hexdigest()


@pytest.fixture
def downloader(offline) -> Downloader:
    return Downloader(timeout=(2.0, 0.5), attempts=3, pause=0.01)


def assert_only(path: Path, content: bytes = CONTENT) -> None:
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("digest", ["", MD5, SHA256])
@pytest.mark.parametrize("fault", ["", "interrupt:50000", "once:100000", "norange", "slow:0.001"])
def test_file_arrives_whole(server, downloader, folder, fault, digest):
    url = server.add("/a/file.tar", CONTENT, fault)
    assert_only(downloader.fetch([Source(url, digest)], folder), CONTENT)
    assert server.served["/a/file.tar"] == len(CONTENT)  # interruptions cost nothing


def test_interrupted_without_ranges_starts_again_and_gives_up(server, downloader, folder):
    url = server.add("/file.tar", CONTENT, "norange:70000")
    with pytest.raises(SystemFailure, match=r"file.tar.*interrupted after 70000 bytes"):
        downloader.fetch([Source(url, MD5)], folder)
    server.faults["/file.tar"] = ""
    assert_only(downloader.fetch([Source(url, MD5)], folder))


@pytest.mark.parametrize(
    ("fault", "sentence", "requests"),
    [
        ("404", "404 Not Found", 1),
        ("500", "500 Internal Server Error", 3),
        ("429", "429 Too Many Requests", 3),
        ("quota:403", "403 Forbidden", 1),
        ("quota:200", "a web page in place of the file", 1),
        ("lying", "interrupted after 300000 bytes", 4),
    ],
)
def test_refusals(server, downloader, folder, fault, sentence, requests):
    url = server.add("/file.tar", CONTENT, fault)
    with pytest.raises(SystemFailure, match=rf"{re.escape(sentence)}.*run the same command again") as caught:
        downloader.fetch([Source(url)], folder)
    assert len(server.requests) == requests
    assert "\n" not in str(caught.value) and not (folder / "file.tar").exists()


def test_silence_ends(server, downloader, folder):
    url = server.add("/file.tar", CONTENT, "slow:30")
    begin = time.monotonic()
    with pytest.raises(SystemFailure, match="interrupted after"):
        downloader.fetch([Source(url)], folder)
    assert time.monotonic() - begin < 10


def test_wrong_hash_is_refused_and_deleted(server, downloader, folder):
    url = server.add("/file.tar", CONTENT[:-1] + b"?")
    with pytest.raises(SystemFailure, match=f"expected a file with {MD5}, found one with md5:"):
        downloader.fetch([Source(url, MD5)], folder)
    assert not os.listdir(folder)


def test_mirrors_in_order(server, downloader, folder):
    sources = [
        Source(server.add("/1/file.tar", CONTENT, "404"), MD5),
        Source(server.add("/2/file.tar", b"another", ""), MD5),
        Source(server.add("/3/other%20name.tar".replace("%20", " "), CONTENT, "").replace(" ", "%20"), SHA256),
        Source(server.add("/4/file.tar", CONTENT, ""), MD5),
    ]
    server.add("/3/other%20name.tar", CONTENT)
    assert_only(downloader.fetch(sources, folder))
    assert (folder / "other name.tar").is_file()
    assert [path for path, _ in server.requests] == ["/1/file.tar", "/2/file.tar", "/3/other%20name.tar"]


def test_another_mirror_goes_on_where_the_first_broke_off(server, downloader, folder):
    first = Source(server.add("/1/file.tar", CONTENT, "once:100000"), MD5)
    second = Source(server.add("/2/file.tar", CONTENT), MD5)
    server.faults["/1/file.tar"] = "norange:100000"
    assert_only(downloader.fetch([first, second], folder))
    assert server.served["/2/file.tar"] == len(CONTENT) - 100_000


def test_parts_of_different_versions_are_not_joined(server, downloader, folder):
    url = server.add("/file.tar", b"old" * 100_000, "norange:100000")
    with pytest.raises(SystemFailure):
        downloader.fetch([Source(url)], folder)
    server.add("/file.tar", CONTENT)  # no hash is known: the server's tag tells
    assert_only(downloader.fetch([Source(url)], folder))


def test_damaged_part_is_dropped(server, downloader, folder):
    url = server.add("/file.tar", CONTENT, "norange:100000")
    with pytest.raises(SystemFailure):
        downloader.fetch([Source(url, MD5)], folder)
    partial = folder / "file.tar.partial"
    partial.write_bytes(b"?" * 100_000)
    server.faults["/file.tar"] = ""
    assert_only(downloader.fetch([Source(url, MD5)], folder))


def test_file_that_is_there_is_checked_and_taken(server, downloader, folder):
    url = server.add("/file.tar", CONTENT)
    folder.mkdir()
    (folder / "file.tar").write_bytes(CONTENT)
    assert downloader.fetch([Source(url, MD5), Source(url, SHA256)], folder) == folder / "file.tar"
    (folder / "file.tar").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"found one with md5:.*delete it"):
        downloader.fetch([Source(url, MD5)], folder)
    assert (folder / "file.tar").read_bytes() == b"mine" and not server.requests


def test_dead_hosts_are_asked_once(offline, folder):
    downloader = Downloader()
    begin = time.monotonic()
    for number in range(30):
        with pytest.raises(SystemFailure, match="no connection"):
            downloader.fetch([Source(f"https://host{number % 5}.invalid/file{number}")], folder)
    assert len(downloader.dead) == fdbpl.data.download.TOO_MANY_DEAD
    assert time.monotonic() - begin < 5


def test_full_disk(server, downloader, folder, monkeypatch):
    url = server.add("/file.tar", CONTENT)
    usage = shutil.disk_usage(folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(SystemFailure, match=r"expected 0.00 GB of free disk.*free some space"):
        downloader.fetch([Source(url)], folder)
    assert server.served.get("/file.tar", 0) < len(CONTENT)


def test_disk_that_fills_up(server, downloader, folder):
    """/dev/full refuses every write as a full disk does."""
    url = server.add("/file.tar", CONTENT)
    folder.mkdir()
    (folder / "file.tar.partial").symlink_to("/dev/full")
    with pytest.raises(SystemFailure, match="No space left on device.*free some space"):
        downloader.fetch([Source(url)], folder)


def test_killed_download_goes_on(server, downloader, folder):
    url = server.add("/big.tar", BIG, "slow:0.01")
    code = (
        "import sys; from pathlib import Path; from fdbpl.data.download import *;"
        "Downloader().fetch([Source(sys.argv[1], sys.argv[2])], Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, url, BIG_DIGEST, str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    partial = folder / "big.tar.partial"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size >= 1_000_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = partial.stat().st_size
    assert 1_000_000 <= kept < len(BIG)
    time.sleep(0.3)  # the server notices
    server.faults["/big.tar"], server.served["/big.tar"] = "", 0
    assert_only(downloader.fetch([Source(url, BIG_DIGEST)], folder), BIG)
    assert server.served["/big.tar"] == len(BIG) - kept
    assert server.requests[-1] == ("/big.tar", f"bytes={kept}-")


def through(server, monkeypatch) -> None:
    """gdown's own code, with Google Drive's place taken by the server."""
    real = gdown.download
    monkeypatch.setattr(gdown, "download", lambda id, **options: real(url=f"{server.url}/{id}", **options))


def test_google_drive(server, downloader, folder, monkeypatch):
    through(server, monkeypatch)
    server.add("/ID", BIG, "once:1500000")
    assert_only(downloader.fetch([Source("drive:ID", BIG_DIGEST, "split.json")], folder), BIG)
    assert server.requests[-1] == ("/ID", "bytes=1048576-")  # gdown writes half a mebibyte at a time


def test_google_drive_resumes_in_a_later_call(server, downloader, folder, monkeypatch):
    through(server, monkeypatch)
    server.add("/ID", BIG, "norange:1500000")
    with pytest.raises(SystemFailure, match=r"drive.google.com: .*run the same command again"):
        downloader.fetch([Source("drive:ID", BIG_DIGEST, "split.json")], folder)
    assert not (folder / "split.json").exists()
    server.faults["/ID"] = ""
    assert_only(downloader.fetch([Source("drive:ID", BIG_DIGEST, "split.json")], folder), BIG)
    assert server.requests[-1] == ("/ID", "bytes=1048576-")


def test_google_drive_without_a_hash_is_begun_anew(server, downloader, folder, monkeypatch):
    """Neither the part of an older version nor that of a mirror is taken for the beginning, or for the whole."""
    through(server, monkeypatch)
    drive = Source("drive:ID", "", "names.txt")
    server.add("/ID", b"old" * 1_000_000, "norange:1500000")
    with pytest.raises(SystemFailure):
        downloader.fetch([drive], folder)
    mirror = Source(server.add("/names.txt", b"cut" * 100_000, "norange:100000"))
    server.add("/ID", BIG)
    assert_only(downloader.fetch([mirror, drive], folder), BIG)
    assert not any(asked for path, asked in server.requests if path == "/ID")


def test_what_nothing_checks_is_told(server, downloader, folder):
    told: list[str] = []
    sources = [Source(server.add("/a.tar", CONTENT, "404"), MD5), Source(server.add("/b.tar", CONTENT))]
    downloader.fetch(sources, folder, told.append)
    assert told == ["b.tar"]
    downloader.fetch(sources, folder, told.append)  # it lies there
    assert told == ["b.tar"] * 2
    downloader.fetch([Source(sources[1].url, MD5), sources[1]], folder, told.append)
    assert told == ["b.tar"] * 2


def test_google_drive_quota(server, downloader, folder, monkeypatch):
    def refuse(**options):
        raise gdown.exceptions.FileURLRetrievalError("Cannot retrieve the public link of the file.\nToo many users")

    monkeypatch.setattr(gdown, "download", refuse)
    mirror = Source(server.add("/split.json", CONTENT), MD5)
    with pytest.raises(SystemFailure, match=r"drive.google.com: Google Drive does not give the file out now \(quota"):
        downloader.fetch([Source("drive:ID", MD5, "split.json")], folder)
    assert_only(downloader.fetch([Source("drive:ID", MD5, "split.json"), mirror], folder))


def test_old_gdown(downloader, folder, monkeypatch):
    monkeypatch.setattr(gdown, "download", lambda id, output, quiet, resume, use_cookies: None)
    with pytest.raises(SystemFailure, match="expected gdown 6.4 or newer.*pip install"):
        downloader.fetch([Source("drive:ID", MD5, "split.json")], folder)


def test_google_drive_out_of_reach(downloader, folder):
    with pytest.raises(SystemFailure, match="drive.google.com: no connection"):
        downloader.fetch([Source("drive:ID", MD5, "split.json")], folder)
    assert downloader.dead == {"drive.google.com"}
