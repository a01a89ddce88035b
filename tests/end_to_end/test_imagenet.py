"""Training on an ImageNet of synthetic images and a test on an ImageNet-A of some of its classes, by train.py."""

import json
from pathlib import Path

import pytest
import torch
from dassl.config import get_cfg_default
from dassl.data.transforms import build_transform
from PIL import Image

import datasets
import train
from fdbpl.backbones import load_backbone
from fdbpl.demo.dataset import DEMO
from fdbpl.engine import checkpoint, registry
from trainers.coop import CoOpStudent

from ..bad_input.calls import call

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["umbrella", "anchor", "gear", "flag", "bell", "leaf", "crown", "fish"]
NAMES = {f"n{10 * number:08d}": name for number, name in enumerate(CLASSES)}
ADVERSARIAL = ["n00000010", "n00000030", "n00000040", "n00000070"]  # labels 1, 3, 4, 7 there and 0 to 3 here


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    parts = [
        (f"imagenet/images/{part}", NAMES, numbers) for part, numbers in (("train", range(2)), ("val", range(2, 4)))
    ]
    for folder, synsets, numbers in (*parts, ("imagenet-adversarial/imagenet-a", ADVERSARIAL, range(4, 12))):
        for synset in synsets:
            (root / folder / synset).mkdir(parents=True)
            for number in numbers:
                (root / folder / synset / f"{number}.JPEG").write_bytes(DEMO.image("test", NAMES[synset], number))
    text = "".join(f"{synset} {name}\n" for synset, name in NAMES.items())
    (root / "imagenet" / "classnames.txt").write_text(text)
    return root


def train_py(root, dataset, output, *arguments):
    words = [
        "--root", root, "--seed", "1", "--trainer", "CoOp",
        "--dataset-config-file", ROOT / f"configs/datasets/{dataset}.yaml",
        "--config-file", ROOT / "configs/trainers/CoOp/demo.yaml", "--output-dir", root / output,
        *arguments, "DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "2",
    ]  # fmt: skip
    return call(train.main, words)


@pytest.fixture(scope="module")
def run(root):
    done = train_py(root, "imagenet", "run")
    assert done.code == 0, done.err
    return root / "run"


def test_training_reads_the_shots_and_no_test_image(root, run):
    protocol = json.loads((run / "metrics.json").read_text())["protocol"]
    assert protocol["classnames"] == CLASSES
    assert (protocol["train_images"], protocol["test_images"]) == (16, 16)
    drawn = json.loads((root / "imagenet" / "split_fewshot" / "shot_2-seed_1.json").read_text())
    assert {row[0].split("/")[0] for row in drawn["train"]} == {"train"} and not drawn["val"]


def predicted_names(run, files):
    """Predictions of the learned context for some files among the names of ImageNet-A, in another order."""
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    registry.extend_cfg(cfg)
    cfg.merge_from_file(run / "config.yaml")
    names = sorted((NAMES[synset] for synset in ADVERSARIAL), reverse=True)
    student = CoOpStudent(cfg.TRAINER.COOP, load_backbone(cfg.MODEL.BACKBONE.NAME, "cpu", "fp32"), names)
    context = checkpoint.read(run / "prompt_learner" / "model.pth.tar-2")["state_dict"]["ctx"]
    with torch.no_grad():
        student.prompt_learner.ctx.copy_(context)
        transform = build_transform(cfg, is_train=False)
        images = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])
        return [names[index] for index in student.predictor()(images).argmax(1).tolist()]


def test_accuracy_on_imagenet_a(root, run):
    done = train_py(root, "imagenet_a", "on_a", "--eval-only", "--model-dir", run)
    assert done.code == 0, done.err
    files = sorted((root / "imagenet-adversarial" / "imagenet-a").glob("*/*"))
    right = [name == NAMES[file.parent.name] for name, file in zip(predicted_names(run, files), files, strict=True)]
    metrics = json.loads((root / "on_a" / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(100 * sum(right) / len(right), abs=1e-9)
    assert metrics["protocol"]["classnames"] == [NAMES[synset] for synset in ADVERSARIAL]
    assert (metrics["protocol"]["train_images"], metrics["protocol"]["test_images"]) == (0, 32)
    assert 25 < metrics["accuracy"] < 100  # between chance and perfect, so that the equality is a real test


@pytest.mark.parametrize(
    ("dataset", "override", "message"),
    [
        ("imagenet_a", (), "error: ImageNetA is a data set for tests only."),
        ("imagenet", ("TEST.FINAL_MODEL", "best_val"), "error: TEST.FINAL_MODEL best_val selects the model by"),
    ],
)  # fmt: skip
def test_test_images_stay_out_of_training(root, dataset, override, message):
    done = train_py(root, dataset, f"refused_{dataset}", *override)
    assert done.code == 2 and "Traceback" not in done.err
    assert [line for line in done.err.splitlines() if line.startswith(message)]
    assert not list((root / f"refused_{dataset}").rglob("model*"))
