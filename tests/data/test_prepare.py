"""Installation and checks of data sets, with a mirror on this machine instead of the real hosts."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from fdbpl.data.download import Downloader, Source
from fdbpl.data.prepare.__main__ import main
from fdbpl.data.prepare.check import check
from fdbpl.data.prepare.install import install
from fdbpl.data.prepare.sources import SOURCES, DatasetSources, Part

from .small_caltech101 import packed, photograph, small_caltech101

ROOT = Path(__file__).resolve().parents[2]
IMAGES = "/mirror/caltech101/caltech-101.zip"


@pytest.fixture
def mirror(server):
    """A small Caltech101 on the server, with its own checksums."""
    images, split = small_caltech101()
    files = {"caltech-101.zip": packed(images), "split_zhou_Caltech101.json": split}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    for name, content in {**files, "SHA256SUMS": sums.encode()}.items():
        server.add(f"/mirror/caltech101/{name}", content)
    return server


@pytest.fixture
def root(tmp_path, offline, server, monkeypatch) -> Path:
    monkeypatch.setenv("FDBPL_MIRROR", f"{server.url}/mirror/")
    return tmp_path / "my data"


@pytest.fixture
def prepare(root, monkeypatch, capsys):
    """Return prepare(exit_code, *arguments), which runs the command on `root` here and returns its output."""

    def call(code: int, *arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["prepare", *arguments, "--root", str(root)])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        assert ended.value.code == code, output
        return output.out, output.err

    return call


def visible(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start scripts/prepare_data.sh in `folder`."""
    return subprocess.Popen(
        ["bash", str(ROOT / "scripts" / "prepare_data.sh"), *arguments],
        cwd=folder, env={**os.environ, "FDBPL_VENV": sys.prefix}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for_partial_file(folder: Path) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for file in folder.glob("caltech-101/downloads/caltech-101.zip.*"):
            if file.stat().st_size:
                return file
        time.sleep(0.01)
    raise AssertionError("no download started")


def test_install_and_check(prepare, mirror, root):
    output, _ = prepare(0, "caltech101")
    assert output.splitlines()[-2].split() == ["caltech101", "ready"]
    assert visible(root / "caltech-101") == ["101_ObjectCategories", "split_zhou_Caltech101.json"]
    assert (root / "caltech-101/101_ObjectCategories/emu/image_0005.jpg").read_bytes() == photograph(25)
    mirror.requests.clear()
    output, _ = prepare(0, "caltech101", "demo")
    assert not mirror.requests and output.startswith("demo: nothing to download")
    (root / "caltech-101/split_zhou_Caltech101.json").unlink()
    output, _ = prepare(2, "--check")
    assert f"run: bash scripts/prepare_data.sh caltech101 --root '{root}'" in output
    prepare(0, "caltech101")
    assert [Path(path).name for path, _ in mirror.requests] == ["SHA256SUMS", "split_zhou_Caltech101.json"]
    output, _ = prepare(0, "--check")
    assert "caltech101: 3 classes, 18 images (train 9, val 3, test 6)" in output
    assert output.count("not found") == 14


def test_killed_script_continues(mirror, root, prepare):
    mirror.faults[IMAGES] = "slow:0.03"
    mirror.files[IMAGES] = packed(small_caltech101()[0], padding=2_000_000)  # more than gdown writes at once
    sums = f"{hashlib.sha256(mirror.files[IMAGES]).hexdigest()}  caltech-101.zip\n"
    mirror.add("/mirror/caltech101/SHA256SUMS", sums.encode())
    mirror.faults["/mirror/caltech101/split_zhou_Caltech101.json"] = "404"
    process = start(root.parent, "caltech101", "--root", root.name)
    partial = wait_for_partial_file(root)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (kept := partial.stat().st_size) and not (root / "caltech-101/101_ObjectCategories").exists()
    mirror.faults[IMAGES] = ""
    prepare(1, "caltech101", "--keep-archives")
    assert (IMAGES, f"bytes={kept}-") in mirror.requests
    downloads = root / "caltech-101/downloads"
    assert os.listdir(downloads) == ["caltech-101.zip"]
    shutil.rmtree(root / "caltech-101/101_ObjectCategories")
    mirror.requests.clear()
    prepare(1, "caltech101")  # uses the archive that was kept
    assert IMAGES not in [path for path, _ in mirror.requests] and not downloads.exists()
    assert (root / "caltech-101/101_ObjectCategories/crab").is_dir()


def test_second_process_waits(mirror, root, prepare):
    mirror.faults[IMAGES] = "slow:0.05"
    first = start(root.parent, "caltech101", "--root", root.name)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(root.glob("caltech-101/downloads/*")):
        time.sleep(0.01)
    output, _ = prepare(0, "caltech101")
    assert "another process is installing this data set; waiting" in output
    assert first.communicate(timeout=60) and first.returncode == 0
    assert [path for path, _ in mirror.requests].count(IMAGES) == 1


def test_interrupted_script(mirror, root):
    mirror.faults[IMAGES] = "slow:1"
    process = start(root.parent, "caltech101", "--root", root.name)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(root.glob("caltech-101/downloads/*")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.splitlines()[-1].startswith("interrupted: the same command continues")


def test_failures_do_not_stop_other_downloads(prepare, mirror, root):
    unsafe = io.BytesIO()
    with tarfile.open(fileobj=unsafe, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil.jpg"))
    mirror.faults["/mirror/caltech101/split_zhou_Caltech101.json"] = "404"
    mirror.add("/mirror/imagenet_a/imagenet-a.tar", unsafe.getvalue())
    sums = f"{hashlib.sha256(unsafe.getvalue()).hexdigest()} *imagenet-a.tar\n"
    mirror.add("/mirror/imagenet_a/SHA256SUMS", sums.encode())
    mirror.add("/mirror/imagenet_r/imagenet-r.tar", b"not ImageNet-R")
    mirror.add("/mirror/imagenet/classnames.txt", b"n01440764 tench\n")
    output, errors = prepare(1, "imagenet", "imagenet_a", "imagenet_r", "caltech101")
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1:3] for line in lines] == [
        ["imagenet_a", "the images"], ["imagenet_r", "the images"], ["caltech101", "the split file"]
    ]  # fmt: skip
    assert "unsafe" in lines[0] and "not sha256:18c6bf" in lines[1] and "404 Not Found" in lines[2]
    assert output.splitlines()[-4:] == [
        "  imagenet         manual steps needed: the images",
        "  imagenet_a       failed: the images",
        "  imagenet_r       failed: the images",
        "  caltech101       failed: the split file",
    ]
    assert "https://image-net.org" in output and "ILSVRC2012_img_val.tar" in output
    assert (root / "imagenet-adversarial/classnames.txt").read_bytes() == b"n01440764 tench\n"  # copied
    assert (root / "caltech-101/101_ObjectCategories/crab").is_dir()
    assert not list(root.parent.rglob("evil.jpg"))


def test_second_source_after_a_broken_one(server, offline, tmp_path):
    images, split = small_caltech101()
    urls = {name: server.add(f"/{name}", content) for name, content in (("a.zip", packed(images)), ("s.json", split))}
    server.add("/broken.zip", packed(images), "too_long")
    sources = Source(f"{server.url}/broken.zip"), Source(urls["a.zip"])
    parts = (
        Part("the images", ("101_ObjectCategories",), sources, inner=("101_ObjectCategories.tar.gz",)),
        Part("the split file", ("split.json",), (Source(urls["s.json"]),), unpack=False),
    )
    outcome = install("x", DatasetSources("caltech-101", parts), tmp_path, Downloader(attempts=2, pause=0.01))
    assert str(outcome) == "ready"
    assert visible(tmp_path / "caltech-101") == ["101_ObjectCategories", "split.json"]


def test_no_network(prepare, server, root, monkeypatch):
    monkeypatch.setenv("FDBPL_MIRROR", "")
    output, errors = prepare(1)
    parts = sum(bool(part.sources) for dataset in SOURCES.values() for part in dataset.parts)
    assert errors.count("error: ") == parts and errors.count("no connection") >= parts
    assert output.count("failed: ") == len(SOURCES)
    assert not server.requests and not visible(root)


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, ["catech101"], "there is no data set 'catech101' in configs/datasets; similar names: caltech101"),
        (0, ["demo"], "demo: nothing to download"),
        (0, ["demo", "--check"], "demo: nothing to check (drawn on first use)"),
        (0, ["--list"], "| ucf101 | ucf101 | the images | 0.14 GB | drive.google.com, then huggingface.co\\* |"),
    ],
)
def test_arguments(prepare, root, code, arguments, words):
    root.mkdir()
    assert words in "".join(prepare(code, *arguments))
    assert not os.listdir(root)


@pytest.mark.parametrize(
    ("arguments", "words"), [(["dtd"], "cannot create the data root"), (["--check"], "not a folder")]
)
def test_root_that_is_a_file(prepare, root, arguments, words):
    root.write_text("")
    _, errors = prepare(1 if arguments == ["dtd"] else 2, *arguments)
    assert errors.startswith("error: ") and words in errors and len(errors.splitlines()) == 1


@pytest.fixture
def caltech101(tmp_path) -> Path:
    """The folder of an installed Caltech101."""
    images, split = small_caltech101()
    folder = tmp_path / "caltech-101"
    for path, content in images.items():
        file = folder / "101_ObjectCategories" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (folder / "split_zhou_Caltech101.json").write_bytes(split)
    return folder


HALF = b"\xff\xd8" + photograph(0)[2:5000]  # a JPEG file without its end


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["3 classes, 18 images (train 9, val 3, test 6)", "no listed image is missing or broken"]),
        (
            {"crab/image_0002.jpg": HALF, "emu/image_0000.jpg": b"<html>not a photograph</html>"},
            ["18 images", "2 broken, the first", "crab/image_0002.jpg (", "bash scripts/prepare_data.sh caltech101"],
        ),
        (
            {"crab/image_0001.jpg": None, "emu/image_0005.jpg": b""},
            ["(crab/image_0001.jpg)", "1 broken, the first", "emu/image_0005.jpg"],
        ),
        ({"../split_zhou_Caltech101.json": b'{"train": []}'}, ["must hold lists", "split_zhou_Caltech101.json"]),
        ({"../split_zhou_Caltech101.json": None}, ["incomplete: split_zhou_Caltech101.json missing"]),
    ],
    ids=["complete", "broken", "missing", "split file", "no split file"],
)
def test_check(caltech101, changes, words):
    for path, content in changes.items():
        file = caltech101 / "101_ObjectCategories" / path
        file.unlink()
        if content is not None:
            file.write_bytes(content)
    report = check("caltech101", caltech101.parent)
    assert report.found and report.fine == (not changes)
    assert all(word in report.line for word in words), report.line


def test_check_of_absent_data_sets(caltech101):
    assert not check("dtd", caltech101.parent).found
    (caltech101.parent / "dtd").mkdir()
    assert check("dtd", caltech101.parent).line == f"not found below {caltech101.parent}"


def test_check_without_split_file(tmp_path):
    """ImageNet-A uses ImageNet's class names if it has none of its own."""
    for number, synset in enumerate(("n01498041", "n01531178")):
        file = tmp_path / "imagenet-adversarial/imagenet-a" / synset / "0.jpg"
        file.parent.mkdir(parents=True)
        file.write_bytes(photograph(number))
    assert "incomplete: classnames.txt missing" in check("imagenet_a", tmp_path).line
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet/classnames.txt").write_text("n01498041 stingray\nn01531178 goldfinch\n")
    report = check("imagenet_a", tmp_path)
    assert report.fine and report.line.startswith(
        "2 classes, 2 images (train 0, val 0, test 2), where the published data set has classes 200, test 7500; no "
    )
    file.write_bytes(b"")
    assert "1 broken" in check("imagenet_a", tmp_path).line


def test_check_of_photographs(shared):
    report = check("caltech101", shared / "data")
    assert report.fine and report.line.startswith("100 classes, 2300 images (train 1600, val 200, test 500)")
