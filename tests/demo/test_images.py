"""Synthetic data sets: their images, splits, distribution shifts and resumed drawing."""

import dataclasses
import hashlib
import json
from io import BytesIO

import numpy as np
import pytest
import torch
from dassl.config import get_cfg_default
from PIL import Image

import datasets
from datasets.demo import DemoHard, DemoSketch, DrawnDataset
from fdbpl.backbones import load_backbone
from fdbpl.demo import synthetic_dataset
from fdbpl.demo.colours import COLOURS
from fdbpl.demo.corruptions import CORRUPTIONS, corrupted
from fdbpl.demo.dataset import DEMO
from fdbpl.demo.drawing import BACKGROUNDS, UNSEEN_BACKGROUNDS, background
from fdbpl.demo.forms import NAMES
from fdbpl.demo.shifts import CORRUPTED, SKETCH, WORLD
from fdbpl.demo.synthetic_dataset import CLASS_SPLITS
from fdbpl.demo.two_senses import HARD
from fdbpl.errors import UserError

SETS = [DEMO, HARD, SKETCH, WORLD, CORRUPTED, COLOURS]
SHIFTS = [SKETCH, WORLD, CORRUPTED]


def each(sets):
    return pytest.mark.parametrize("data", sets, ids=lambda data: data.title)


# images of the reported results
SHA256 = {
    ("test", "star", 0): "634d80bcb50666a296aa242ad6f23bf35a61a3ea93ca636fa605af380e33224f",
    ("test", "gear", 91): "d86d2dc496106615a0647d326aada3781ea696b37f583d7563e466445771c20f",
    ("test", "cup", 40): "7e687b4101e50b7e6ec03b562f4e4f9dd144d497629ca693a173a695b7dfd1a5",
    ("validation", "leaf", 5): "71f00321b13bf95f7ce2dd9cfd0fbea75efbe9abc0de1c5b2695a5e17d804821",
    ("validation", "ring", 60): "d565f452323a33b5d99be3bc43ebec95085a1acc2c30059209700f9c51d39149",
}


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("key", SHA256, ids=str)
def test_demo_images_are_unchanged(key):
    assert hashlib.sha256(DEMO.image(*key)).hexdigest() == SHA256[key]
    assert DEMO.version == 1


@each(SETS)
def test_images_depend_only_on_draw_class_and_number(data):
    one, other = data.classes[2], data.classes[5]
    first = data.first
    keys = [("test", one, first), ("test", one, first + 1), ("validation", one, first), ("test", other, first)]
    drawn = [data.image(*key) for key in keys]
    assert drawn == [data.image(*key) for key in reversed(keys)][::-1]
    assert len(set(drawn)) == 4
    sizes = [opened(data).size for data in drawn]
    assert len(set(sizes)) > 1
    assert all(min(size) >= 96 * 0.99 and max(size) <= min(256, 1.8 * min(size)) for size in sizes)


def small(data, numbers=3):
    """Return a copy with two classes and few images."""
    counts = dict.fromkeys(data.counts, numbers)
    return dataclasses.replace(data, classes=data.classes[:2], counts=counts)


@each([DEMO, SKETCH])
def test_resumed_drawing_equals_an_uninterrupted_one(tmp_path, monkeypatch, data):
    monkeypatch.setattr(synthetic_dataset, "ProcessPoolExecutor", InProcessPool)
    few = small(data)
    one, other = few.classes
    numbers = list(few.numbers)
    few.draw_into(tmp_path / "whole", "test")
    few.draw_into(tmp_path / "broken", "test")
    (tmp_path / "broken/drawn.json").rename(tmp_path / "broken/drawing.json")
    (tmp_path / f"broken/images/{other}/{numbers[1]:04d}.jpg").unlink()
    kept = tmp_path / f"broken/images/{one}/{numbers[0]:04d}.jpg"
    before = kept.stat().st_mtime_ns
    few.draw_into(tmp_path / "broken", "test")
    assert kept.stat().st_mtime_ns == before
    whole, broken = ({f.relative_to(root): f.read_bytes() for f in root.rglob("*") if f.is_file()}
                     for root in (tmp_path / "whole", tmp_path / "broken"))  # fmt: skip
    assert whole == broken
    assert len([f for f in whole if f.suffix == ".jpg"]) == 2 * len(numbers)


@pytest.mark.parametrize("marker", ["drawn.json", "drawing.json"])
def test_images_with_an_old_marker_are_kept(tmp_path, monkeypatch, marker):
    monkeypatch.setattr(synthetic_dataset, "ProcessPoolExecutor", InProcessPool)
    few = small(DEMO)
    few.draw_into(tmp_path, "test")
    (tmp_path / "drawn.json").unlink()
    (tmp_path / marker).write_text(json.dumps({"draw": "test", "version": 1, "pictures": len(few.numbers)}))
    kept = next(tmp_path.rglob("*.jpg"))
    before = kept.stat().st_mtime_ns
    few.draw_into(tmp_path, "test")
    assert few.is_drawn(tmp_path, "test") and kept.stat().st_mtime_ns == before


class InProcessPool:
    """Runs the jobs of a process pool in this process, where the small data set exists."""

    def __init__(self, *arguments, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *details):
        pass

    map = staticmethod(map)


@each([data for data in SETS if data is not HARD])
def test_four_class_orders_share_the_images(data):
    splits = [data.split(k) for k in CLASS_SPLITS]
    files = [{part: sorted(row[0] for row in rows) for part, rows in split.items()} for split in splits]
    assert all(other == files[0] for other in files)
    half = len(data.classes) // 2
    halves = {frozenset(name for _, label, name in split["test"] if label < half) for split in splits}
    assert len(halves) == 4 and all(len(names) == half for names in halves)
    for split in splits:
        counts = {part: len(rows) // len(data.classes) for part, rows in split.items()}
        assert counts == {"train": 0, "val": 0} | dict(data.counts)
        assert not {row[0] for row in split["train"]} & {row[0] for row in split["test"]}


def test_sizes_of_the_splits():
    assert {part: len(rows) for part, rows in DEMO.split(1).items()} == {"train": 672, "val": 112, "test": 1792}


@each(SHIFTS)
def test_shifts_have_the_labels_of_the_demo(data):
    for k in CLASS_SPLITS:
        assert {row[1:] for row in data.split(k)["test"]} == {row[1:] for row in DEMO.split(k)["test"]}


def test_corrupted_images_are_the_test_images_of_the_demo():
    assert {row[0] for row in CORRUPTED.split(1)["test"]} < {row[0] for row in DEMO.split(1)["test"]}
    for number in list(CORRUPTED.numbers)[:5]:
        corrupt, clean = opened(CORRUPTED.image("test", "key", number)), opened(DEMO.image("test", "key", number))
        assert corrupt.size == clean.size
        pair = [np.asarray(image.resize((16, 16), Image.Resampling.BOX), float).ravel() for image in (corrupt, clean)]
        assert np.corrcoef(pair)[0, 1] > 0.8


def test_corruptions_are_equally_frequent_and_change_the_image():
    assert len(CORRUPTED.numbers) % len(CORRUPTIONS) == 0
    image = opened(DEMO.image("test", "anchor", 30))
    results = [corrupted(np.random.default_rng(1), image, kind) for kind in CORRUPTIONS]
    for kind, result in zip(CORRUPTIONS, results, strict=True):
        assert result.size == image.size and result.mode == "RGB", kind
        assert np.abs(np.asarray(result, int) - np.asarray(image, int)).mean() > 2, kind
    assert len({result.tobytes() for result in results}) == len(CORRUPTIONS)


def test_unseen_backgrounds_are_new_and_in_0_to_1():
    assert not set(UNSEEN_BACKGROUNDS) & set(BACKGROUNDS)
    for kind in UNSEEN_BACKGROUNDS:
        share = background(np.random.default_rng(3), kind, 90, 70)
        assert share.shape == (70, 90) and share.min() >= 0 and share.max() <= 1 and share.std() > 0.1, kind


def test_test_only_sets_have_no_training_images(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_dataset, "ProcessPoolExecutor", InProcessPool)
    monkeypatch.setattr(DemoSketch, "source", small(SKETCH, 2))
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.FEWSHOT_DIR, cfg.DATASET.NUM_SHOTS = str(tmp_path), str(tmp_path / "cache"), 16
    dataset = DemoSketch(cfg)
    assert dataset.protocol["train_images"] == 0 and dataset.protocol["test_images"] == 4
    assert dataset.train_x is dataset.test
    assert not list(tmp_path.rglob("shot_*"))


@pytest.mark.parametrize("other", ["cat/1.jpg", "labels.csv", "demo_sketch/1.jpg"])
def test_a_folder_with_other_files_is_refused(tmp_path, other):
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text("")
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.ROOT = str(tmp_path)
    with pytest.raises(UserError, match="demo_sketch would be drawn into .*, which holds other files"):
        DemoSketch(cfg)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / other]


def zero_shot(data, template="a photo of a {}.", per_class=8) -> float:
    """Accuracy of the ResNet student in percent."""
    model, images = load_backbone("demo:rn-student"), []
    for name in data.classes:
        for number in list(data.numbers)[-per_class:]:
            image = opened(data.image("validation", name, number))
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            box = (left, top, left + side, top + side)
            images.append(np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC, box=box)))
    labels = torch.arange(len(data.classes)).repeat_interleave(per_class)
    features = model.encode_image(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
    texts = model.encode_text([template.format(name) for name in data.classes])
    return 100 * (features @ texts.T).argmax(1).eq(labels).float().mean().item()


@pytest.mark.slow
def test_shifts_are_harder_than_the_demo_and_well_above_chance():
    easiest = zero_shot(DEMO)
    for data in SHIFTS:
        assert 6 * 100 / len(NAMES) < zero_shot(data) < easiest - 6, data.title


def test_colours_are_recognised_but_improvable():
    assert 30 < zero_shot(COLOURS, per_class=16) < 70


@pytest.mark.parametrize("share", [1.0, 0.75])
def test_the_halves_show_their_names_in_opposite_senses(share):
    data = dataclasses.replace(HARD, share=share)
    used = {}
    for class_split in CLASS_SPLITS:
        rows = data.split(class_split)
        base = {name for _, label, name in rows["train"] if label < 14}
        assert len(base) == 14 and base == {name for _, _, name in DEMO.split(class_split)["test"][: 14 * 64]}
        paths = {part: [path for path, _, _ in rows[part]] for part in rows}
        assert [len(paths[part]) // 28 for part in ("train", "val", "test")] == [24, 4, 40]
        assert len(set(sum(paths.values(), []))) == 28 * 68  # no image twice
        for part, chosen in rows.items():
            for name in NAMES:
                odd = [int(path[-8:-4]) % 2 for path, _, other in chosen if other == name]  # odd = workshop sense
                assert sum(odd) / len(odd) == (share if name in base else 1 - share), (part, name)
        used[class_split] = set(paths["train"])
    assert used[1] != used[2]


def test_a_share_of_the_senses_has_rows_and_few_shot_lists_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(type(HARD), "draw_into", lambda self, folder, draw: None)
    monkeypatch.setattr(type(HARD), "is_drawn", lambda self, folder, draw: True)
    monkeypatch.setattr(DrawnDataset, "read_split", lambda self: HARD.split(1))
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.FEWSHOT_DIR = str(tmp_path)
    folders = []
    for share in (1.0, 0.75, 0.5):
        cfg.DATASET.DEMO.SHARE = share
        dataset = DemoHard.__new__(DemoHard)
        dataset.root = str(tmp_path)
        dataset.prepare(cfg)
        folders += dataset.few_shot_folders(cfg)
        odd = [int(path[-8:-4]) % 2 for path, label, _ in dataset.read_split()["test"] if label < 14]
        assert np.mean(odd) == share
    assert len(set(folders)) == 6
    cfg.DATASET.DEMO.SHARE = 1.5
    with pytest.raises(UserError, match="SHARE is 1.5"):
        dataset.prepare(cfg)
    sketch = DemoSketch.__new__(DemoSketch)
    sketch.root = str(tmp_path)
    with pytest.raises(UserError, match="SHARE 1.5 is a setting of demo_hard, but the data set is demo_sketch"):
        sketch.prepare(cfg)
