"""Extraction of archives: valid ones completely, unsafe and damaged ones not at all."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

import fdbpl.data.archives
from fdbpl.data.archives import extract
from fdbpl.errors import SystemFailure, UserError

TREE = {"set/images/cat (1).jpg": b"cat" * 1000, "set/images/naïve ☂.jpg": b"", "set/list.txt": b"1\n2\n"}
MEMBERS = [("set/", None), *TREE.items()]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o644) << 16
    return info


def make(path: Path, members: list, mode: str) -> Path:
    """Make an archive of (name, content), of (name, None) for a folder, or of (TarInfo, None)."""
    if mode == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content or b"")
        return path
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if content is None and info is not name:
                info.type = tarfile.DIRTYPE
            info.size = len(content or b"") if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content or b""))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_fails(archive: Path, match: str, error: type = UserError) -> None:
    """Check that `extract` raises `error` and leaves nothing, inside or outside of its folder."""
    before = set(archive.parent.parent.rglob("*"))
    with pytest.raises(error, match=match) as caught:
        extract(archive, archive.parent / "out" / "set")
    assert "\n" not in str(caught.value) and str(archive) in str(caught.value)
    assert set(archive.parent.parent.rglob("*")) - before <= {archive.parent / "out"}


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "a place").mkdir()
    return tmp_path / "a place"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_valid_archives(place, mode):
    archive = make(place / "named wrongly.tar.gz", MEMBERS, mode)
    (place / ".out.extracting" / "old").mkdir(parents=True)  # of a killed call
    extract(archive, place / "out")
    assert tree(place / "out") == TREE
    assert sorted(os.listdir(place)) == ["named wrongly.tar.gz", "out"]


def test_links_inside(place):
    members = [("b/x.jpg", b"x"), (special("a/soft.jpg", tarfile.SYMTYPE, "../b/x.jpg"), None)]
    extract(make(place / "a.tar", members, "w:gz"), place / "out")
    assert (place / "out/a/soft.jpg").read_bytes() == b"x"


TAR_MEMBERS = [
    special("link", tarfile.SYMTYPE, "../../secret"),
    special("link", tarfile.SYMTYPE, "/etc/passwd"),
    special("link", tarfile.LNKTYPE, "../secret"),
    special("link", tarfile.LNKTYPE, "/etc/passwd"),
    special("device", tarfile.CHRTYPE),
    special("device", tarfile.BLKTYPE),
    special("pipe", tarfile.FIFOTYPE),
]
ZIP_MEMBERS = [
    zip_special("x", kind) for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK)
]
NAMES = ["/etc/passwd", "../evil", "a/../../evil", "C:/evil", "a\\..\\..\\evil", "a\x1b[2Jb"]


@pytest.mark.parametrize(
    ("mode", "member"),
    [
        *(("w:gz", name) for name in NAMES),
        *(("zip", name) for name in NAMES),
        *(("w", member) for member in TAR_MEMBERS),
        *(("zip", member) for member in ZIP_MEMBERS),
    ],
)
def test_unsafe_members(place, mode, member):
    (place / "secret").write_text("secret")
    content = None if isinstance(member, tarfile.TarInfo) else b"../../secret"
    check_fails(make(place / "a", [("good.jpg", b"1"), (member, content)], mode), "unsafe|damaged")


def test_nothing_is_written_through_a_link(place):
    (place / "outside").mkdir()
    members = [(special("a", tarfile.SYMTYPE, str(place / "outside")), None), ("a/evil", b"1")]
    check_fails(make(place / "a.tar", members, "w:gz"), "unsafe")
    assert not os.listdir(place / "outside")


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "zip"])
def test_bombs(place, monkeypatch, mode):
    monkeypatch.setattr(fdbpl.data.archives, "ALLOWANCE", 1 << 20)
    check_fails(make(place / "a", [("zeros", bytes(20 << 20))], mode), "more than .* MB")
    check_fails(make(place / "b", [(f"{i}", bytes(1 << 19)) for i in range(40)], mode), "more than .* MB")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize("fraction", [0, 0.3, 0.7])
def test_truncated(place, mode, fraction):
    archive = make(place / "a", [(f"{i}.jpg", os.urandom(5000)) for i in range(20)], mode)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * fraction)])
    check_fails(archive, "damaged")


def test_no_archive(place):
    (place / "page.html").write_text("<html>Quota exceeded</html>" * 100)
    check_fails(place / "page.html", "damaged or not a zip or tar file")


def test_full_disk(place, monkeypatch):
    usage = fdbpl.data.archives.shutil.disk_usage(place)
    monkeypatch.setattr(fdbpl.data.archives.shutil, "disk_usage", lambda path: usage._replace(free=100))
    check_fails(make(place / "a.zip", [("a", b"1" * 1000)], "zip"), "not enough disk space", SystemFailure)
