"""Data sets, loaders, transforms and samplers."""

import json
import random

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from dassl.data import DataManager
from dassl.data.datasets import DatasetBase, Datum, build_dataset
from dassl.data.samplers import build_sampler
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from PIL import Image

CLIP = {"INPUT.PIXEL_MEAN": [0.4, 0.5, 0.6], "INPUT.PIXEL_STD": [0.2, 0.25, 0.3], "INPUT.INTERPOLATION": "bicubic"}
CLIP = [word for pair in CLIP.items() for word in pair]


@pytest.fixture
def photograph():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((90, 60), Image.BICUBIC)


def test_generate_fewshot_dataset(parity, toy, tmp_path):
    reference = json.loads((parity / "dassl.json").read_text())["fewshot"]
    image = tmp_path / "image.png"
    Image.new("RGB", (2, 2)).save(image)
    lists = {
        name: [Datum(str(image), label, classname=str(offset + i)) for i, label in enumerate(labels)]
        for name, labels in reference["lists"].items()
        for offset in (1000 if name == "val" else 0,)
    }
    base = DatasetBase(train_x=lists["sorted"])
    for case in reference["results"]:
        random.seed(case["seed"])
        train = base.generate_fewshot_dataset(lists[case["list"]], num_shots=case["shots"])
        val = base.generate_fewshot_dataset(lists["val"], num_shots=min(case["shots"], 4))
        assert [int(item.classname) for item in train] == case["train"]
        assert [int(item.classname) for item in val] == case["val"]
        assert random.random() == case["next_random"]
        if "train_repeat_true" in case:
            random.seed(case["seed"])
            filled = base.generate_fewshot_dataset(lists[case["list"]], num_shots=case["shots"], repeat=True)
            assert [int(item.classname) for item in filled] == case["train_repeat_true"]
    assert base.generate_fewshot_dataset(lists["val"], num_shots=-1) is lists["val"]


def test_dataset_classes_and_missing_images(toy, tmp_path):
    dataset = build_dataset(toy.config(tmp_path))
    assert dataset.num_classes == 3 and dataset.classnames == ["red", "green", "blue"]
    assert dataset.lab2cname == {0: "red", 1: "green", 2: "blue"}
    with pytest.raises((AssertionError, FileNotFoundError)), pytest.warns(UserWarning, match="nowhere.png"):
        Datum(str(tmp_path / "nowhere.png"))


def test_batches(toy, tmp_path):
    manager = DataManager(toy.config(tmp_path))
    assert len(manager.train_loader_x) == 2 and len(manager.test_loader) == 2 and len(manager.val_loader) == 1
    assert manager.train_loader_u is None and manager.num_classes == 3
    batch = next(iter(manager.train_loader_x))
    assert {"img", "label", "domain", "impath", "index"} <= batch.keys()
    assert batch["img"].shape == (4, 3, 8, 8) and batch["img"].dtype == torch.float32
    assert batch["label"].dtype == batch["index"].dtype == torch.int64
    for path, index, label in zip(batch["impath"], batch["index"], batch["label"], strict=True):
        item = manager.dataset.train_x[index]
        assert (item.impath, item.label) == (path, label)
    order = [index for batch in manager.test_loader for index in batch["index"].tolist()]
    assert order == list(range(6))


def test_a_single_partial_batch_is_kept(toy, tmp_path):
    assert len(DataManager(toy.config(tmp_path, "DATALOADER.TRAIN_X.BATCH_SIZE", 100)).train_loader_x) == 1


def test_order_depends_on_the_seed_of_torch(toy, tmp_path):
    loader = DataManager(toy.config(tmp_path)).train_loader_x

    def epoch(seed):
        torch.manual_seed(seed)
        return [index for batch in loader for index in batch["index"].tolist()]

    assert epoch(1) == epoch(1) != epoch(2)


def test_transform_for_testing(toy, tmp_path, photograph):
    tensor = build_transform(toy.config(tmp_path, *CLIP, "INPUT.SIZE", (32, 24)), is_train=False)(photograph)
    expected = photograph.resize((48, 32), Image.BICUBIC).crop((12, 0, 36, 32))
    expected = torch.from_numpy(np.asarray(expected).copy()).permute(2, 0, 1) / 255
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    assert torch.allclose(tensor, (expected - mean[:, None, None]) / std[:, None, None], atol=1e-6)


def test_transform_for_training_has_a_fixed_order(toy, tmp_path, photograph):
    names = ("normalize", "random_flip", "random_resized_crop")  # another order than the one applied
    cfg = toy.config(tmp_path, *CLIP, "INPUT.TRANSFORMS", names, "INPUT.RRCROP_SCALE", (0.3, 0.5))
    steps = [T.RandomResizedCrop((8, 8), scale=(0.3, 0.5), interpolation=INTERPOLATION_MODES["bicubic"]),
             T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])]  # fmt: skip
    transform, expected = build_transform(cfg, is_train=True), T.Compose(steps)
    for seed in range(5):
        torch.manual_seed(seed)
        view = transform(photograph)
        torch.manual_seed(seed)
        assert torch.equal(view, expected(photograph))


@pytest.mark.parametrize("names", [("center_crop",), ("random_crop", "random_flip"), ("colorjitter",)])
def test_other_transforms_return_the_size(toy, tmp_path, photograph, names):
    image = build_transform(toy.config(tmp_path, "INPUT.TRANSFORMS", names), is_train=True)(photograph)
    assert image.shape == (3, 8, 8) and image.isfinite().all()


def test_no_transform_and_unknown_transforms(toy, tmp_path):
    assert build_transform(toy.config(tmp_path, "INPUT.NO_TRANSFORM", True)) is None
    with pytest.raises((AssertionError, ValueError)):
        build_transform(toy.config(tmp_path, "INPUT.TRANSFORMS", ("random_flop",)))


def test_samplers():
    assert list(build_sampler("SequentialSampler", data_source=range(60))) == list(range(60))
    assert sorted(build_sampler("RandomSampler", data_source=range(60))) == list(range(60))
    with pytest.raises(ValueError, match="RandomSample"):
        build_sampler("RandomSample", data_source=range(60))
