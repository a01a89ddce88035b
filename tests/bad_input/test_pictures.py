"""Unusual images are read identically everywhere; broken images are refused by every command."""

import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fdbpl import predict
from fdbpl.io.image_check import unreadable_images
from fdbpl.io.image_reading import UnreadableImage, image_mode, image_size, read_image
from fdbpl.pipelines import RegionRequests, dali_installed
from fdbpl.pipelines.dali import DaliPipeline
from fdbpl.pipelines.torchvision import TorchvisionPipeline
from fdbpl.regions import __main__ as regions

from .calls import alarm, refused, succeeds
from .pictures import BAD, ODD, saved, scene

needs_dali = pytest.mark.skipif(not dali_installed(), reason="NVIDIA DALI is not installed")
PLACES = {"train": "banded/banded_0.jpg", "val": "dotted/dotted_3.jpg", "test": "woven/woven_5.jpg"}


def put(folder, name, content) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


@pytest.mark.parametrize("name", ODD)
def test_an_unusual_image_is_read_as_pillow_reads_it(tmp_path, name):
    put(tmp_path, name, ODD[name]())
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_image(tmp_path / name)), expected)
    assert image_size(tmp_path / name) == expected.shape[:2]
    assert unreadable_images(tmp_path, [name]) == {}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_image_has_a_reason(tmp_path, name):
    put(tmp_path, name, BAD[name]())
    with pytest.raises(UnreadableImage) as caught:
        read_image(tmp_path / name)
    reason = str(caught.value)
    assert reason and "\n" not in reason and str(tmp_path) not in reason
    assert unreadable_images(tmp_path, [name]) == {name: reason}


def whole(pipeline, names):
    """Whole images as the pipeline returns them: uint8 [N, 3, 16, 16]."""
    boxes = np.tile(np.array([[0, 0, 1, 1]], np.float32), (len(names), 1))
    requests = RegionRequests(list(names), np.arange(len(names)), boxes, np.zeros(len(names), bool))
    batches = list(pipeline(requests))
    return torch.cat([images for _, images in batches])[torch.cat([index for index, _ in batches]).argsort()]


@needs_dali
@pytest.mark.parametrize("decode", ["roi", "decode-once"])
def test_both_pipelines_see_the_same_pixels(tmp_path, decode):
    for name, make in ODD.items():
        put(tmp_path, name, make())
    expected = whole(TorchvisionPipeline(tmp_path, 16, 8), ODD)
    found = whole(DaliPipeline(tmp_path, 16, 8, decode=decode), ODD)
    differ = [name for name, ours, theirs in zip(ODD, expected, found, strict=True) if not torch.equal(ours, theirs)]
    assert not differ


PHOTO = saved(scene(96, 64), "JPEG", quality=85)
cuts = st.builds(lambda at: PHOTO[:at], st.integers(0, len(PHOTO) - 3))
flips = st.builds(
    lambda at, bit: PHOTO[:at] + bytes([PHOTO[at] ^ 1 << bit]) + PHOTO[at + 1 :],
    st.integers(0, len(PHOTO) - 1),
    st.integers(0, 7),
)
holes = st.builds(
    lambda at, count, filling: PHOTO[:at] + filling + PHOTO[at + count :],
    st.integers(0, len(PHOTO)),
    st.integers(0, 400),
    st.binary(max_size=40),
)


@given(st.one_of(cuts, flips, holes))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_damaged_photograph_is_read_or_has_a_reason(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("damaged") / "x.jpg"
    file.write_bytes(content)
    with alarm(20):
        reasons = unreadable_images(file.parent, [file.name])
        if reasons:
            assert "\n" not in reasons["x.jpg"] and len(reasons["x.jpg"]) < 200
        else:
            assert read_image(file).mode == "RGB" and image_mode(file)


@pytest.mark.parametrize(
    ("part", "name"), [("train", "cut at 5 tenths.jpg"), ("val", "bomb.png"), ("test", "page.jpg")]
)
def test_training_stops_at_its_start(training, root, part, name):
    place = root / "dtd" / "images" / PLACES[part]
    place.write_bytes(BAD[name]())
    names = ("found 1 that are not", PLACES[part], "SKIP_UNREADABLE")
    training.refused(root, "DATASET.NUM_SHOTS", "-1", names=names, unchanged=[root])


@pytest.fixture
def bank(tmp_path):
    """A function from a folder and further words to the command line that labels its images."""
    return lambda folder, *words: [
        "generate", "--root", folder.parent, "--images", folder, "--bank", tmp_path / "bank", "--teacher",
        "demo:teacher", "--per-image", 2, *words,
    ]  # fmt: skip


def test_generation_refuses_broken_images(bank, tmp_path):
    folder = tmp_path / "pictures"
    put(folder, "page.jpg", BAD["page.jpg"]())
    put(folder, "good.jpg", PHOTO)
    refused(regions.main, bank(folder), ("pictures/page.jpg: ", "--skip-unreadable"), unchanged=[folder])
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("pipeline", ["torchvision", pytest.param("dali", marks=needs_dali)])
def test_a_bank_of_odd_pictures(bank, tmp_path, pipeline):
    folder = tmp_path / "pictures"
    for name, make in ODD.items():
        put(folder, name, make())
    ended = succeeds(regions.main, bank(folder, "--pipeline", pipeline), unchanged=[folder])
    assert f"{len(ODD)} images, 0 of them labelled before; {2 * len(ODD)} regions labelled" in ended.out


def test_predictions_of_odd_pictures(finished_run, tmp_path):
    for name, make in ODD.items():
        put(tmp_path / "pictures", name, make())
    words = [finished_run, tmp_path / "pictures", "--top", 1, "--output", tmp_path / "p.csv"]
    succeeds(predict.main, words, unchanged=[tmp_path / "pictures", finished_run])
    assert len((tmp_path / "p.csv").read_text().splitlines()) == len(ODD) + 1


def test_predictions_name_all_that_cannot_be_read(finished_run, tmp_path):
    for name, make in BAD.items():
        put(tmp_path / "pictures", name, make())
    put(tmp_path / "pictures", "good.jpg", PHOTO)
    words = [finished_run, tmp_path / "pictures", "--top", 1]
    count = f"{len(BAD)} of {len(BAD) + 1} images cannot be read"
    refused(predict.main, words, [count, *BAD], unchanged=[tmp_path / "pictures"])
    names = [count, str(tmp_path / "p.unreadable.txt")]
    refused(predict.main, [*words, "--output", tmp_path / "p.csv"], names, unchanged=[tmp_path / "pictures"])
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 2
    listed = (tmp_path / "p.unreadable.txt").read_text().splitlines()
    assert sorted(line.rpartition("/")[2].partition(": ")[0] for line in listed) == sorted(BAD)


def test_a_thin_image_that_grows_too_large_when_it_is_resized(tmp_path):
    """30,000 pixels become 3,387 million, 13.5 GB, when Pillow resizes the image to 336 pixels."""
    put(tmp_path, "thin.png", saved(scene(30_000, 1), "PNG"))
    assert read_image(tmp_path / "thin.png", side=64).size == (30_000, 1)
    assert unreadable_images(tmp_path, ["thin.png"], side=64) == {}
    with pytest.raises(UnreadableImage, match="30000 x 1 pixels, which are 3387 million .* resized to 336"):
        read_image(tmp_path / "thin.png", side=336)
    assert list(unreadable_images(tmp_path, ["thin.png"], side=336)) == ["thin.png"]  # although it was read before


@pytest.fixture
def small_limit(monkeypatch):
    """A limit of 200,000 pixels instead of 179 million."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)


def test_predictions_name_thin_images(finished_run, tmp_path, small_limit):
    put(tmp_path / "pictures", "thin.png", saved(scene(100, 1), "PNG"))
    put(tmp_path / "pictures", "good.jpg", PHOTO)
    refused(predict.main, [finished_run, tmp_path / "pictures", "--top", 1], ["thin.png: 100 x 1 pixels"])


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_run_stops_at_its_start_for_a_thin_image(training, root, small_limit, part):
    (root / "dtd" / "images" / PLACES[part]).write_bytes(saved(scene(1, 100), "JPEG"))
    training.refused(root, "DATASET.NUM_SHOTS", "-1", names=(PLACES[part], "1 x 100 pixels", "SKIP_UNREADABLE"))


def test_a_run_on_odd_pictures(training, root):
    """Unusual images as training, validation and test images."""
    images = sorted((root / "dtd" / "images").rglob("*.jpg"))
    for file, make in zip(images, ODD.values(), strict=False):
        file.write_bytes(make())
    training.succeeds(root, "OPTIM.MAX_EPOCH", "1", "DATASET.NUM_SHOTS", "-1", trainer="CoOp", unchanged=[root])


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing", "link to itself", "pipe behind a link"])
def test_what_is_no_file_is_not_waited_for(finished_run, bank, tmp_path, kind):
    folder = tmp_path / "pictures"
    put(folder, "good.jpg", PHOTO)
    file = folder / "x.jpg"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "pipe behind a link":
        os.mkfifo(tmp_path / "pipe")
        file.symlink_to(tmp_path / "pipe")
    else:
        file.symlink_to(tmp_path / "nothing" if kind == "link to nothing" else file)
    if kind == "folder":  # whose name does not matter
        succeeds(predict.main, [finished_run, folder])
    else:
        refused(predict.main, [finished_run, folder], "x.jpg: ", unchanged=[folder])
        if kind == "pipe behind a link":
            return
        refused(regions.main, bank(folder), "x.jpg: ", unchanged=[folder])


def test_odd_photographs(shared, tmp_path):
    """Photographs from the internet: exactly those that Pillow refuses are refused."""
    files = sorted((shared / "data" / "odd_images").rglob("*"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, file in enumerate(file for file in files if file.suffix.lower() in (".jpg", ".jpeg", ".png")):
        shutil.copy(file, folder / f"{number}{file.suffix}")
    bad = unreadable_images(folder, sorted(os.listdir(folder)))
    for name in os.listdir(folder):
        try:
            with Image.open(folder / name) as image:
                readable = not image.mode.startswith(("I", "F")) and bool(image.convert("RGB"))
        except Exception:
            readable = False
        assert readable == (name not in bad), name
