"""DATASET.SKIP_UNREADABLE: a run with unreadable images stops and names all of them, or skips them."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fdbpl.engine.run import broken_images_named
from fdbpl.errors import UserError
from fdbpl.io import image_check
from fdbpl.regions import __main__ as regions
from fdbpl.regions.lookup import RegionLookup

from .calls import refused, succeeds
from .conftest import ROOT, draw_image
from .images import encode, scene

SKIP = ("DATASET.SKIP_UNREADABLE", "True")
ALL = ("DATASET.NUM_SHOTS", "-1")
BROKEN = {
    "banded/banded_0.jpg": (b"", "empty"),
    "dotted/dotted_3.jpg": (b"text", "not an image of a known format"),
    "woven/woven_5.jpg": (encode(scene(), "JPEG")[:-200], "image file is truncated"),
}
NAMED = [f"{path}: {reason}" for path, (_, reason) in BROKEN.items()]


@pytest.fixture
def images(root):
    return root / "dtd" / "images"


@pytest.fixture
def broken(root, images):
    """The small data set with a broken training, validation and test image."""
    for path, (content, _) in BROKEN.items():
        (images / path).write_bytes(content)
    return root


def metrics(training):
    return json.loads((training.output / "metrics.json").read_text())


def test_broken_images_are_named_or_skipped(training, broken):
    training.refused(broken, *ALL, names=NAMED, unchanged=[broken])
    ended = training.succeeds(broken, *ALL, *SKIP, "OPTIM.MAX_EPOCH", "1", trainer="CoOp", unchanged=[broken])
    found = metrics(training)
    assert found["left_out"]["count"] == 3 and found["left_out"]["images"].keys() == BROKEN.keys()
    assert all(found["left_out"]["images"][path].startswith(reason) for path, (_, reason) in BROKEN.items())
    assert found["protocol"]["train_images"] == 11 and found["protocol"]["test_images"] == 7
    for text in (ended.out, (training.output / "log.txt").read_text()):
        assert "Left out of 24 images" in text and all(name in text for name in NAMED)

    model, training.output = training.output, training.output.with_name("test")
    flags = ["--eval-only", "--model-dir", model]
    training.refused(broken, *ALL, trainer="CoOp", flags=flags, names=NAMED)
    training.output = training.output.with_name("test2")
    training.succeeds(broken, *SKIP, *ALL, trainer="CoOp", flags=flags)
    assert metrics(training)["left_out"]["count"] == 3 and metrics(training)["protocol"]["test_images"] == 7


@pytest.mark.parametrize("skip", [True, False])
def test_metrics_of_a_run_without_broken_images(training, root, skip):
    training.succeeds(root, *(SKIP if skip else ()))
    assert metrics(training).get("left_out") == ({"count": 0, "images": {}} if skip else None)


def test_more_than_twenty_broken_images_are_listed_in_a_file(training, root, images):
    paths = [file.relative_to(images) for file in images.rglob("*.jpg")]
    for path in paths:
        (images / path).write_bytes(b"")
    listing = training.output / "unreadable.txt"
    training.refused(root, *ALL, names=str(listing), unchanged=[root])
    assert sorted(listing.read_text().splitlines()) == sorted(f"{path}: empty" for path in paths)
    draw_image(images / paths[0], "red")
    (images / paths[1]).write_bytes(b"text")
    training.refused(root, *ALL, names=str(listing))
    lines = listing.read_text().splitlines()
    assert len(lines) == 23 and f"{paths[1]}: not an image of a known format" in lines
    for path in paths:
        draw_image(images / path, "red")
    training.succeeds(root, *ALL)
    assert not listing.exists()


@pytest.mark.parametrize(
    ("names", "numbers", "message"),
    [
        (["lined"], range(3), "no training image of 'lined'"),
        (["banded", "dotted", "lined", "woven"], (4, 5), "no test"),
    ],
)
def test_classes_and_tests_without_any_readable_image(training, root, images, names, numbers, message):
    for name in names:
        for number in numbers:
            (images / name / f"{name}_{number}.jpg").write_bytes(b"")
    training.refused(root, *ALL, *SKIP, names=message, unchanged=[root])


def test_few_shot_lists_do_not_change(training, root, images):
    training.succeeds(root)
    (few,) = (root / "dtd" / "split_fewshot").iterdir()
    before = few.read_text()
    (images / json.loads(before)["train"][0][0]).write_bytes(b"")
    training.output = training.output.with_name("again")
    training.succeeds(root, *SKIP)
    assert few.read_text() == before and metrics(training)["protocol"]["train_images"] == 7


def test_splits_of_image_folders_do_not_change(training, tmp_path):
    """The split includes the unreadable images, so that repairing one moves no other."""
    pets = tmp_path / "pets"
    for label in ("cat", "dog"):
        for number in range(6):
            draw_image(pets / label / f"{number}.jpg", "red", number)
    whole = training.succeeds(pets, *ALL, dataset="folder").out
    (pets / "cat" / "2.jpg").write_bytes(b"")
    training.output = training.output.with_name("broken")
    training.refused(pets, *ALL, dataset="folder", names="(cat/2.jpg: empty)")
    training.output = training.output.with_name("left_out")
    training.succeeds(pets, *ALL, *SKIP, dataset="folder")
    split = next(line for line in whole.splitlines() if line.startswith("  split:"))
    assert split in (training.output / "log.txt").read_text()
    assert metrics(training)["left_out"]["images"] == {"cat/2.jpg": "empty"}


def embeddings(work, root, images):
    (bank,) = (work / "output" / "regions" / "dtd").iterdir()
    lookup = RegionLookup(bank, [f"dtd/images/{image}" for image in images], 2)
    numbers = [(image, region) for image in range(len(images)) for region in range(2)]
    return lookup.embeddings([image for image, _ in numbers], [region for _, region in numbers])


def test_banks_with_and_without_skipping_agree(training, root, images, scratch, monkeypatch):
    words = [*ALL, "REGIONS.PER_IMAGE", "2"]
    generate = {"trainer": "FDBPL", "flags": ["--generate-regions"]}
    paths = [f"{name}/{name}_{number}.jpg" for name in ("banded", "woven") for number in range(3)]
    training.succeeds(root, *words, **generate)
    complete = embeddings(scratch / "work", root, paths)

    (scratch / "later").mkdir()
    monkeypatch.chdir(scratch / "later")
    file = images / paths[0]
    content, times = file.read_bytes(), file.stat()
    file.write_bytes(content[:300])
    assert paths[0] in training.refused(root, *words, **generate)
    assert not (scratch / "later" / "output" / "regions").exists()
    out = training.succeeds(root, *words, *SKIP, **generate).out
    assert "11 images" in out and "22 regions" in out
    assert embeddings(scratch / "later", root, paths[1:]).equal(complete[2:])
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    out = training.succeeds(root, *words, **generate).out
    assert "12 images, 11 of them" in out and "2 regions" in out
    assert embeddings(scratch / "later", root, paths).equal(complete)


def test_regions_generate_skips_unreadable_images(root, images, scratch):
    (images / "banded" / "banded_1.jpg").write_bytes(b"")
    words = [
        "generate", "--root", root, "--images", images, "--bank", scratch / "bank", "--teacher", "demo:teacher",
        "--per-image", 1,
    ]  # fmt: skip
    refused(regions.main, words, ["banded_1.jpg: empty", "--skip-unreadable"], unchanged=[root])
    out = succeeds(regions.main, [*words, "--skip-unreadable"], unchanged=[root]).out
    assert "Skipped 1 of 24 images: dtd/images/banded/banded_1.jpg: empty" in out and "23 images" in out
    for file in images.rglob("*.jpg"):
        file.write_bytes(b"")
    refused(regions.main, [*words, "--skip-unreadable"], "None of the 24 images", unchanged=[root])


@pytest.fixture
def forget(monkeypatch):
    """Return a function that clears what this process knows of images, as in a new process."""
    return lambda: monkeypatch.setattr(image_check, "_readable", set())


def test_images_are_checked_once(training, root, images, forget):
    """Later processes do not decode a file again unless it has changed."""
    training.succeeds(root)
    file = images / "banded" / "banded_5.jpg"
    content, times = file.read_bytes(), file.stat()
    file.write_bytes(bytes(len(content)))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    forget()
    training.output = training.output.with_name("again")
    training.succeeds(root)  # the features of the test images are cached
    os.utime(file)
    forget()
    training.output = training.output.with_name("third")
    training.refused(root, names="banded/banded_5.jpg: ")


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
def test_a_broken_cache_is_written_again(training, root, forget, scratch, content):
    training.succeeds(root)
    cache = scratch / "work" / "output" / "split_fewshot" / "dtd" / "readable.safetensors"
    cache.write_bytes(content)
    forget()
    training.output = training.output.with_name("again")
    training.succeeds(root)
    assert len(cache.read_bytes()) > 8 and cache.read_bytes() != content


def test_an_image_that_breaks_after_the_check_is_named(root, images):
    path = images / "banded" / "banded_0.jpg"
    items = [SimpleNamespace(impath=str(path))]
    dataset = SimpleNamespace(root=str(root), train_x=items, val=None, test=[])
    path.write_bytes(b"text")
    with pytest.raises(UserError, match="dtd/images/banded/banded_0.jpg"), broken_images_named(dataset):
        raise OSError("cannot identify image file")


def test_standard_error_holds_one_line(training, broken):
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *training.words(broken, *ALL)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(path in line for path in BROKEN)
