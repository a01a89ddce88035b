"""Training opens only its own images, and no test image, in each protocol."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import build_from
from .methods import learned, same

SYNSETS = ["n00000001", "n00000002", "n00000003", "n00000004"]
SUFFIXES = (".jpg", ".JPEG")


class OpenedFiles:
    """Image files that any library opens in this process while `on` is true; recorded by an audit hook."""

    def __init__(self):
        self.on, self.files = False, set()
        sys.addaudithook(self._record)  # cannot be removed

    def _record(self, event: str, arguments: tuple) -> None:
        if self.on and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if path.endswith(SUFFIXES):
                self.files.add(os.path.realpath(path))


OPENED = OpenedFiles()


@pytest.fixture
def opened():
    OPENED.files = set()
    yield OPENED
    OPENED.on = False


def draw_image(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (40, 44, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")


@pytest.fixture
def root(data_root, tmp_path) -> Path:
    """A data root with the tiny data set, a small ImageNet, and shifted images of its classes."""
    root = tmp_path / "data"
    (root / "tiny/images").mkdir(parents=True)
    (root / "tiny/split.json").write_bytes((data_root / "tiny/split.json").read_bytes())
    for file in (data_root / "tiny/images").iterdir():
        (root / "tiny/images" / file.name).write_bytes(file.read_bytes())
    shifted = "imagenetv2/imagenetv2-matched-frequency-format-val"
    for label, synset in enumerate(SYNSETS):
        for number in range(3):
            draw_image(root / f"imagenet/images/train/{synset}/{number}.JPEG", 10 * label + number)
            draw_image(root / f"imagenet/images/val/{synset}/{number}.JPEG", 100 + 10 * label + number)
            draw_image(root / f"{shifted}/{label}/{number}.jpg", 200 + 10 * label + number)
    names = "".join(f"{synset} thing {synset[-1]}\n" for synset in SYNSETS)
    (root / "imagenet/classnames.txt").write_text(names)
    return root


PROTOCOLS = {
    "base2new": {"DATASET.NAME": "TinyDataset", "DATASET.SUBSAMPLE_CLASSES": "base"},
    "few_shot": {"DATASET.NAME": "TinyDataset", "DATASET.SUBSAMPLE_CLASSES": "all"},
    "cross_dataset and domain_generalization": {"DATASET.NAME": "ImageNet", "DATASET.SUBSAMPLE_CLASSES": "all"},
}
DALI = {"REGIONS.PIPELINE": "dali"}
SUPERVISIONS = {  # each way to read pixels
    "labels": ("CoOp", {}),
    "online teacher": ("MaPLe_KDPL", {}),
    "bank, looked up": ("FDBPL", {}),
    "bank, cropped by torchvision": ("FDBPL_MaPLe", {}),
    "bank, cropped by DALI": ("FDBPL_MaPLe", DALI),
}


def build(cfg_in, folder: Path, root: Path, protocol: str, supervision: str, **settings):
    """Build the trainer and its region bank, for which the teacher opens images as well."""
    name, own = SUPERVISIONS[supervision]
    if own == DALI:
        pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    values = {"DATASET.ROOT": str(root), "OPTIM.MAX_EPOCH": 2, **PROTOCOLS[protocol], **own, **settings}
    return build_from(cfg_in(folder, name, "run", values))


def paths(items) -> set[str]:
    return {os.path.realpath(item.impath) for item in items or ()}


def ignore_tests(trainer, opened: OpenedFiles) -> None:
    """Record files of validations, but not of the final test."""
    test = trainer.test

    def unrecorded(split=None):
        opened.on = split == "val"
        return test(split)

    trainer.test = unrecorded


@pytest.mark.parametrize("supervision", SUPERVISIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_training_opens_only_its_own_images(cfg_in, root, tmp_path, opened, protocol, supervision):
    build(cfg_in, tmp_path, root, protocol, "labels")  # the check of all images runs only once
    opened.on = True
    trainer = build(cfg_in, tmp_path, root, protocol, supervision)
    embedded = opened.files
    train, test = paths(trainer.dm.dataset.train_x), paths(trainer.dm.dataset.test)
    assert train and test and not train & test
    assert embedded == (train if "bank" in supervision else set())
    ignore_tests(trainer, opened)
    opened.files = set()
    trainer.train()
    assert opened.files == (set() if supervision == "bank, looked up" else train)


@pytest.mark.parametrize("supervision", ["labels", "bank, cropped by torchvision"])
def test_the_best_epoch_is_selected_by_validation_images(cfg_in, root, tmp_path, opened, supervision):
    best = {"TEST.FINAL_MODEL": "best_val", "TEST.FEATURE_CACHE_DIR": ""}
    trainer = build(cfg_in, tmp_path, root, "base2new", supervision, **best)
    ignore_tests(trainer, opened)
    opened.on = True
    trainer.train()
    dataset = trainer.dm.dataset
    assert opened.files == paths(dataset.train_x) | paths(dataset.val)
    assert dataset.val and not opened.files & paths(dataset.test)


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_other_images_have_no_effect_on_training(cfg_in, root, tmp_path, supervision):
    """All other images are deleted or broken before the second training."""
    results = []
    for number in range(2):
        trainer = build(cfg_in, tmp_path / str(number), root, "base2new", supervision, **{"TEST.NO_TEST": True})
        if number:
            own = paths(trainer.dm.dataset.train_x)
            files = [file for file in root.rglob("*") if file.suffix in SUFFIXES]
            others = [file for file in files if os.path.realpath(file) not in own]
            assert paths(trainer.dm.dataset.test) <= set(map(os.path.realpath, others))
            for file in others[::2]:
                file.unlink()
            for file in others[1::2]:
                file.write_bytes(b"no image")
        trainer.train()
        results.append(learned(trainer))
    assert results[0] and same(*results)
