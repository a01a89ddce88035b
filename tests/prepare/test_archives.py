"""Archives: good ones are extracted whole, unsafe and damaged ones leave nothing."""

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
GOOD = [("set/", None), *TREE.items()]


def tar(path: Path, members: list, mode: str = "w:gz") -> Path:
    """`members`: (name, content), (name, None) for a folder, or (TarInfo, None)."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if content is None and not isinstance(name, tarfile.TarInfo):
                info.type = tarfile.DIRTYPE
            info.size = len(content or b"") if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content or b""))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(path: Path, members: list) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content or b"")
    return path


def zip_special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o644) << 16
    return info


def make(path: Path, members: list, mode: str) -> Path:
    return zipped(path, members) if mode == "zip" else tar(path, members, mode)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(archive: Path, match: str, error: type = UserError) -> None:
    """Nothing is left, inside or outside of the folder."""
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
def test_good_archives(place, mode):
    archive = make(place / "named wrongly.tar.gz", GOOD, mode)
    (place / ".out.extracting" / "old").mkdir(parents=True)  # left over by a killed call
    extract(archive, place / "out")
    assert tree(place / "out") == TREE
    assert sorted(os.listdir(place)) == ["named wrongly.tar.gz", "out"]


def test_links_inside(place):
    members = [("b/x.jpg", b"x"), (special("a/soft.jpg", tarfile.SYMTYPE, "../b/x.jpg"), None)]
    extract(tar(place / "a.tar", members), place / "out")
    assert (place / "out/a/soft.jpg").read_bytes() == b"x"


@pytest.mark.parametrize("mode", ["w:gz", "zip"])
@pytest.mark.parametrize("name", ["/etc/passwd", "../evil", "a/../../evil", "C:/evil", "a\\..\\..\\evil", "a\x1b[2Jb"])
def test_unsafe_names(place, name, mode):
    assert_refused(make(place / "a", [("good.jpg", b"1"), (name, b"2")], mode), "unsafe")


@pytest.mark.parametrize(
    "info",
    [
        special("link", tarfile.SYMTYPE, "../../secret"),
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.LNKTYPE, "../secret"),
        special("link", tarfile.LNKTYPE, "/etc/passwd"),
        special("device", tarfile.CHRTYPE),
        special("device", tarfile.BLKTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.type} {info.linkname}",
)
def test_unsafe_tar_members(place, info):
    (place / "secret").write_text("secret")
    assert_refused(tar(place / "a.tar", [("good.jpg", b"1"), (info, None)], "w"), "unsafe|damaged")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_unsafe_zip_members(place, kind):
    assert_refused(zipped(place / "a.zip", [("good.jpg", b"1"), (zip_special("x", kind), b"../../secret")]), "unsafe")


def test_nothing_is_written_through_a_link(place):
    (place / "outside").mkdir()
    members = [(special("a", tarfile.SYMTYPE, str(place / "outside")), None), ("a/evil", b"1")]
    assert_refused(tar(place / "a.tar", members), "unsafe")
    assert not os.listdir(place / "outside")


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "zip"])
def test_bombs(place, monkeypatch, mode):
    monkeypatch.setattr(fdbpl.data.archives, "ALLOWANCE", 1 << 20)
    assert_refused(make(place / "a", [("zeros", bytes(20 << 20))], mode), "more than .* MB")
    assert_refused(make(place / "b", [(f"{i}", bytes(1 << 19)) for i in range(40)], mode), "more than .* MB")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize("share", [0, 0.3, 0.7])
def test_truncated(place, mode, share):
    archive = make(place / "a", [(f"{i}.jpg", os.urandom(5000)) for i in range(20)], mode)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    assert_refused(archive, "damaged")


def test_not_an_archive(place):
    (place / "page.html").write_text("<html>Quota exceeded</html>" * 100)
    assert_refused(place / "page.html", "damaged or not a zip or tar file")


def test_full_disk(place, monkeypatch):
    usage = fdbpl.data.archives.shutil.disk_usage(place)
    monkeypatch.setattr(fdbpl.data.archives.shutil, "disk_usage", lambda path: usage._replace(free=100))
    assert_refused(zipped(place / "a.zip", [("a", b"1" * 1000)]), "not enough disk space", SystemFailure)
