"""scripts/prepare_data.sh as a user types it, with a mirror on this machine in place of the hosts of the data sets."""

import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from fdbpl.data.download import Downloader, Source
from fdbpl.data.prepare.check import check
from fdbpl.data.prepare.install import install
from fdbpl.data.prepare.recipes import RECIPES, Part, Recipe

from .small_caltech101 import packed, photograph, small_caltech101

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mirror(server):
    """Caltech101 on the server, with its own hashes."""
    images, split = small_caltech101()
    files = {"caltech-101.zip": packed(images), "split_zhou_Caltech101.json": split}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    for name, content in {**files, "SHA256SUMS": sums.encode()}.items():
        server.add(f"/mirror/caltech101/{name}", content)
    return server


class Script:
    def __init__(self, here: Path, environment: dict[str, str]):
        here.mkdir(parents=True)
        self.here = here
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, **environment, "FDBPL_VENV": sys.prefix, "PATH": path, "OMP_NUM_THREADS": "1"}
        self.environment.pop("DATA", None)

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", str(ROOT / "scripts" / "prepare_data.sh"), *arguments],
            cwd=self.here, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, code: int, *arguments: str) -> tuple[str, str]:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == code, f"{output}\n{errors}"
        assert "Traceback" not in errors
        return output, errors


@pytest.fixture
def script(folder, offline, server) -> Script:
    return Script(folder / "here", {**offline, "FDBPL_MIRROR": f"{server.url}/mirror/"})


def test_from_nothing_to_a_checked_data_set(script, mirror):
    root = script.here / "my data"
    output, _ = script.run(0, "caltech101", "--root", "my data")
    assert output.splitlines()[-2].split() == ["caltech101", "ready"]
    assert sorted(os.listdir(root / "caltech-101")) == ["101_ObjectCategories", "split_zhou_Caltech101.json"]
    assert (root / "caltech-101/101_ObjectCategories/emu/image_0005.jpg").read_bytes() == photograph(25)
    mirror.requests.clear()
    script.run(0, "caltech101", "--root=my data", "demo")
    assert not mirror.requests  # what is there is not fetched again
    (root / "caltech-101/split_zhou_Caltech101.json").unlink()
    output, _ = script.run(2, "--check", "--root", "my data")
    assert f"run: bash scripts/prepare_data.sh caltech101 --root '{root}'" in output
    script.run(0, "caltech101", "--root", "my data")
    assert [path for path, _ in mirror.requests] == [
        "/mirror/caltech101/SHA256SUMS", "/mirror/caltech101/split_zhou_Caltech101.json"
    ]  # fmt: skip
    output, _ = script.run(0, "--check", "--root", "my data")
    assert "caltech101: 3 classes, 18 images (train 9, val 3, test 6)" in output
    assert output.count("not found") == 14


def test_killed_preparation_goes_on(script, mirror):
    mirror.faults["/mirror/caltech101/caltech-101.zip"] = "slow:0.05"
    partial = script.here / "data/caltech-101/downloads/caltech-101.zip.partial"
    process = script.start("caltech101", "--root", "data")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (partial.is_file() and partial.stat().st_size):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (kept := partial.stat().st_size) and not (script.here / "data/caltech-101/101_ObjectCategories").exists()
    mirror.faults["/mirror/caltech101/caltech-101.zip"] = ""
    script.run(0, "caltech101", "--root", "data", "--keep-archives")
    assert ("/mirror/caltech101/caltech-101.zip", f"bytes={kept}-") in mirror.requests
    downloads = script.here / "data/caltech-101/downloads"
    assert os.listdir(downloads) == ["caltech-101.zip"]
    shutil.rmtree(script.here / "data/caltech-101/101_ObjectCategories")
    mirror.requests.clear()
    script.run(0, "caltech101", "--root", "data")  # from the archive that was kept
    assert [path for path, _ in mirror.requests] == ["/mirror/caltech101/SHA256SUMS"] and not downloads.exists()


def test_failures_are_said_and_the_rest_goes_on(script, mirror):
    mirror.faults["/mirror/caltech101/split_zhou_Caltech101.json"] = "404"
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil.jpg"))
    mirror.add("/mirror/imagenet_a/imagenet-a.tar", evil.getvalue())
    sums = f"{hashlib.sha256(evil.getvalue()).hexdigest()} *imagenet-a.tar\n"
    mirror.add("/mirror/imagenet_a/SHA256SUMS", sums.encode())
    mirror.add("/mirror/imagenet_r/imagenet-r.tar", b"not what the hash of ImageNet-R says")
    mirror.add("/mirror/imagenet/classnames.txt", b"n01440764 tench\n")
    output, errors = script.run(1, "imagenet", "imagenet_a", "imagenet_r", "caltech101", "--root", "data")
    lines = errors.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert "imagenet_a: the images: " in lines[0]
    assert "imagenet_r: the images: " in lines[1] and "expected a file with sha256:18c6bf" in lines[1]
    assert "caltech101: the split file: " in lines[2] and "404 Not Found" in lines[2]
    assert output.splitlines()[-4:] == [
        "  imagenet         manual steps needed: the images",
        "  imagenet_a       failed: the images",
        "  imagenet_r       failed: the images",
        "  caltech101       failed: the split file",
    ]
    assert "https://image-net.org" in output and "ILSVRC2012_img_val.tar" in output
    data = script.here / "data"
    assert (data / "imagenet-adversarial/classnames.txt").read_bytes() == b"n01440764 tench\n"  # ImageNet's
    assert (data / "caltech-101/101_ObjectCategories/crab").is_dir()
    assert not list(script.here.parent.rglob("evil.jpg"))


def test_another_address_after_one_that_broke_off(server, offline, tmp_path, capsys):
    """Also leaves nothing of the first one behind."""
    images, split = small_caltech101()
    files = {"a.zip": packed(images)[:-1000], "b.zip": packed(images), "split_zhou_Caltech101.json": split}
    urls = {name: server.add(f"/{name}", content) for name, content in files.items()}
    server.faults["/a.zip"] = "lying"
    parts = (
        Part("the images", ("101_ObjectCategories",), (Source(urls["a.zip"]), Source(urls["b.zip"])),
             inner=("101_ObjectCategories.tar.gz",)),
        Part("the split file", ("split.json",), (Source(urls["split_zhou_Caltech101.json"]),), unpack=False),
    )  # fmt: skip
    outcome = install("x", Recipe("caltech-101", parts), tmp_path, Downloader(attempts=2, pause=0.01))
    assert str(outcome) == "ready"
    told = re.findall(r"x: no hash is published for (.*); its content is checked as it", capsys.readouterr().out)
    assert told == ["b.zip", "split_zhou_Caltech101.json"]
    assert sorted(os.listdir(tmp_path / "caltech-101")) == ["101_ObjectCategories", "split.json"]


def test_no_network(script, mirror):
    script.environment["FDBPL_MIRROR"] = ""
    begin = time.monotonic()
    output, errors = script.run(1, "--root", "data")
    assert time.monotonic() - begin < 20
    parts = sum(bool(part.sources) for recipe in RECIPES.values() for part in recipe.parts)
    assert len(errors.splitlines()) == parts and errors.count("no connection") >= parts
    assert output.count("failed: ") == len(RECIPES)
    assert not mirror.requests and not list((script.here / "data").iterdir())


def test_arguments(script):
    output, errors = script.run(2, "catech101", "--root", "data")
    assert "expected a data set, found 'catech101'; close ones are caltech101" in errors and not output
    output, _ = script.run(0, "demo", "--root", "data")
    assert output.startswith("demo: nothing to fetch")
    (script.here / "data").mkdir()
    output, _ = script.run(0, "demo", "--root", "data", "--check")
    assert output == "demo: nothing to check (drawn on first use)\n" and not list((script.here / "data").iterdir())
    output, errors = script.run(2, "--check", "--root", "nowhere")
    assert "expected the data root" in errors
    output, _ = script.run(0, "--list")
    assert all(f"| {name} |" in output for name in RECIPES)


def test_root_that_cannot_be_written(script, mirror):
    (script.here / "file").write_text("")
    output, errors = script.run(1, "caltech101", "--root", "file/data")
    assert errors.startswith("error: cannot make the data root") and len(errors.splitlines()) == 1
    mirror.faults.clear()


def test_two_at_once(script, mirror):
    mirror.faults["/mirror/caltech101/caltech-101.zip"] = "slow:0.5"
    first = script.start("caltech101", "--root", "data")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(script.here.glob("data/caltech-101/downloads/*.partial")):
        time.sleep(0.02)
    _, errors = script.run(1, "caltech101", "--root", "data")
    assert "in use by another call" in errors and len(errors.splitlines()) == 1
    os.killpg(first.pid, signal.SIGINT)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 130 and errors.splitlines()[-1].startswith("interrupted: the same command continues")


@pytest.fixture
def root(tmp_path) -> Path:
    images, split = small_caltech101()
    for path, content in images.items():
        file = tmp_path / "caltech-101/101_ObjectCategories" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / "caltech-101/split_zhou_Caltech101.json").write_bytes(split)
    return tmp_path


def test_check_of_a_good_data_set(root):
    report = check("caltech101", root)
    assert report.found and report.fine
    assert report.line.startswith("3 classes, 18 images (train 9, val 3, test 6)")
    assert report.line.endswith("no listed image is missing or broken")


def test_check_finds_what_is_broken(root):
    images = root / "caltech-101/101_ObjectCategories"
    whole = (images / "crab/image_0002.jpg").read_bytes()
    (images / "crab/image_0002.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "emu/image_0000.jpg").write_bytes(b"<html>not a photograph</html>")
    report = check("caltech101", root)
    assert report.found and not report.fine
    assert f"2 broken, the first {images}/crab/image_0002.jpg (" in report.line
    assert f"run: bash scripts/prepare_data.sh caltech101 --root {root}" in report.line


def test_check_finds_what_is_missing_and_what_is_broken(root):
    images = root / "caltech-101/101_ObjectCategories"
    (images / "crab/image_0001.jpg").unlink()
    (images / "emu/image_0005.jpg").write_bytes(b"")
    report = check("caltech101", root)
    assert report.found and not report.fine
    assert "(crab/image_0001.jpg)" in report.line
    assert f"1 broken, the first {images}/emu/image_0005.jpg" in report.line


def test_check_of_a_split_that_is_none(root):
    (root / "caltech-101/split_zhou_Caltech101.json").write_text('{"train": []}')
    report = check("caltech101", root)
    assert report.found and not report.fine
    assert "must hold lists" in report.line and "split_zhou_Caltech101.json" in report.line


def test_check_of_a_data_set_without_lists(tmp_path):
    """ImageNet-A, whose class names may be ImageNet's."""
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


def test_check_of_nothing(root):
    assert not check("dtd", root).found
    (root / "dtd").mkdir()
    assert check("dtd", root).line == f"not found below {root}"


def test_check_of_photographs(shared, tmp_path):
    report = check("caltech101", shared / "data")
    assert report.fine and report.line.startswith("100 classes, 2300 images (train 1600, val 200, test 500)")
