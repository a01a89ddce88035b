"""DATASET.SKIP_UNREADABLE: images that cannot be decoded are left out and told, or stop a run, all of them named."""

import json
import os
import subprocess
import sys

import pytest

from fdbpl.io import image_check
from fdbpl.regions import __main__ as regions
from fdbpl.regions.lookup import RegionLookup

from .calls import refused, succeeds
from .conftest import ROOT, draw_picture
from .pictures import saved, scene

SKIP = ("DATASET.SKIP_UNREADABLE", "True")
ALL = ("DATASET.NUM_SHOTS", "-1")
CUT = saved(scene(), "JPEG")[:-200]
BROKEN = {"banded/banded_0.jpg": b"", "dotted/dotted_3.jpg": b"text", "woven/woven_5.jpg": CUT}
REASONS = {
    "banded/banded_0.jpg": "empty",
    "dotted/dotted_3.jpg": "no image of a known format",
    "woven/woven_5.jpg": "image file is truncated",
}


@pytest.fixture
def broken(root):
    """The small world with a broken training, validation and test image."""
    for path, content in BROKEN.items():
        (root / "dtd" / "images" / path).write_bytes(content)
    return root


def metrics(training):
    return json.loads((training.output / "metrics.json").read_text())


def test_all_are_named(training, broken):
    names = [f"{path}: {reason}" for path, reason in REASONS.items()]
    training.refused(broken, *ALL, names=["expected 24 readable", "found 3", *names], unchanged=[broken])


def test_they_are_left_out_and_told(training, broken):
    ended = training.succeeds(broken, *ALL, *SKIP, "OPTIM.MAX_EPOCH", "1", trainer="CoOp", unchanged=[broken])
    found = metrics(training)
    assert found["left_out"]["count"] == 3 and found["left_out"]["images"].keys() == REASONS.keys()
    assert all(found["left_out"]["images"][path].startswith(reason) for path, reason in REASONS.items())
    assert found["protocol"]["train_images"] == 11 and found["protocol"]["test_images"] == 7
    log = (training.output / "log.txt").read_text()
    for text in (ended.out, log):
        assert "Left out of 24 images" in text and all(f"{path}: {reason}" in text for path, reason in REASONS.items())


def test_nothing_to_leave_out(training, root):
    training.succeeds(root, *SKIP)
    assert metrics(training)["left_out"] == {"count": 0, "images": {}}


def test_by_default_nothing_is_said(training, root):
    training.succeeds(root)
    assert "left_out" not in metrics(training)


def test_tests_leave_out_what_training_leaves_out(training, broken):
    training.succeeds(broken, *SKIP, *ALL, "OPTIM.MAX_EPOCH", "1", trainer="CoOp")
    model, training.output = training.output, training.output.with_name("test")
    flags = ["--eval-only", "--model-dir", model]
    training.refused(broken, *ALL, trainer="CoOp", flags=flags, names="found 3 that are not")
    training.output = training.output.with_name("test2")
    training.succeeds(broken, *SKIP, *ALL, trainer="CoOp", flags=flags)
    assert metrics(training)["left_out"]["count"] == 3 and metrics(training)["protocol"]["test_images"] == 7


def test_where_they_are_many_a_file_names_them(training, root):
    paths = [file.relative_to(root / "dtd" / "images") for file in (root / "dtd" / "images").rglob("*.jpg")]
    for path in paths:
        (root / "dtd" / "images" / path).write_bytes(b"")
    listing = training.output / "unreadable.txt"
    training.refused(root, *ALL, names=["found 24", str(listing)], unchanged=[root])
    assert sorted(listing.read_text().splitlines()) == sorted(f"{path}: empty" for path in paths)
    draw_picture(root / "dtd" / "images" / paths[0], "red")
    (root / "dtd" / "images" / paths[1]).write_bytes(b"text")
    training.refused(root, *ALL, names=["found 23", str(listing)])
    assert f"{paths[1]}: no image of a known format" in listing.read_text().splitlines()
    for path in paths:
        draw_picture(root / "dtd" / "images" / path, "red")
    training.succeeds(root, *ALL)
    assert not listing.exists()


@pytest.mark.parametrize("part", ["train", "test"])
def test_what_cannot_be_left_out(training, root, part):
    for number in range(3) if part == "train" else (4, 5):
        for name in ["lined"] if part == "train" else ["banded", "dotted", "lined", "woven"]:
            (root / "dtd" / "images" / name / f"{name}_{number}.jpg").write_bytes(b"")
    found = "no training image of 'lined'" if part == "train" else "no test image"
    training.refused(root, *ALL, *SKIP, names=found, unchanged=[root])


def test_a_few_shot_list_stays_as_it_is(training, root):
    training.succeeds(root)
    (few,) = (root / "dtd" / "split_fewshot").iterdir()
    before = few.read_text()
    shot = json.loads(before)["train"][0][0]
    (root / "dtd" / "images" / shot).write_bytes(b"")
    training.output = training.output.with_name("again")
    training.succeeds(root, *SKIP)
    assert few.read_text() == before and metrics(training)["protocol"]["train_images"] == 7


def test_own_pictures(training, tmp_path):
    """The split is that of all pictures, so that mending one moves no other."""
    for label in ("cat", "dog"):
        for number in range(6):
            draw_picture(tmp_path / "pets" / label / f"{number}.jpg", "red", number)
    whole = training.succeeds(tmp_path / "pets", *ALL, dataset="folder").out
    (tmp_path / "pets" / "cat" / "2.jpg").write_bytes(b"")
    training.output = training.output.with_name("broken")
    training.refused(tmp_path / "pets", *ALL, dataset="folder", names="(cat/2.jpg: empty)")
    training.output = training.output.with_name("mended")
    training.succeeds(tmp_path / "pets", *ALL, *SKIP, dataset="folder")
    split = next(line for line in whole.splitlines() if line.startswith("  split:"))
    assert split in (training.output / "log.txt").read_text()
    assert metrics(training)["left_out"]["images"] == {"cat/2.jpg": "empty"}


def embeddings(work, root, images):
    (bank,) = (work / "output" / "regions" / "dtd").iterdir()
    lookup = RegionLookup(bank, [f"dtd/images/{image}" for image in images], 2)
    numbers = [(image, region) for image in range(len(images)) for region in range(2)]
    return lookup.embeddings([image for image, _ in numbers], [region for _, region in numbers])


def test_banks_with_and_without_it_agree(training, root, scratch, monkeypatch):
    words = [*ALL, "REGIONS.PER_IMAGE", "2"]
    generate = {"trainer": "FDBPL", "flags": ["--generate-regions"]}
    images = [f"{name}/{name}_{number}.jpg" for name in ("banded", "woven") for number in range(3)]
    training.succeeds(root, *words, **generate)
    straight = embeddings(scratch / "work", root, images)

    (scratch / "later").mkdir()
    monkeypatch.chdir(scratch / "later")
    file = root / "dtd" / "images" / images[0]
    content, times = file.read_bytes(), file.stat()
    file.write_bytes(content[:300])
    refusal = training.refused(root, *words, **generate)
    assert images[0] in refusal and not (scratch / "later" / "output" / "regions").exists()
    ended = training.succeeds(root, *words, *SKIP, **generate)
    assert "11 images, 0 of them labelled before; 22 regions labelled" in ended.out
    assert embeddings(scratch / "later", root, images[1:]).equal(straight[2:])
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    ended = training.succeeds(root, *words, **generate)
    assert "12 images, 11 of them labelled before; 2 regions labelled" in ended.out
    assert embeddings(scratch / "later", root, images).equal(straight)


def test_banks_without_a_trainer(root, scratch):
    folder = root / "dtd" / "images"
    (folder / "banded" / "banded_1.jpg").write_bytes(b"")
    words = [
        "generate", "--root", root, "--images", folder, "--bank", scratch / "bank", "--teacher", "demo:teacher",
        "--per-image", 1,
    ]  # fmt: skip
    refused(regions.main, words, ["banded_1.jpg: empty", "--skip-unreadable"], unchanged=[root])
    ended = succeeds(regions.main, [*words, "--skip-unreadable"], unchanged=[root])
    assert "Skipped 1 of 24 images: dtd/images/banded/banded_1.jpg: empty" in ended.out
    assert "23 images, 0 of them labelled before" in ended.out
    for file in folder.rglob("*.jpg"):
        file.write_bytes(b"")
    refused(regions.main, [*words, "--skip-unreadable"], "None of the 24 images", unchanged=[root])


@pytest.fixture
def forget(monkeypatch):
    """What another process would not know."""
    return lambda: monkeypatch.setattr(image_check, "_read", set())


def test_an_image_is_decoded_once(training, root, forget):
    """What was read is not read again by a later process, unless it changed."""
    training.succeeds(root)
    file = root / "dtd" / "images" / "banded" / "banded_5.jpg"
    content, times = file.read_bytes(), file.stat()
    file.write_bytes(bytes(len(content)))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nothing had happened
    forget()
    training.output = training.output.with_name("again")
    training.succeeds(root)  # the features of the test images are looked up
    os.utime(file)
    forget()
    training.output = training.output.with_name("third")
    training.refused(root, names="banded/banded_5.jpg: ")


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
def test_a_broken_memory_is_no_memory(training, root, forget, scratch, content):
    training.succeeds(root)
    memory = scratch / "work" / "output" / "split_fewshot" / "dtd" / "readable.safetensors"
    memory.write_bytes(content)
    forget()
    training.output = training.output.with_name("again")
    training.succeeds(root)
    assert len(memory.read_bytes()) > 8 and memory.read_bytes() != content


def test_an_image_that_breaks_later_is_named(root):
    """Between the check at the start and the reading."""
    from types import SimpleNamespace

    from fdbpl.engine.run import broken_images_named
    from fdbpl.errors import UserError

    path = root / "dtd" / "images" / "banded" / "banded_0.jpg"
    items = [SimpleNamespace(impath=str(path))]
    dataset = SimpleNamespace(root=str(root), train_x=items, val=None, test=[])
    path.write_bytes(b"text")
    expected = pytest.raises(UserError, match=r"found 1 that are not \(dtd/images/banded/banded_0.jpg")
    with expected, broken_images_named(dataset):
        raise OSError("cannot identify image file")


def test_as_a_user_types_it(training, broken):
    """A process of its own: nothing but the sentence on its stderr."""
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *training.words(broken, *ALL)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: expected 24 readable images") and all(path in line for path in BROKEN)
