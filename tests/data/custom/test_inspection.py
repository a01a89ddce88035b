"""`python -m fdbpl.data`: what it prints, warns of and refuses."""

import json
import shutil
import sys

import pytest

from fdbpl.data import __main__ as command
from fdbpl.data.custom.checks import byte_identical
from fdbpl.data.custom.inspection import inspect

from .files import CLASSES, NAMES, image_bytes, write_classes, write_csv, write_image

UNTESTED = "split: {train: ['*1.*', '*2.*', '*3.*', '*4.*'], test: ['dog*5.*']}"
UNTRAINED = "split: {train: ['dog*/*3.*'], test: ['red fox/*', 'grey_wolf/*']}"


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that calls the command and returns its exit code, output and errors."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["fdbpl.data", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return call


@pytest.fixture
def pets(tmp_path):
    return write_classes(tmp_path / "pets", count=40)


def test_data_without_warnings(run, pets):
    code, out, err = run(pets)
    assert code == 0 and not err
    assert "split: default: 50/20/30 %" in out
    assert "class folders" in out and "4 classes, 80 train, 32 val, 48 test; template 'a photo of a {}.'" in out
    table = [line.split() for line in out.splitlines() if "a photo of a" in line][1:]
    assert table[0] == ["dog", "9", "base", "20", "8", "12", "a", "photo", "of", "a", "dog", "9."]
    assert [line[2] for line in table] == ["base", "base", "new", "new"]
    assert "Warnings: none" in out


def test_json(run, pets):
    (pets / "dog-9" / "notes.txt").write_text("")
    code, out, _ = run(pets, "--json")
    content = json.loads(out)
    assert code == 0 == content["exit_code"] and content["format"] == "class folders"
    assert [one["name"] for one in content["classes"]] == NAMES
    assert content["classes"][2] == {
        "name": "grey wolf", "half": "new", "prompt": "a photo of a grey wolf.", "train": 20, "val": 8, "test": 12,
    }  # fmt: skip
    assert content["skipped"] == [{"path": "dog-9/notes.txt", "reason": "not an image"}]
    code, out, _ = run(pets.parent / "nowhere", "--json")
    assert code == 2 and "there is no folder of images" in json.loads(out)["error"]


@pytest.mark.parametrize(("change", "words"), [
    (lambda pets: shutil.rmtree(pets / "dog-10"), "3 classes are too few for base-to-new, which needs 4"),
    (lambda pets: (pets / "dog-9" / "image 0.jpg").write_bytes(b"text"), "1 images cannot be read"),
    (lambda pets: [write_image(pets / "owl" / f"{k}.png") for k in range(4)],
     "1 classes have fewer than 16 training images (owl 2)"),
    (lambda pets: [write_image(pets / "7" / f"{k}.png") for k in range(40)], "1 class names are numbers (7)"),
    (lambda pets: (pets / "dog-9").rename(pets / "n01440764"), "1 class names are numbers (n01440764)"),
    (lambda pets: (pets / "dog-10" / "more").symlink_to(pets / "dog-9"),
     "byte-identical images in several classes: 40 groups"),
    (lambda pets: (pets / "dataset.yaml").write_text(UNTESTED),
     "2 classes have no test images (grey wolf, red fox)"),
])  # fmt: skip
def test_warnings(run, pets, change, words):
    change(pets)
    code, out, _ = run(pets)
    assert code == 1 and any(line.startswith("warning: ") and words in line for line in out.splitlines()), out


def test_identical_images_in_training_and_test(run, tmp_path):
    for part, count in (("train", 20), ("test", 3)):
        for name in CLASSES:
            for number in range(count):
                write_image(tmp_path / part / name / f"{number}.png", seed=f"{name} {number}")
    code, out, _ = run(tmp_path)
    assert (
        code == 1
        and "byte-identical images in several splits, so that a test may use training images: 12 groups" in out
    )
    assert "(train) = test/" in out or "(test) = train/" in out
    groups = inspect(str(tmp_path)).duplicates
    assert len(groups) == 12 and all(len(group) == 2 for group in groups)


def test_files_of_equal_size_are_compared(tmp_path):
    for name, content in (("a", b"12"), ("b", b"12"), ("c", b"21"), ("d", b"123")):
        (tmp_path / name).write_bytes(content)
    assert byte_identical(tmp_path, ["a", "b", "c", "d"]) == [["a", "b"]]


def test_skipped_files_are_named(run, pets):
    for number in range(25):
        (pets / "dog-9" / f"notes {number:02}.txt").write_text("")
    (pets / ".hidden").write_text("")
    code, out, _ = run(pets)
    assert code == 0 and "Skipped: 25 files and folders, and 1 hidden ones" in out
    assert "dog-9/notes 19.txt: not an image" in out and "... and 5 more (all with --json)" in out
    assert "notes 20.txt" not in out


@pytest.mark.parametrize(("change", "words"), [
    (lambda pets: write_classes(pets, ("Red Fox",)), "cannot tell the class names 'Red Fox' and 'red fox'"),
    (lambda pets: (pets / "dataset.yaml").write_text("templat: a"), "did you mean 'template'?"),
    (lambda pets: (pets / "dataset.yaml").write_text(UNTRAINED), "no training images of grey wolf (2 such classes)"),
    (lambda pets: write_csv(pets.parent / "labels.csv", [("pets/dog-9/image 0.jpg", "a|b")]), ""),
])  # fmt: skip
def test_data_that_cannot_be_used(run, pets, change, words):
    place = change(pets)
    code, out, err = run(place if words == "" else pets)
    assert code == 2 and not out and len(err.splitlines()) == 1 and err.startswith("error: ") and words in err


def test_a_csv(run, tmp_path):
    rows = []
    for label in ("cat", "dog"):
        for number in range(40):
            (tmp_path / f"{label}{number}.png").write_bytes(image_bytes((label, number)))
            rows.append((f"{label}{number}", label))
    code, out, _ = run(write_csv(tmp_path / "labels.csv", rows, ("id", "breed")), "--shots", 4)
    assert (
        code == 1
        and "guessed: 'id' is the image path, 'breed' is the class" in out
        and "too few for base-to-new" in out
    )


def test_data_sets_of_the_field(run, tmp_path):
    """A folder in CoOp's layout is recognised by its name and split file, and has its own template."""
    folder = tmp_path / "dtd"
    split = {part: [] for part in ("train", "val", "test")}
    for label, name in enumerate(("banded", "dotted", "lined", "woven")):
        for number, part in enumerate(("train", "val", "test")):
            write_image(folder / "images" / name / f"{number}.png")
            split[part].append([f"{name}/{number}.png", label, name])
    (folder / "split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    code, out, _ = run(folder, "--shots", "1")
    assert code == 0 and "data set dtd" in out and "banded texture." in out and "base" in out
    code, _, err = run(tmp_path)
    assert code == 2 and "holds the data sets dtd; give the folder of one of them" in err
    (folder / "images" / "banded" / "0.png").unlink()
    code, out, _ = run(folder, "--shots", "1")
    assert code == 1 and "banded/0.png: No such file or directory" in out


def test_real_photographs(run, shared):
    code, out, _ = run(shared / "data" / "caltech-101")
    assert code == 0 and "data set caltech101" in out and "100 classes, 1600 train, 200 val, 500 test" in out
