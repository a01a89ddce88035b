"""EXIF orientation and transparency of custom images: equal pixels in training, bank, test and prediction."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import train
from fdbpl import evaluate, export, predict
from fdbpl.io.image_batches import decoded
from fdbpl.io.image_reading import DISPLAYED, STORED, TRANSPOSE, read_header, read_image
from fdbpl.pipelines import build_pipeline, dali_installed, image_sizes

from .bad_input.calls import refused, succeeds
from .pipelines.test_pipelines import collected, requests_for

ORIENTATIONS = range(1, 9)
needs_dali = pytest.mark.skipif(not dali_installed(), reason="NVIDIA DALI is not installed")
UPRIGHT = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # orientation of the stored pixels -> that of its inverse


def noise(height: int = 30, width: int = 50, channels: int = 3) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8))


def turned_file(image: Image.Image, orientation: int, file) -> None:
    """Save an image so that it looks like `image` once its EXIF orientation is applied."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    inverse = UPRIGHT[orientation]
    stored = image.transpose(TRANSPOSE[inverse]) if inverse > 1 else image
    stored.save(file, "PNG", exif=exif)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_read_image(tmp_path, orientation):
    upright, file = noise(), tmp_path / "image.png"
    turned_file(upright, orientation, file)
    assert read_image(file, decoding=DISPLAYED).tobytes() == upright.tobytes()
    header = read_header(file, DISPLAYED)
    assert header[:2] == (30, 50) and header.stored == (orientation == 1)
    stored = read_image(file)
    assert stored.size == ((30, 50) if orientation >= 5 else (50, 30))
    assert read_header(file)[:2] == stored.size[::-1]


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF"])
def test_other_formats(tmp_path, format):
    """Pillow turns TIFF files itself."""
    exif = Image.Exif()
    exif[0x0112] = 6
    noise().save(tmp_path / "image", format, exif=exif)
    shown = read_image(tmp_path / "image", decoding=DISPLAYED)
    assert shown.size == (30, 50) and read_header(tmp_path / "image", DISPLAYED)[:2] == (50, 30)
    expected = read_image(tmp_path / "image")
    expected = expected if format == "TIFF" else expected.transpose(Image.Transpose.ROTATE_270)
    assert shown.tobytes() == expected.tobytes()


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(40)])
def test_broken_metadata_are_ignored(exif):
    noise().save(file := io.BytesIO(), "JPEG", exif=exif)
    assert read_image(file, decoding=DISPLAYED).size == (50, 30)


def test_transparency():
    image = noise(channels=4)
    image.save(file := io.BytesIO(), "PNG")
    pixels = np.asarray(image).astype(float)
    expected = pixels[..., :3] * pixels[..., 3:] / 255 + 255 - pixels[..., 3:]
    shown = np.asarray(read_image(file, decoding=DISPLAYED))
    assert np.abs(shown - expected).max() <= 1
    assert np.array_equal(shown[pixels[..., 3] == 255], pixels[..., :3][pixels[..., 3] == 255])
    assert read_image(file).tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_transparent_colour(mode):
    image = Image.new(mode, (2, 1), 0)
    if mode == "P":
        image.putpalette([value for value in range(256) for _ in range(3)])
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    image.save(file := io.BytesIO(), "PNG", transparency=(9, 9, 9) if mode == "RGB" else 9)
    assert read_image(file, decoding=DISPLAYED).getpixel((1, 0)) == (255, 255, 255)
    assert not read_header(file, DISPLAYED).stored and read_header(file).stored


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """Two folders of images that look alike: stored upright, and turned with EXIF metadata. One has transparency."""
    upright, turned = tmp_path_factory.mktemp("upright"), tmp_path_factory.mktemp("turned")
    for orientation in ORIENTATIONS:
        image = noise(40 + orientation, 70, 4 if orientation == 6 else 3)
        turned_file(image, 1, upright / f"{orientation}.png")
        turned_file(image, orientation, turned / f"{orientation}.png")
    return upright, turned


@pytest.mark.parametrize("regions", [1, 5])  # DALI roi and decode-once
@pytest.mark.parametrize("backend", ["torchvision", pytest.param("dali", marks=needs_dali)])
def test_pipelines(folders, backend, regions):
    paths = sorted(file.name for file in folders[0].iterdir())
    sizes = [image_sizes(folder, paths, DISPLAYED) for folder in folders]
    assert sizes[0] == sizes[1]
    requests = requests_for(folders[0], paths, regions)
    pixels = [
        collected(build_pipeline(backend, folder, 32, 4, regions_per_image=regions, decoding=DISPLAYED), requests)
        for folder in folders
    ]
    assert torch.equal(*pixels)
    reference = build_pipeline("torchvision", folders[0], 32, 4, decoding=DISPLAYED)
    assert torch.equal(pixels[0], collected(reference, requests))
    stored = collected(build_pipeline(backend, folders[0], 32, 4, regions_per_image=regions), requests)
    assert not torch.equal(stored, pixels[0])  # the alpha channel is dropped


def test_prediction(folders):
    """Images as `predict` decodes them."""

    def pixels(folder: Path) -> torch.Tensor:
        files = sorted(map(str, folder.iterdir()))
        transform = lambda image: torch.from_numpy(np.array(image.resize((8, 8))))  # noqa: E731
        (batch,) = decoded(files, transform, 8, decoding=DISPLAYED)
        return batch.images

    assert torch.equal(*map(pixels, folders))
    assert STORED != DISPLAYED


# runs ---------------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {"FDBPL": "FDBPL/demo.yaml", "CoOp": "CoOp/demo.yaml", "FDBPL_MaPLe": "MaPLe/demo_vit.yaml"}


def custom_data(folder: Path, orientation: int) -> Path:
    """Four classes of three training and two test images; turned ones have EXIF metadata."""
    for label, name in enumerate(("cat", "dog", "hat", "owl")):
        for number in range(5):
            part = folder / "data" / ("train" if number < 3 else "test") / name
            part.mkdir(parents=True, exist_ok=True)
            seed = np.random.default_rng(5 * label + number)
            image = Image.fromarray(seed.integers(0, 256, (50, 66, 4 if number == 0 else 3), dtype=np.uint8))
            turned_file(image, orientation, part / f"{number}.png")
    return folder / "data"


def words(root: Path, trainer: str, *more: object) -> list[str]:
    """Command line of train.py for a run next to the data, of which those on turned images name no file of folder."""
    output, (*flags, overrides) = root.parent, more or ([],)
    if output.name == "1":
        dataset = ["--dataset-config-file", ROOT / "configs/datasets/folder.yaml"]
    else:
        overrides = ["DATASET.NAME", "Folder", *overrides]
        dataset = []
    return list(map(str, [
        "--root", root, "--seed", 1, "--trainer", trainer, "--output-dir", output / trainer, *flags, *dataset,
        "--config-file", ROOT / "configs/trainers" / CONFIGS[trainer],
        "USE_CUDA", False, "DATASET.NUM_SHOTS", 2, "OPTIM.MAX_EPOCH", 1, "REGIONS.PER_IMAGE", 2,
        "REGIONS.ROOT", output / "regions", "TEST.FEATURE_CACHE_DIR", output / "features",
        "DATASET.FEWSHOT_DIR", output / "shots", "TEST.SAVE_PREDICTIONS", True, *overrides,
    ]))  # fmt: skip


@pytest.mark.slow
def test_runs_on_turned_images_equal_those_on_upright_ones(tmp_path):
    """Bank, training with and without it, test, prediction, evaluation, export; a bank of stored pixels is not read."""
    results = []
    for orientation in (1, 6):
        folder = tmp_path / str(orientation)
        root = custom_data(folder, orientation)
        succeeds(train.main, words(root, "FDBPL", "--generate-regions", []))
        found = {"bank": [load_file(file) for file in sorted(folder.glob("regions/*/*/regions-*"))]}
        for trainer in ("FDBPL", "CoOp", "FDBPL_MaPLe"):
            succeeds(train.main, words(root, trainer))
            found[trainer] = (folder / trainer / "predictions.csv").read_text()
        succeeds(predict.main, [folder / "CoOp", root / "test", "--output", folder / "predictions.csv"])
        succeeds(export.main, [folder / "CoOp", "--to", folder / "export"])
        succeeds(export.main, [folder / "CoOp", "--features", folder / "features.npz"])
        found["features"] = np.load(folder / "features.npz")["features"].tobytes()
        found["export"] = json.loads((folder / "export" / "classifier.json").read_text())["preprocessing"]
        for name, data in (("own", []), ("others", ["--data", root])):
            succeeds(evaluate.main, [folder / "CoOp", *data, "--output", folder / name])
            found[name] = (folder / name / "predictions.csv").read_text().replace(str(root), "")
        found["predict"] = (folder / "predictions.csv").read_text().replace(str(root), "")
        results.append(found)
    upright, turned = results
    for one, other in zip(upright.pop("bank"), turned.pop("bank"), strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert turned == upright and turned["export"]["exif_orientation"] and turned["export"]["white_background"]
    (manifest,) = tmp_path.glob("6/regions/*/*/manifest.json")
    assert json.loads(manifest.read_text())["identity"]["interpolation"].endswith(str(DISPLAYED))
    config = yaml.safe_load((tmp_path / "6/FDBPL/config.yaml").read_text())
    assert config["INPUT"]["EXIF_ORIENTATION"] is True and config["INPUT"]["WHITE_BACKGROUND"] is True
    stored = words(tmp_path / "6/data", "FDBPL", ["INPUT.EXIF_ORIENTATION", False, "OUTPUT_DIR", tmp_path / "stored"])
    message = refused(train.main, stored, ["There is no region bank", "EXIF orientation applied", "INPUT.EXIF_ORIE"])
    assert manifest.parent.name in message
