"""`DATA=my_photos bash scripts/base2new_train.sh folder`, as users type it."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("OPTIM.MAX_EPOCH", 1, "REGIONS.PER_IMAGE", 2)
ENDINGS = ("jpg", "png", "webp", "gif", "bmp", "tif", "tga", "PNG")
COLOURS = {"red_shape": "red", "blue_shape": "blue", "green_shape": "green", "yellow_shape": "yellow"}
ODD = '$(touch evil); `touch evil` & * ? <b> "c"'  # what a shell would run, or a page would show, if it were let


@pytest.fixture(scope="module")
def own(scripts, tmp_path_factory):
    """Scripts whose DATA are some pictures of ours, in a path with all sorts of characters."""
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


def run(own, *arguments, **environment):
    return own.run("base2new_train.sh", "folder", 1, *arguments, **{"CFG": "demo", **environment})


def test_own_pictures_are_learnt_and_a_changed_folder_is_another_run(own):
    done = run(own, "FDBPL", *SHORT)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"FDBPL my_first_photos_é seed1: base [\d.]+ new [\d.]+ H [\d.]+", done.stdout.splitlines()[-1])
    assert "Images of " in done.stdout and "4 classes, 36 images" in done.stdout
    base = own.output / "base2new/train_base/my_first_photos_é/shots_16/FDBPL"
    (metrics,) = base.rglob("metrics.json")
    found = json.loads(metrics.read_text())
    assert found["dataset"] == "my_first_photos_é" and found["protocol"]["classnames"] == ["blue shape", "green shape"]
    assert {path.name for path in own.data.iterdir()} == set(COLOURS)
    assert not list(own.data.parents[1].rglob("evil")) and not (ROOT / "evil").exists()

    (own.data / "red_shape" / "new.jpg").write_bytes((own.data / "red_shape" / "no 0.jpg").read_bytes())
    refused = run(own, "FDBPL", *SHORT)
    assert refused.returncode == 2 and "DATASET.FOLDER_DIGEST" in refused.stderr.splitlines()[-1]


def test_mistakes_end_in_one_sentence(own, tmp_path):
    missing = own.run("base2new_train.sh", "folder", DATA="")
    assert missing.returncode == 2 and "IMAGES does not name your images" in missing.stderr
    nothing = own.run("base2new_train.sh", "folder", DATA=str(tmp_path), CFG="demo")
    assert nothing.returncode == 2 and nothing.stderr.splitlines()[-1].startswith(
        f"error: {tmp_path} has no sub-folders"
    )


def test_a_broken_test_picture_is_named(own, tmp_path):
    for name in COLOURS:
        for part in ("train", "test"):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            Image.effect_noise((90, 70), 50).convert("RGB").save(tmp_path / "pictures" / part / name / "a b.jpg")
    broken = tmp_path / "pictures" / "test" / "red_shape" / "a b.jpg"
    broken.write_bytes(broken.read_bytes()[:900])
    done = run(own, "ZeroshotCLIP", DATA=str(tmp_path / "pictures"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "(test/red_shape/a b.jpg: image file is truncated" in done.stderr.splitlines()[-1]


def test_own_images_as_source_and_as_target(own, tmp_path):
    other = tmp_path / "sketches"
    for name in ("red_shape", "black_shape"):
        (other / name).mkdir(parents=True)
        for number in range(2):
            Image.effect_noise((60, 50 + number), 50).convert("RGB").save(other / name / f"{number}.png")
    settings = {"IMAGES": str(own.data), "TARGETS": "folder", "DATA": str(tmp_path / "none")}
    done = own.run("cross_dataset.sh", "folder", 1, "ZeroshotCLIP", TARGET_IMAGES=str(other), CFG="demo", **settings)
    assert done.returncode == 0, done.stderr
    assert re.search(r"-> sketches [\d.]+ average [\d.]+$", done.stdout)
    (metrics,) = (own.output / "evaluation" / "sketches").rglob("metrics.json")
    assert json.loads(metrics.read_text())["protocol"]["classnames"] == ["black shape", "red shape"]
    same = own.run("cross_dataset.sh", "folder", 1, "ZeroshotCLIP", CFG="demo", **settings)
    assert same.returncode == 2 and "target folder would be the source itself" in same.stderr
