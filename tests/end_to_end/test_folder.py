"""Own images: `IMAGES=my_photos bash scripts/base2new_train.sh folder`."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from fdbpl import predict
from fdbpl.evaluate import main as evaluate_main
from fdbpl.export import main as export_main

from ..bad_input.calls import succeeds

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("OPTIM.MAX_EPOCH", 1, "REGIONS.PER_IMAGE", 2)
ENDINGS = ("jpg", "png", "webp", "gif", "bmp", "tif", "tga", "PNG")
COLOURS = {"red_shape": "red", "blue_shape": "blue", "green_shape": "green", "yellow_shape": "yellow"}
ODD = '$(touch evil); `touch evil` & * ? <b> "c"'  # without quotes a shell would run it, and a page would show it


@pytest.fixture(scope="module")
def own(scripts, tmp_path_factory):
    """Scripts with own images as DATA, in a path with special characters."""
    folder = tmp_path_factory.mktemp("own")
    photos = folder / ODD / "my 'first' photos é"
    for name, colour in COLOURS.items():
        (photos / name).mkdir(parents=True)
        for number in range(8):
            image = Image.new("RGB", (90, 70 + number), "grey")
            ImageDraw.Draw(image).ellipse((10, 10, 60 + number, 60), fill=colour)
            image.save(photos / name / f"no {number}.{ENDINGS[number]}")
    for odd in ("-rf", "$(touch evil)", "a;touch evil", "=1+1"):
        image.save(photos / "red_shape" / f"{odd}.jpg")
    return type(scripts)(folder / f"-a b {ODD}", photos)


def module_of(words: list[str]) -> str:
    """Module that a printed command starts with this Python, whose path may be relative to the checkout."""
    assert ROOT / words[0] == Path(sys.executable) and words[1] == "-m"
    return words[2]


def test_a_classifier_of_own_images(own, tmp_path):
    """train.sh prints commands that work as they are, in spite of special characters in all paths."""
    lines = own.succeed("train.sh", "folder", 1, "CoOp", "OPTIM.MAX_EPOCH", 1, CFG="demo")
    assert "CoOp on folder, seed 1, trains on all images of each class, with all class names" in lines[0]
    folder, classify, evaluate, export = lines[-5:-1]
    assert re.fullmatch(r"CoOp my_first_photos_é seed1: all images [\d.]+", lines[-1])
    run = Path(folder.removeprefix("Run folder: "))
    assert json.loads((run / "metrics.json").read_text())["protocol"]["train_images"] == 18
    words = shlex.split(classify.removeprefix("Classify images: "))
    assert module_of(words) == "fdbpl.predict" and words[-2:] == ["--output", "predictions.csv"]
    words[words.index("photos")], words[-1] = str(own.data), str(tmp_path / "predictions.csv")
    assert succeeds(predict.main, words[3:]).out == f"36 of 36 images: {tmp_path / 'predictions.csv'}\n"
    words = shlex.split(evaluate.removeprefix("Evaluate on labelled images: "))
    assert module_of(words) == "fdbpl.evaluate" and words[-2:] == ["--data", "labelled_photos"]
    assert "accuracy" in succeeds(evaluate_main, [*words[3:-1], str(own.data)]).out
    words = shlex.split(export.removeprefix("Export the classifier: "))
    assert module_of(words) == "fdbpl.export" and succeeds(export_main, words[3:])
    assert (run / "export" / "text_features.safetensors").is_file()
    assert {path.name for path in own.data.iterdir()} == set(COLOURS)
    assert not list(own.data.parents[1].rglob("evil")) and not (ROOT / "evil").exists()


def test_own_images_and_a_changed_folder(own):
    words, settings = ("base2new_train.sh", "folder", 1, "FDBPL", *SHORT), {"CFG": "demo"}
    lines = own.succeed_here(*words, **settings)
    assert re.fullmatch(r"FDBPL my_first_photos_é seed1: base [\d.]+ new [\d.]+ H [\d.]+", lines[-1])
    assert any(line.startswith("Images of ") and "4 classes, 36 images" in line for line in lines)
    base = own.output / "base2new/train_base/my_first_photos_é/shots_16/FDBPL"
    (file,) = base.rglob("metrics.json")
    metrics = json.loads(file.read_text())
    assert metrics["dataset"] == "my_first_photos_é"
    assert metrics["protocol"]["classnames"] == ["blue shape", "green shape"]

    (own.data / "red_shape" / "new.jpg").write_bytes((own.data / "red_shape" / "no 0.jpg").read_bytes())
    refused = own.here(*words, **settings)
    assert refused.returncode == 2 and "DATASET.FOLDER_DIGEST" in refused.stderr.splitlines()[-1]


def test_missing_and_empty_folders(own, tmp_path):
    missing = own.here("base2new_train.sh", "folder", DATA="")
    assert missing.returncode == 2 and "IMAGES does not name your images" in missing.stderr
    nothing = own.here("base2new_train.sh", "folder", DATA=str(tmp_path), CFG="demo")
    assert nothing.returncode == 2 and nothing.stderr.startswith(f"error: {tmp_path} has no sub-folders")


def test_a_broken_test_image_is_named(own, tmp_path):
    for name in COLOURS:
        for part in ("train", "test"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            Image.effect_noise((90, 70), 50).convert("RGB").save(tmp_path / "images" / part / name / "a b.jpg")
    broken = tmp_path / "images" / "test" / "red_shape" / "a b.jpg"
    broken.write_bytes(broken.read_bytes()[:900])
    done = own.here("base2new_train.sh", "folder", 1, "ZeroshotCLIP", DATA=str(tmp_path / "images"), CFG="demo")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "test/red_shape/a b.jpg: image file is truncated" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("script", "source", "targets", "place"),
    [
        ("cross_dataset.sh", "folder", "folder", "TARGET_IMAGES"),
        ("domain_generalization.sh", "folder", "folder demo_colours", "TARGET_IMAGES"),
        ("cross_dataset.sh", "demo", "folder", "IMAGES"),
    ],
)
def test_own_images_as_source_and_as_target(own, scripts, tmp_path, script, source, targets, place):
    """Source and target have separate locations, into which nothing is written."""
    other = tmp_path / "sketches"
    for name in ("red_shape", "black_shape"):
        (other / name).mkdir(parents=True)
        for number in range(2):
            Image.effect_noise((60, 50 + number), 50).convert("RGB").save(other / name / f"{number}.png")
    settings = {"IMAGES": str(own.data), "TARGETS": targets, "DATA": str(tmp_path / "none"), "CFG": "demo"}
    words = (script, source, 1, "ZeroshotCLIP")
    before = sorted(own.data.rglob("*"))
    output = scripts.elsewhere(tmp_path).output
    settings |= {"SYNTHETIC": str(scripts.data), "OUTPUT": str(output), place: str(other)}
    lines = own.succeed_here(*words, **settings)
    name = "my_first_photos_é" if source == "folder" else source
    results = r" ".join(rf"{target.replace('folder', 'sketches')} [\d.]+" for target in targets.split())
    assert re.fullmatch(rf"ZeroshotCLIP {name} seed1 shots 16 -> {results} average [\d.]+", lines[-1])
    (file,) = (output / "evaluation" / "sketches" / name).rglob("metrics.json")
    assert json.loads(file.read_text())["protocol"]["classnames"] == ["black shape", "red shape"]
    assert sorted(own.data.rglob("*")) == before and len(list(other.rglob("*"))) == 6


def test_own_images_are_not_their_own_target(own):
    settings = {"IMAGES": str(own.data), "TARGETS": "folder", "CFG": "demo"}
    same = own.here("cross_dataset.sh", "folder", 1, "ZeroshotCLIP", **settings)
    assert same.returncode == 2 and "target folder would be the source itself" in same.stderr
