"""Which image files a training opens, in each protocol: those that it learns from, and no test image ever."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import build_from
from .methods import learnt, same

SYNSETS = ["n00000001", "n00000002", "n00000003", "n00000004"]
SUFFIXES = (".jpg", ".JPEG")


class Opened:
    """Image files below a root that this process opens while `on`, whatever opens them: an audit hook sees all."""

    def __init__(self):
        self.on, self.files = False, set()
        sys.addaudithook(self._hear)  # stays as long as the process

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.on and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if path.endswith(SUFFIXES):
                self.files.add(os.path.realpath(path))


OPENED = Opened()


@pytest.fixture
def opened():
    OPENED.files = set()
    yield OPENED
    OPENED.on = False


def picture(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (40, 44, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")


@pytest.fixture
def world(data_root, tmp_path) -> Path:
    """A data root with a small data set of ten classes, a smaller ImageNet, and other pictures of its classes."""
    root = tmp_path / "data"
    (root / "tiny").mkdir(parents=True)
    (root / "tiny/split.json").write_bytes((data_root / "tiny/split.json").read_bytes())
    (root / "tiny/images").mkdir()
    for file in (data_root / "tiny/images").iterdir():
        (root / "tiny/images" / file.name).write_bytes(file.read_bytes())
    for label, synset in enumerate(SYNSETS):
        for number in range(3):
            picture(root / f"imagenet/images/train/{synset}/{number}.JPEG", 10 * label + number)
            picture(root / f"imagenet/images/val/{synset}/{number}.JPEG", 100 + 10 * label + number)
            shifted = "imagenetv2/imagenetv2-matched-frequency-format-val"
            picture(root / f"{shifted}/{label}/{number}.jpg", 200 + 10 * label + number)
    names = "".join(f"{synset} thing {synset[-1]}\n" for synset in SYNSETS)
    (root / "imagenet/classnames.txt").write_text(names)
    return root


PROTOCOLS = {
    "base2new": {"DATASET.NAME": "TinyWorld", "DATASET.SUBSAMPLE_CLASSES": "base"},
    "few_shot": {"DATASET.NAME": "TinyWorld", "DATASET.SUBSAMPLE_CLASSES": "all"},
    "cross_dataset": {"DATASET.NAME": "ImageNet", "DATASET.SUBSAMPLE_CLASSES": "all"},  # target: the small data set
    "domain_generalization": {"DATASET.NAME": "ImageNet", "DATASET.SUBSAMPLE_CLASSES": "all"},  # ImageNetV2
}
BY_DALI = {"REGIONS.PIPELINE": "dali"}
SUPERVISIONS = {  # one trainer for each way that pixels take
    "labels": ("CoOp", {}),
    "online teacher": ("MaPLe_KDPL", {}),
    "bank, looked up": ("FDBPL", {}),
    "bank, cut by torchvision": ("FDBPL_MaPLe", {}),
    "bank, cut by DALI": ("FDBPL_MaPLe", BY_DALI),
}


def build(cfg_in, folder: Path, world: Path, protocol: str, supervision: str, **settings):
    """The trainer, its region bank made; the bank's teacher opens images as well."""
    name, own = SUPERVISIONS[supervision]
    if own == BY_DALI:
        pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    values = {"DATASET.ROOT": str(world), "OPTIM.MAX_EPOCH": 2, **PROTOCOLS[protocol], **own, **settings}
    return build_from(cfg_in(folder, name, "run", values))


def paths(items) -> set[str]:
    return {os.path.realpath(item.impath) for item in items or ()}


def stop_listening_in_tests(trainer, opened: Opened) -> None:
    """The end of a training is a test: what it opens is not opened in training. Validation is."""
    test = trainer.test

    def deaf(split=None):
        opened.on = split == "val"
        return test(split)

    trainer.test = deaf


@pytest.mark.parametrize("supervision", SUPERVISIONS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_training_opens_its_own_images_alone(cfg_in, world, tmp_path, opened, protocol, supervision):
    build(cfg_in, tmp_path, world, protocol, "labels")  # whether images can be decoded is asked of all, once
    opened.on = True
    trainer = build(cfg_in, tmp_path, world, protocol, supervision)
    labelled = opened.files
    train, test = paths(trainer.dm.dataset.train_x), paths(trainer.dm.dataset.test)
    assert train and test and not train & test
    assert labelled == (train if "bank" in supervision else set())
    stop_listening_in_tests(trainer, opened)
    opened.files = set()
    trainer.train()
    assert opened.files == (set() if supervision == "bank, looked up" else train)


@pytest.mark.parametrize("supervision", ["labels", "bank, cut by torchvision"])
def test_an_epoch_is_chosen_by_validation_images(cfg_in, world, tmp_path, opened, supervision):
    chosen = {"TEST.FINAL_MODEL": "best_val", "TEST.FEATURE_CACHE_DIR": ""}
    trainer = build(cfg_in, tmp_path, world, "base2new", supervision, **chosen)
    stop_listening_in_tests(trainer, opened)
    opened.on = True
    trainer.train()
    dataset = trainer.dm.dataset
    assert opened.files == paths(dataset.train_x) | paths(dataset.val)
    assert dataset.val and not opened.files & paths(dataset.test)


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_what_is_learnt_without_any_test_image(cfg_in, world, tmp_path, supervision):
    """The same, whoever reads the files: those that are not learnt from are gone or broken."""
    learnt_with = []
    for number in range(2):
        trainer = build(cfg_in, tmp_path / str(number), world, "base2new", supervision, **{"TEST.NO_TEST": True})
        if number:
            own = paths(trainer.dm.dataset.train_x)
            files = [file for file in world.rglob("*") if file.suffix in SUFFIXES]
            others = [file for file in files if os.path.realpath(file) not in own]
            assert paths(trainer.dm.dataset.test) <= set(map(os.path.realpath, others))
            for file in others[::2]:
                file.unlink()
            for file in others[1::2]:
                file.write_bytes(b"no picture")
        trainer.train()
        learnt_with.append(learnt(trainer))
    assert learnt_with[0] and same(*learnt_with)
