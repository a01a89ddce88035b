"""ImageNet's folders and those of its shifts, on a few synsets."""

import os
import pickle
import random
from types import SimpleNamespace

import pytest
from dassl.config import get_cfg_default
from dassl.data.datasets import DatasetBase

import datasets
from datasets.imagenet import ImageNet
from datasets.imagenet_shifts import ImageNetA, ImageNetR, ImageNetSketch, ImageNetV2
from fdbpl.engine import registry
from fdbpl.engine.checks import assert_no_test_leakage
from fdbpl.errors import UserError

from .trees import below, config, small_images

NAMES = {f"n{10 * number:08d}": f"thing {number}" for number in range(12)}
NAMES["n00000070"] = NAMES["n00000030"]  # as in CLIP's list: one name for two synsets
SYNSETS = list(NAMES)
SUBSET = ["n00000020", "n00000050", "n00000070", "n00000110"]
SHIFTS = [  # class, image folder, its sub-folder of each label, synset of each label
    (ImageNetV2, "imagenetv2/imagenetv2-matched-frequency-format-val", [str(k) for k in range(12)], SYNSETS),
    (ImageNetSketch, "imagenet-sketch/images", SYNSETS, SYNSETS),
    (ImageNetA, "imagenet-adversarial/imagenet-a", SUBSET, SUBSET),
    (ImageNetR, "imagenet-rendition/imagenet-r", SUBSET, SUBSET),
]
shifts = pytest.mark.parametrize(
    ("kind", "folder", "folders", "synsets"), SHIFTS, ids=[row[0].__name__ for row in SHIFTS]
)


def write_names(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("".join(f"{synset} {name}\n" for synset, name in names.items()))


@pytest.fixture
def root(tmp_path):
    """Five training and two validation images of each synset, made in an order that is not the sorted one."""
    backwards = list(reversed(SYNSETS))
    small_images(
        tmp_path / "imagenet" / "images",
        [f"train/{synset}/{synset}_{k}.JPEG" for k in (4, 0, 3, 1, 2) for synset in backwards]
        + [f"val/{synset}/ILSVRC2012_val_{k}.JPEG" for k in (1, 0) for synset in backwards],
    )
    write_names(tmp_path / "imagenet")
    return tmp_path


def make_shift(root, folder, folders):
    """Three images of each label, and what lies beside them in the archives."""
    small_images(root / folder, [f"{name}/{k}.jpg" for k in (2, 0, 1) for name in reversed(folders)])
    (root / folder / "README.txt").write_text("not a class")


def test_folders_are_listed_in_sorted_order(root):
    images = root / "imagenet" / "images"
    small_images(images / "train", [f"{SYNSETS[0]}/.hidden.JPEG", f"{SYNSETS[0]}/Thumbs.db"])
    dataset = ImageNet(config(root))
    assert dataset.classnames == [NAMES[synset] for synset in SYNSETS]
    assert below(images, dataset.train_x) == [
        (f"train/{synset}/{synset}_{k}.JPEG", label, NAMES[synset])
        for label, synset in enumerate(SYNSETS) for k in range(5)
    ]  # fmt: skip
    assert below(images, dataset.test) == [
        (f"val/{synset}/ILSVRC2012_val_{k}.JPEG", label, NAMES[synset])
        for label, synset in enumerate(SYNSETS) for k in range(2)
    ]  # fmt: skip
    assert not dataset.val and dataset.sizes == (12, 60, 0, 24)


def generate_fewshot_dataset(items, num_shots):
    """Dassl's own draw, from Python's global generator."""
    return DatasetBase(train_x=items, test=items).generate_fewshot_dataset(items, num_shots=num_shots)


def test_few_shots_are_drawn_as_by_dassl_and_from_train_alone(root):
    random.seed(3)
    expected = generate_fewshot_dataset(ImageNet(config(root)).train_x, num_shots=2)
    for _ in range(2):  # drawn, then read
        dataset = ImageNet(config(root, 2, seed=3))
        assert [item.impath for item in dataset.train_x] == [item.impath for item in expected]
        assert not dataset.val and len(dataset.test) == 24
    assert (root / "imagenet" / "split_fewshot" / "shot_2-seed_3.json").is_file()


def test_halves(root):
    base, new = (ImageNet(config(root, 1, half)) for half in ("base", "new"))
    assert base.classnames == [NAMES[synset] for synset in SYNSETS[:6]]
    assert new.classnames == [NAMES[synset] for synset in SYNSETS[6:]]
    assert {item.label for item in new.test} == set(range(6)) and len(new.test) == 12


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_stale_cache_of_coop_is_not_read(root):
    (root / "imagenet" / "preprocessed.pkl").write_bytes(pickle.dumps(Payload(str(root / "executed"))))
    assert len(ImageNet(config(root)).train_x) == 60
    assert not (root / "executed").exists()


def rename_folder(root):
    (root / "imagenet" / "images" / "val" / SYNSETS[3]).rename(root / "imagenet" / "images" / "val" / "n99999999")


def flatten_val(root):
    val = root / "imagenet" / "images" / "val"
    for file in list(val.glob("*/*")):
        file.rename(val / f"{file.parent.name}_{file.name}")
    for folder in list(val.iterdir()):
        if folder.is_dir():
            folder.rmdir()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda root: (root / "imagenet" / "classnames.txt").unlink(), "the list of class names is missing"),
        (lambda root: write_names(root / "imagenet", {"n00000000": ""}), "'n00000000 ' .* is not a synset"),
        (lambda root: write_names(root / "imagenet", dict(list(NAMES.items())[1:])), "name for the folder n00000000"),
        (lambda root: (root / "imagenet" / "images" / "val").rename(root / "moved"), "images/val"),
        (flatten_val, "val has no class folders"),
        (rename_folder, r"no class name for the folder n99999999 .* \(1 such"),
        (lambda root: os.remove(root / "imagenet" / "images" / "val" / SYNSETS[0] / "ILSVRC2012_val_0.JPEG"), None),
    ],
)
def test_what_is_missing_is_named(root, damage, sentence):
    damage(root)
    if sentence is None:  # a data set that was cut down is no mistake
        assert ImageNet(config(root)).sizes.test == 23
        return
    with pytest.raises(UserError, match=sentence + ".*run: bash scripts/prepare_data.sh imagenet --root"):
        ImageNet(config(root))


def test_train_and_val_of_different_classes(root):
    for file in (root / "imagenet" / "images" / "val" / SYNSETS[0]).iterdir():
        file.unlink()
    (root / "imagenet" / "images" / "val" / SYNSETS[0]).rmdir()
    with pytest.raises(UserError, match=rf"train and val of .* have different classes: {SYNSETS[0]} "):
        ImageNet(config(root))


@shifts
def test_shifts_have_imagenets_names(root, kind, folder, folders, synsets):
    make_shift(root, folder, folders)
    dataset = kind(config(root, 16))
    assert below(root / folder, dataset.test) == [
        (f"{name}/{k}.jpg", label, NAMES[synsets[label]]) for label, name in enumerate(folders) for k in range(3)
    ]
    names_of_imagenet = ImageNet(config(root)).classnames
    assert dataset.classnames == [names_of_imagenet[SYNSETS.index(synset)] for synset in synsets]
    assert dataset.sizes == (len(synsets), 0, 0, 3 * len(synsets)) and dataset.protocol["train_images"] == 0
    assert not list(root.rglob("shot_*")) and not dataset.val


@shifts
def test_halves_of_shifts(root, kind, folder, folders, synsets):
    make_shift(root, folder, folders)
    new = kind(config(root, 16, "new"))
    half = len(synsets) // 2
    assert new.classnames == [NAMES[synset] for synset in synsets[half:]]
    assert [item.label for item in new.test] == [label for label in range(half) for _ in range(3)]


@shifts
def test_nothing_is_learnt_from_shifts(root, kind, folder, folders, synsets):
    make_shift(root, folder, folders)
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    registry.extend_cfg(cfg)
    cfg.merge_from_other_cfg(config(root, 16))
    cfg.DATASET.NAME = kind.__name__
    cfg.TRAINER.NAME = "FDBPL"
    with pytest.raises(UserError, match=f"{kind.__name__} is a data set for tests only"):
        registry.region_bank_spec(cfg)


def test_a_shifts_own_names(root):
    _, folder, folders, _ = SHIFTS[2]
    make_shift(root, folder, folders)
    own = root / "imagenet-adversarial"
    write_names(own)
    assert ImageNetA(config(root)).classnames == [NAMES[synset] for synset in SUBSET]
    write_names(own, {**NAMES, SUBSET[1]: "another word"})
    with pytest.raises(UserError, match="n00000050 'another word', but .* 'thing 5'; delete"):
        ImageNetA(config(root))
    (root / "imagenet" / "classnames.txt").unlink()
    assert ImageNetA(config(root)).classnames[1] == "another word"
    (own / "classnames.txt").unlink()
    with pytest.raises(UserError, match="neither .* exists; run: bash scripts/prepare_data.sh imagenet_a --root"):
        ImageNetA(config(root))


def test_a_folder_of_v2_is_missing(root):
    _, folder, folders, _ = SHIFTS[0]
    make_shift(root, folder, [name for name in folders if name != "7"])
    with pytest.raises(UserError, match=r"a class folder of ImageNetV2 is missing.*format-val/7"):
        ImageNetV2(config(root))


def choice(final_model, train_x, val, test):
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.TEST.FINAL_MODEL = "Some", final_model
    return cfg, SimpleNamespace(train_x=train_x, val=val, test=test)


def test_no_epoch_is_chosen_by_test_images():
    train, val, test = [1], [2], [3]
    assert_no_test_leakage(*choice("best_val", train, val, test))
    for none in ([], None):
        assert_no_test_leakage(*choice("last_step", train, none, test))
    for held_out in ([], None, test):  # the last one is CoOp's own ImageNet
        with pytest.raises(UserError, match="Some has only test images"):
            assert_no_test_leakage(*choice("best_val", train, held_out, test))
