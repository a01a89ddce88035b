"""Archives: good ones come out whole, hostile and damaged ones leave nothing behind."""

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fdbpl.data.archives
from fdbpl.data.archives import extract, member_path
from fdbpl.errors import SystemFailure, UserError

IMAGES = {"set/images/cat (1).jpg": b"cat" * 1000, "set/images/naïve ☂.jpg": b""}
GOOD = {"set/": None, **IMAGES, "./set/list.txt": b"1\n2\n"}
TREE = {**IMAGES, "set/list.txt": b"1\n2\n"}


def tar(path: Path, members: list, mode: str = "w:gz") -> Path:
    """`members`: (name, content), (name, None) for a folder, or a TarInfo (with content)."""
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
    """`members`: (name, content) or (ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content or b"")
    return path


def zip_special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o644) << 16
    return info


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(archive: Path, match: str = "", error: type = UserError) -> None:
    """Nothing is left, inside or outside the folder."""
    before = set(archive.parent.parent.rglob("*"))
    with pytest.raises(error, match=match) as caught:
        extract(archive, archive.parent / "out" / "set")
    assert "\n" not in str(caught.value) and str(archive) in str(caught.value)
    left = set(archive.parent.parent.rglob("*")) - before
    assert left <= {archive.parent / "out"}


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "a place").mkdir()
    return tmp_path / "a place"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_good_archives(place, mode):
    make = (lambda path, members: zipped(path, members)) if mode == "zip" else lambda path, m: tar(path, m, mode)
    archive = make(place / "named wrongly.tar.gz", list(GOOD.items()))
    extract(archive, place / "out")
    assert tree(place / "out") == TREE
    assert not (place / "out/set/list.txt").stat().st_mode & 0o111
    assert sorted(os.listdir(place)) == ["named wrongly.tar.gz", "out"]


def test_links_inside(place):
    archive = tar(
        place / "a.tar",
        [(special("a/soft.jpg", tarfile.SYMTYPE, "../b/x.jpg"), None), ("b/x.jpg", b"x"),
         (special("a/hard.jpg", tarfile.LNKTYPE, "b/x.jpg"), None), (special("c", tarfile.SYMTYPE, "b"), None)],
    )  # fmt: skip
    extract(archive, place / "out")
    assert (place / "out/a/soft.jpg").read_bytes() == (place / "out/a/hard.jpg").read_bytes() == b"x"
    assert (place / "out/c/x.jpg").read_bytes() == b"x"
    (place / "out").rename(place / "elsewhere")
    assert (place / "elsewhere/a/hard.jpg").read_bytes() == b"x"


HOSTILE_NAMES = [
    "/etc/passwd", "../evil", "a/../../evil", "a/..", "..", "C:/evil", "C:evil", "a\\..\\..\\evil", "a\nb", "a\x1b[2Jb",
    "a/\x7f",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names(place, name):
    assert_refused(tar(place / "a.tar.gz", [("good.jpg", b"1"), (name, b"2")]), "expected names")
    assert_refused(zipped(place / "a.zip", [("good.jpg", b"1"), (name, b"2")]), "expected names")


@pytest.mark.parametrize(
    "info",
    [
        special("link", tarfile.SYMTYPE, "../../secret"),
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("a/link", tarfile.SYMTYPE, "../../secret"),
        special("link", tarfile.SYMTYPE, "nowhere"),
        special("link", tarfile.SYMTYPE, ""),
        special("link", tarfile.SYMTYPE, "link"),
        special("link", tarfile.LNKTYPE, "../secret"),
        special("link", tarfile.LNKTYPE, "/etc/passwd"),
        special("device", tarfile.CHRTYPE),
        special("device", tarfile.BLKTYPE),
        special("pipe", tarfile.FIFOTYPE),
        special("unknown", b"Z"),
    ],
    ids=lambda info: f"{info.type} {info.linkname}",
)
def test_hostile_tar_members(place, info):
    (place / "secret").write_text("secret")
    assert_refused(tar(place / "a.tar", [("good.jpg", b"1"), (info, None)], "w"), "expected (links|files)")


def test_nothing_is_written_through_a_link(place):
    outside = place / "outside"
    outside.mkdir()
    members = [(special("a", tarfile.SYMTYPE, str(outside)), None), ("a/evil", b"1")]
    assert_refused(tar(place / "a.tar", members), "expected every name once")
    chain = [(special("a", tarfile.SYMTYPE, "b"), None), (special("b", tarfile.SYMTYPE, ".."), None)]
    assert_refused(tar(place / "b.tar", chain), "expected links")
    assert not os.listdir(outside)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_hostile_zip_members(place, kind):
    (place / "secret").write_text("secret")
    assert_refused(zipped(place / "a.zip", [("good.jpg", b"1"), (zip_special("x", kind), b"../../secret")]), "expected")


@pytest.mark.parametrize("names", [["a", "a"], ["a", "./a"], ["a", "a/b"], ["a/b", "a"]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_twice(place, names):
    assert_refused(tar(place / "a.tar", [(name, b"1") for name in names]), "expected every name once")
    assert_refused(zipped(place / "a.zip", [(name, b"1") for name in names]), "expected every name once")


def test_bombs(place, monkeypatch):
    monkeypatch.setattr(fdbpl.data.archives, "ALLOWANCE", 1 << 20)
    zeros = bytes(20 << 20)
    assert_refused(zipped(place / "a.zip", [("zeros", zeros)]), "expected at most .* MB from an archive of")
    assert_refused(tar(place / "a.tar.gz", [("zeros", zeros)]), "expected")
    assert_refused(tar(place / "b.tar.gz", [(f"{i}", zeros[: 1 << 19]) for i in range(40)]), "expected")
    assert_refused(tar(place / "a.tar.xz", [("zeros", zeros)], "w:xz"), "expected")


def test_bomb_in_a_header(place):
    """An extended header of a gigabyte, which tarfile would read into memory."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    with gzip.open(place / "a.tar.gz", "wb") as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(2 << 20))
    assert_refused(place / "a.tar.gz", "expected headers of at most")


def test_too_many_files(place, monkeypatch):
    monkeypatch.setattr(fdbpl.data.archives, "MEMBERS", 10)
    assert_refused(tar(place / "a.tar", [(str(i), b"") for i in range(11)]), "expected at most 10 files")


def test_size_that_lies(place):
    """A zip that declares fewer bytes than it holds."""
    archive = zipped(place / "a.zip", [("a", b"1" * 1000)])
    content = bytearray(archive.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 10)
    archive.write_bytes(content)
    assert_refused(archive, "found a damaged one")


def test_sparse_files(place):
    info = tarfile.TarInfo("sparse")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    buffer = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    (place / "a.tar").write_bytes(bytes(buffer) + bytes(1024))
    assert_refused(place / "a.tar", "expected files and folders")


def test_encrypted_zip(place):
    archive = zipped(place / "a.zip", [("a", b"1")])
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    archive.write_bytes(content)
    assert_refused(archive, "damaged one.*encrypted")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.99])
def test_truncated(place, mode, share):
    """A plain tar file cut between two members looks whole but for its end mark."""
    members = [(f"{i}.jpg", os.urandom(512)) for i in range(20)]
    archive = zipped(place / "a", members) if mode == "zip" else tar(place / "a", members, mode)
    content = archive.read_bytes()
    cuts = {0.3: 6 * 1024, 0.7: 14 * 1024 + 100, 0.99: 20 * 1024} if mode == "w" else {}
    archive.write_bytes(content[: cuts.get(share, int(len(content) * share))])
    assert_refused(archive, "damaged")


def test_not_an_archive(place):
    (place / "page.html").write_text("<html>Quota exceeded</html>" * 100)
    assert_refused(place / "page.html", "expected a whole zip or tar file")


def test_full_disk(place, monkeypatch):
    usage = fdbpl.data.archives.shutil.disk_usage(place)
    monkeypatch.setattr(fdbpl.data.archives.shutil, "disk_usage", lambda path: usage._replace(free=100))
    assert_refused(tar(place / "a.tar", [("a", b"1" * 1000)]), "free some space", SystemFailure)


def test_interrupted_extraction_is_not_taken_for_a_whole_one(place, monkeypatch):
    archive = tar(place / "a.tar", list(GOOD.items()))
    real = fdbpl.data.archives._Unpacking._write

    def interrupted(self, path, member):
        if path.endswith("list.txt"):
            raise KeyboardInterrupt
        real(self, path, member)

    monkeypatch.setattr(fdbpl.data.archives._Unpacking, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(archive, place / "out")
    assert os.listdir(place) == ["a.tar"]
    monkeypatch.undo()
    leftover = place / ".out.extracting" / "old"  # as after kill -9
    leftover.mkdir(parents=True)
    extract(archive, place / "out")
    assert tree(place / "out") == TREE


@given(st.text() | st.lists(st.sampled_from(["..", ".", "", "a", "b c", "C:", "\\", "\n", "~"])).map("/".join))
def test_member_paths_stay_inside(name):
    try:
        path = member_path(name)
    except UserError:
        return
    assert os.path.realpath(os.path.join("/folder", path)) == os.path.normpath(f"/folder/{path}")
    assert os.path.normpath(f"/folder/{path}").startswith("/folder")
    assert path == os.path.normpath(path) or path == ""
    assert path.isprintable()


@given(st.sampled_from(["w", "w:gz", "zip"]), st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_end_in_a_sentence(tmp_path, mode, data):
    archive = tmp_path / "inner" / "a"
    archive.parent.mkdir(exist_ok=True)
    members = [("a/b.jpg", b"12345" * 50), ("a/c.jpg", b"xyz"), ("d", None)]
    members = [(name, content) for name, content in members if mode != "zip" or content]
    content = bytearray((zipped(archive, members) if mode == "zip" else tar(archive, members, mode)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 2000) - 1))] = data.draw(st.integers(0, 255))
    archive.write_bytes(content)
    out = tmp_path / "inner" / "out"
    try:
        extract(archive, out)
    except UserError as error:
        assert not out.exists() and "\n" not in str(error)
    else:
        fdbpl.data.archives.shutil.rmtree(out)
    assert {path.name for path in tmp_path.rglob("*")} == {"inner", "a"}
