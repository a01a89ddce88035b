"""ImageNet and its shifts on a few synsets."""

import pickle
import random
from types import SimpleNamespace

import pytest
from dassl.config import get_cfg_default
from dassl.data.datasets import DatasetBase

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
SHIFTS = [  # class, image folder, sub-folder of each label, synset of each label
    (ImageNetV2, "imagenetv2/imagenetv2-matched-frequency-format-val", [str(k) for k in range(12)], SYNSETS),
    (ImageNetSketch, "imagenet-sketch/images", SYNSETS, SYNSETS),
    (ImageNetA, "imagenet-adversarial/imagenet-a", SUBSET, SUBSET),
    (ImageNetR, "imagenet-rendition/imagenet-r", SUBSET, SUBSET),
]


def write_names(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classnames.txt").write_text("".join(f"{synset} {name}\n" for synset, name in names.items()))


@pytest.fixture
def root(tmp_path):
    """Five training and two validation images of each synset, created in an order that is not the sorted one."""
    backwards = list(reversed(SYNSETS))
    small_images(
        tmp_path / "imagenet" / "images",
        [f"train/{synset}/{synset}_{k}.JPEG" for k in (4, 0, 3, 1, 2) for synset in backwards]
        + [f"val/{synset}/ILSVRC2012_val_{k}.JPEG" for k in (1, 0) for synset in backwards],
    )
    write_names(tmp_path / "imagenet")
    return tmp_path


def make_shift(root, folder, folders):
    """Write three images of each label, and a file that is no class folder."""
    small_images(root / folder, [f"{name}/{k}.jpg" for k in (2, 0, 1) for name in reversed(folders)])
    (root / folder / "README.txt").write_text("not a class")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_sorted_folders_are_the_labels(root):
    """CoOp's preprocessed.pkl, hidden files and other files are ignored."""
    images = root / "imagenet" / "images"
    small_images(images / "train", [f"{SYNSETS[0]}/.hidden.JPEG", f"{SYNSETS[0]}/Thumbs.db"])
    (root / "imagenet" / "preprocessed.pkl").write_bytes(pickle.dumps(Payload(str(root / "executed"))))
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
    assert not dataset.val and dataset.sizes == (12, 60, 0, 24) and not (root / "executed").exists()


def test_few_shots_equal_those_of_dassl(root):
    random.seed(3)
    items = ImageNet(config(root)).train_x
    expected = DatasetBase(train_x=items, test=items).generate_fewshot_dataset(items, num_shots=2)
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


def rename_folder(imagenet):
    (imagenet / "images" / "val" / SYNSETS[3]).rename(imagenet / "images" / "val" / "n99999999")


def move_images_out_of_folders(imagenet, synsets=SYNSETS):
    for synset in synsets:
        for file in (imagenet / "images" / "val" / synset).iterdir():
            file.rename(imagenet / "images" / "val" / f"{synset}_{file.name}")
        (imagenet / "images" / "val" / synset).rmdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda imagenet: (imagenet / "classnames.txt").unlink(), "the list of class names is missing"),
        (lambda imagenet: write_names(imagenet, {"n00000000": ""}), "'n00000000 ' .* is not a synset"),
        (lambda imagenet: write_names(imagenet, dict(list(NAMES.items())[1:])), "name for the folder n00000000"),
        (lambda imagenet: (imagenet / "images" / "val").rename(imagenet / "moved"), "images/val"),
        (move_images_out_of_folders, "val has no class folders"),
        (rename_folder, r"no class name for the folder n99999999 .* \(1 such"),
        (
            lambda imagenet: move_images_out_of_folders(imagenet, SYNSETS[:1]),
            rf"train and val of .* have different classes: {SYNSETS[0]} ",
        ),
    ],
)
def test_invalid_folders(root, damage, message):
    damage(root / "imagenet")
    with pytest.raises(UserError, match=message + ".*run: bash scripts/prepare_data.sh imagenet --root"):
        ImageNet(config(root))


@pytest.mark.parametrize(("kind", "folder", "folders", "synsets"), SHIFTS, ids=[row[0].__name__ for row in SHIFTS])
def test_shifts(root, kind, folder, folders, synsets):
    make_shift(root, folder, folders)
    dataset, new = kind(config(root, 16)), kind(config(root, 16, "new"))
    assert below(root / folder, dataset.test) == [
        (f"{name}/{k}.jpg", label, NAMES[synsets[label]]) for label, name in enumerate(folders) for k in range(3)
    ]
    imagenet = ImageNet(config(root)).classnames
    assert dataset.classnames == [imagenet[SYNSETS.index(synset)] for synset in synsets]
    assert dataset.sizes == (len(synsets), 0, 0, 3 * len(synsets)) and dataset.protocol["train_images"] == 0
    assert not list(root.rglob("shot_*")) and not dataset.val
    half = len(synsets) // 2
    assert new.classnames == [NAMES[synset] for synset in synsets[half:]]
    assert [item.label for item in new.test] == [label for label in range(half) for _ in range(3)]
    cfg = registry.default_config()
    cfg.merge_from_other_cfg(config(root, 16))
    cfg.DATASET.NAME, cfg.TRAINER.NAME = kind.__name__, "FDBPL"
    with pytest.raises(UserError, match=f"{kind.__name__} is a data set for tests only"):
        registry.region_bank_spec(cfg)


def test_class_names_of_a_shift(root):
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


def test_missing_folder_of_imagenetv2(root):
    _, folder, folders, _ = SHIFTS[0]
    make_shift(root, folder, [name for name in folders if name != "7"])
    with pytest.raises(UserError, match=r"a class folder of ImageNetV2 is missing.*format-val/7"):
        ImageNetV2(config(root))


def test_test_images_do_not_select_the_epoch():
    def check(final_model, val):
        cfg = get_cfg_default()
        cfg.DATASET.NAME, cfg.TEST.FINAL_MODEL = "Some", final_model
        assert_no_test_leakage(cfg, SimpleNamespace(train_x=[1], val=val, test=test))

    test = [3]
    check("best_val", [2])
    for val in ([], None):
        check("last_step", val)
    for val in ([], None, test):  # CoOp's own ImageNet validates on the test images
        with pytest.raises(UserError, match="Some has only test images"):
            check("best_val", val)
