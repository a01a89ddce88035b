"""Unusual images are read identically everywhere; broken images are refused by every command."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fdbpl import predict
from fdbpl.io.image_check import unreadable_images
from fdbpl.io.image_reading import UnreadableImage, read_header, read_image
from fdbpl.pipelines import RegionRequests, dali_installed
from fdbpl.pipelines.dali import DaliPipeline
from fdbpl.pipelines.torchvision import TorchvisionPipeline
from fdbpl.regions import __main__ as regions

from .calls import alarm, refused, succeeds
from .images import BROKEN, UNUSUAL, encode, scene

needs_dali = pytest.mark.skipif(not dali_installed(), reason="NVIDIA DALI is not installed")
IN_SPLIT = {"train": "banded/banded_0.jpg", "val": "dotted/dotted_3.jpg", "test": "woven/woven_5.jpg"}


def write(folder, files) -> Path:
    """Write files, {name: function that returns the content}, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in files.items():
        (folder / name).write_bytes(make())
    return folder


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_images_are_read_as_by_pillow(tmp_path, name):
    write(tmp_path, {name: UNUSUAL[name]})
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_image(tmp_path / name)), expected)
    header = read_header(tmp_path / name)
    assert (header.height, header.width) == expected.shape[:2]
    assert unreadable_images(tmp_path, [name]) == {}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_have_a_reason(tmp_path, name):
    write(tmp_path, {name: BROKEN[name]})
    with pytest.raises(UnreadableImage) as caught:
        read_image(tmp_path / name)
    reason = str(caught.value)
    assert reason and "\n" not in reason and str(tmp_path) not in reason
    assert unreadable_images(tmp_path, [name]) == {name: reason}


def whole_images(pipeline, names):
    """Return uncropped images of a pipeline, uint8 [N, 3, 16, 16]."""
    boxes = np.tile(np.array([[0, 0, 1, 1]], np.float32), (len(names), 1))
    requests = RegionRequests(list(names), np.arange(len(names)), boxes, np.zeros(len(names), bool))
    batches = list(pipeline(requests))
    return torch.cat([images for _, images in batches])[torch.cat([index for index, _ in batches]).argsort()]


@needs_dali
@pytest.mark.parametrize("decode", ["roi", "decode-once"])
def test_both_pipelines_return_the_same_pixels(tmp_path, decode):
    write(tmp_path, UNUSUAL)
    expected = whole_images(TorchvisionPipeline(tmp_path, 16, 8), UNUSUAL)
    found = whole_images(DaliPipeline(tmp_path, 16, 8, decode=decode), UNUSUAL)
    differ = [
        name for name, ours, theirs in zip(UNUSUAL, expected, found, strict=True) if not torch.equal(ours, theirs)
    ]
    assert not differ


PHOTO = encode(scene(96, 64), "JPEG", quality=85)
truncated = st.builds(lambda end: PHOTO[:end], st.integers(0, len(PHOTO) - 3))
flipped_bits = st.builds(
    lambda at, bit: PHOTO[:at] + bytes([PHOTO[at] ^ 1 << bit]) + PHOTO[at + 1 :],
    st.integers(0, len(PHOTO) - 1),
    st.integers(0, 7),
)
replaced_bytes = st.builds(
    lambda at, count, filling: PHOTO[:at] + filling + PHOTO[at + count :],
    st.integers(0, len(PHOTO)),
    st.integers(0, 400),
    st.binary(max_size=40),
)


@given(st.one_of(truncated, flipped_bits, replaced_bytes))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_damaged_photographs_are_read_or_have_a_reason(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("damaged") / "x.jpg"
    file.write_bytes(content)
    with alarm(20):
        reasons = unreadable_images(file.parent, [file.name])
        if reasons:
            assert "\n" not in reasons["x.jpg"] and len(reasons["x.jpg"]) < 200
        else:
            assert read_image(file).mode == "RGB" and read_header(file).mode


@pytest.fixture
def bank(tmp_path):
    """Return a function from a folder and further words to the command line that generates a bank of its images."""
    return lambda folder, *words: [
        "generate", "--root", folder.parent, "--images", folder, "--bank", tmp_path / "bank", "--teacher",
        "demo:teacher", "--per-image", 2, *words,
    ]  # fmt: skip


@pytest.fixture
def photos(tmp_path):
    """A folder with one readable photograph."""
    return write(tmp_path / "photos", {"good.jpg": lambda: PHOTO})


@pytest.mark.parametrize(
    ("part", "name"), [("train", "truncated at 5 tenths.jpg"), ("val", "bomb.png"), ("test", "html.jpg")]
)
def test_training_refuses_broken_images(training, root, part, name):
    write(root / "dtd" / "images", {IN_SPLIT[part]: BROKEN[name]})
    names = (IN_SPLIT[part], "SKIP_UNREADABLE")
    training.refused(root, "DATASET.NUM_SHOTS", "-1", names=names, unchanged=[root])


def test_training_on_unusual_images(training, root):
    """Unusual images in the training, validation and test splits."""
    images = sorted((root / "dtd" / "images").rglob("*.jpg"))
    for file, make in zip(images, UNUSUAL.values(), strict=False):
        file.write_bytes(make())
    training.succeeds(root, "OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "-1", trainer="CoOp", unchanged=[root])


def test_generation_refuses_broken_images(bank, photos, tmp_path):
    write(photos, {"html.jpg": BROKEN["html.jpg"]})
    refused(regions.main, bank(photos), ("photos/html.jpg: ", "--skip-unreadable"), unchanged=[photos])
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("pipeline", ["torchvision", pytest.param("dali", marks=needs_dali)])
def test_a_bank_of_unusual_images(bank, tmp_path, pipeline):
    folder = write(tmp_path / "photos", UNUSUAL)
    out = succeeds(regions.main, bank(folder, "--pipeline", pipeline), unchanged=[folder]).out
    assert f"{len(UNUSUAL)} images" in out and f"{2 * len(UNUSUAL)} regions" in out


def test_prediction_of_unusual_images(finished_run, tmp_path):
    folder = write(tmp_path / "photos", UNUSUAL)
    words = [finished_run, folder, "--top", 1, "--output", tmp_path / "p.csv"]
    succeeds(predict.main, words, unchanged=[folder, finished_run])
    assert len((tmp_path / "p.csv").read_text().splitlines()) == len(UNUSUAL) + 1


def test_prediction_names_every_broken_image(finished_run, photos, tmp_path):
    write(photos, BROKEN)
    words = [finished_run, photos, "--top", 1]
    count = f"{len(BROKEN)} of {len(BROKEN) + 1} images cannot be read"
    refused(predict.main, words, [count, *BROKEN], unchanged=[photos])
    listing = tmp_path / "p.unreadable.txt"
    refused(predict.main, [*words, "--output", tmp_path / "p.csv"], [count, str(listing)], unchanged=[photos])
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 2
    listed = listing.read_text().splitlines()
    assert sorted(line.rpartition("/")[2].partition(": ")[0] for line in listed) == sorted(BROKEN)


def test_thin_images_that_are_too_large_after_resizing(tmp_path):
    """Pillow would resize 30,000 pixels to 3,387 million (13.5 GB) for an input of 336 pixels."""
    write(tmp_path, {"thin.png": lambda: encode(scene(30_000, 1), "PNG")})
    assert read_image(tmp_path / "thin.png", side=64).size == (30_000, 1)
    assert unreadable_images(tmp_path, ["thin.png"], side=64) == {}
    with pytest.raises(UnreadableImage, match="30000 x 1 pixels become 3387 million .* resized to 336"):
        read_image(tmp_path / "thin.png", side=336)
    assert list(unreadable_images(tmp_path, ["thin.png"], side=336)) == ["thin.png"]  # although it was read before


@pytest.mark.parametrize("command", ["predict", "train", "test"])
def test_commands_name_thin_images(finished_run, photos, training, root, command, monkeypatch):
    """Uses a limit of 200,000 pixels instead of 179 million."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    thin = {"thin.jpg": lambda: encode(scene(1, 100), "JPEG")}
    if command == "predict":
        write(photos, thin)
        refused(predict.main, [finished_run, photos, "--top", 1], ["thin.jpg: 1 x 100 pixels"])
    else:
        write(root / "dtd" / "images", {IN_SPLIT[command]: thin["thin.jpg"]})
        names = (IN_SPLIT[command], "1 x 100 pixels", "SKIP_UNREADABLE")
        training.refused(root, "DATASET.NUM_SHOTS", "-1", names=names)


@pytest.mark.parametrize("kind", ["pipe", "broken link", "link to itself", "link to a pipe"])
def test_only_regular_files_are_opened(finished_run, bank, photos, tmp_path, kind):
    file = photos / "x.jpg"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        file.symlink_to(tmp_path / "pipe")
    else:
        file.symlink_to(tmp_path / "nothing" if kind == "broken link" else file)
    refused(predict.main, [finished_run, photos], "x.jpg: ", unchanged=[photos])
    if kind != "link to a pipe":
        refused(regions.main, bank(photos), "x.jpg: ", unchanged=[photos])


def test_a_folder_with_the_name_of_an_image(finished_run, photos):
    (photos / "x.jpg").mkdir()
    succeeds(predict.main, [finished_run, photos])


def test_unusual_photographs_from_the_web(shared):
    """Exactly the images that Pillow refuses are unreadable."""
    folder = shared / "data" / "odd_images"
    names = [file.name for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png")]
    bad = unreadable_images(folder, sorted(names))
    for name in names:
        try:
            with Image.open(folder / name) as image:
                readable = not image.mode.startswith(("I", "F")) and bool(image.convert("RGB"))
        except Exception:
            readable = False
        assert readable == (name not in bad), name
