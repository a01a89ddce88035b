"""Both pipelines compared with Pillow, on unusual JPEGs generated here and on photographs."""

import importlib.util
import re
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from fdbpl.crops import pixel_boxes, sample_crops, sample_regions
from fdbpl.errors import SystemFailure, UserError, message_and_exit_code
from fdbpl.io.image_check import check_readable
from fdbpl.pipelines import RegionRequests, build_pipeline, dali_installed, image_sizes
from fdbpl.pipelines.dali import DaliPipeline
from fdbpl.pipelines.torchvision import TorchvisionPipeline

SIZE = 48
needs_dali = pytest.mark.skipif(not dali_installed(), reason="NVIDIA DALI is not installed")
PIPELINES = {
    "torchvision": lambda root, batch: TorchvisionPipeline(root, SIZE, batch),
    "dali-roi": lambda root, batch: DaliPipeline(root, SIZE, batch, decode="roi"),
    "dali-decode-once": lambda root, batch: DaliPipeline(root, SIZE, batch, decode="decode-once"),
}
pipelines = pytest.mark.parametrize(
    "name", ["torchvision", *(pytest.param(name, marks=needs_dali) for name in ("dali-roi", "dali-decode-once"))]
)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A folder of unusual JPEGs."""
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)

    def noise(height, width):
        coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.BICUBIC)

    noise(120, 200).save(folder / "plain.jpg", quality=90)
    noise(120, 200).save(folder / "fine chroma.jpg", quality=95, subsampling=0)
    noise(90, 61).convert("L").save(folder / "grey.jpg")
    noise(64, 64).convert("CMYK").save(folder / "cmyk.jpg")
    noise(150, 100).save(folder / "progressive.jpg", progressive=True)
    noise(1, 37).save(folder / "one row.jpg")
    noise(40, 1).save(folder / "it's a column.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees
    noise(120, 200).save(folder / "turned.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def other_formats(tmp_path_factory):
    """Images in other formats, some of which DALI cannot decode or decodes differently."""
    folder = tmp_path_factory.mktemp("formats")
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((96, 80), Image.BICUBIC)
    clear = image.copy()
    clear.putalpha(Image.fromarray(np.arange(96 * 80).reshape(80, 96).astype(np.uint8)))
    for ending in ("png", "webp", "gif", "bmp", "tif", "tga", "ppm", "PNG"):
        image.save(folder / f"an image.{ending}")
    clear.save(folder / "clear.png")
    clear.save(folder / "clear.webp", lossless=True)
    image.convert("LA").save(folder / "grey clear.png")
    image.quantize(30).save(folder / "palette.png", transparency=3)
    image.convert("1").save(folder / "bits.png")
    image.save(folder / "moving.gif", save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    return folder


def requests_for(root, paths, count=3):
    sizes = image_sizes(root, paths)
    drawn = [sample_crops(1, path, 0, count, sizes[path], (0.08, 0.936), (3 / 4, 4 / 3), 0.5) for path in paths]
    return RegionRequests(
        paths,
        np.repeat(np.arange(len(paths)), count),
        np.concatenate([regions.boxes for regions in drawn]),
        np.concatenate([regions.flips for regions in drawn]),
    )


def by_pillow(root, requests, size=SIZE):
    """Rows first, then columns, each rounded: uint8 [N, 3, size, size]."""
    images = []
    for row, number in enumerate(requests.path_index):
        image = Image.open(root / requests.paths[number]).convert("RGB")
        top, left, height, width = pixel_boxes(requests.boxes[row : row + 1], (image.height, image.width))[0].tolist()
        region = image.crop((left, top, left + width, top + height))
        region = region.resize((size, height), Image.BICUBIC).resize((size, size), Image.BICUBIC)
        if requests.flips[row]:
            region = region.transpose(Image.FLIP_LEFT_RIGHT)
        images.append(torch.from_numpy(np.array(region)).permute(2, 0, 1))
    return torch.stack(images)


def collected(pipeline, requests):
    batches = list(pipeline(requests))
    index, images = torch.cat([index for index, _ in batches]), torch.cat([images for _, images in batches])
    assert sorted(index.tolist()) == list(range(len(requests)))
    assert images.dtype == torch.uint8
    return images[index.argsort()]


@pipelines
def test_unusual_jpegs(odd, name):
    paths = sorted(file.name for file in odd.iterdir())
    requests = requests_for(odd, paths)
    difference = (collected(PIPELINES[name](odd, 5), requests).int() - by_pillow(odd, requests).int()).abs()
    assert difference.max() <= 3 and difference.float().mean() < 0.2


@pipelines
def test_photographs(shared, name):
    for folder, count in (("odd_images", 20), ("caltech-101/101_ObjectCategories", 40)):
        root = shared / "data" / folder
        files = sorted(file for file in root.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
        paths = [str(file.relative_to(root)) for file in files[:: max(1, len(files) // count)]]
        requests = requests_for(root, paths, 2)
        difference = (collected(PIPELINES[name](root, 16), requests).int() - by_pillow(root, requests).int()).abs()
        assert difference.max() <= 3


@pipelines
def test_other_formats(other_formats, name):
    paths = sorted(file.name for file in other_formats.iterdir())
    assert len(paths) > 12
    requests = requests_for(other_formats, paths, 4)
    images = collected(PIPELINES[name](other_formats, 5), requests)
    difference = (images.int() - by_pillow(other_formats, requests).int()).abs()
    assert difference.max() <= 3 and difference.float().mean() < 0.2


@needs_dali
def test_both_pipelines_agree_exactly(odd):
    paths = sorted(file.name for file in odd.iterdir())
    requests = requests_for(odd, paths, 9)  # more than one sample per image
    images = [collected(build(odd, 8), requests) for build in PIPELINES.values()]
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])


@pipelines
def test_each_index_occurs_once_per_epoch(odd, name):
    paths = ["plain.jpg", "grey.jpg", "progressive.jpg", "turned.jpg", "fine chroma.jpg"] * 3  # 15: partial last batch
    boxes = np.tile(np.array([[0.25, 0.25, 0.5, 0.5]], np.float32), (15, 1))
    pipeline = PIPELINES[name](odd, 4)
    for epoch in range(3):
        order, _ = sample_regions(15, 3, epoch, 1)
        requests = RegionRequests(paths, order, boxes, np.zeros(15, bool))
        images = collected(pipeline, requests)
        assert torch.equal(images[:, :, ::7], by_pillow(odd, requests)[:, :, ::7]) or (
            (images.int() - by_pillow(odd, requests).int()).abs().max() <= 3
        )


@pipelines
def test_no_requests(odd, name):
    nothing = RegionRequests(["plain.jpg"], np.zeros(0, int), np.zeros((0, 4), np.float32), np.zeros(0, bool))
    assert list(PIPELINES[name](odd, 4)(nothing)) == []


@pipelines
def test_a_corrupt_image_does_not_break_the_pipeline(odd, tmp_path, name):
    whole = (odd / "plain.jpg").read_bytes()
    (tmp_path / "good.jpg").write_bytes(whole)
    (tmp_path / "bad.jpg").write_bytes(whole[: len(whole) // 3])
    requests = requests_for(tmp_path, ["good.jpg", "bad.jpg"], 2)
    pipeline = PIPELINES[name](tmp_path, 2)
    with pytest.raises(UserError, match="Cannot decode the image .*bad.jpg .*DATASET.SKIP_UNREADABLE True"):
        list(pipeline(requests))
    again = requests_for(tmp_path, ["good.jpg"], 2)
    assert (collected(pipeline, again).int() - by_pillow(tmp_path, again).int()).abs().max() <= 3


def test_all_unreadable_files_are_named(odd, tmp_path):
    whole = (odd / "plain.jpg").read_bytes()
    files = {"good.jpg": whole, "cut.jpg": whole[:-400], "empty.jpg": b"", "text.jpg": b"hello"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"\(cut.jpg: .*empty.jpg: .*text.jpg: "):
        check_readable(tmp_path, list(files))
    check_readable(tmp_path, ["good.jpg"])
    with pytest.raises(UserError, match="1 of 2 images .* cannot be read .missing.jpg"):
        image_sizes(tmp_path, ["good.jpg", "missing.jpg"])


def test_sizes_are_those_of_the_stored_pixels(odd):
    sizes = image_sizes(odd, ["turned.jpg", "one row.jpg", "it's a column.jpg"])
    assert sizes == {"turned.jpg": (120, 200), "one row.jpg": (1, 37), "it's a column.jpg": (40, 1)}


def test_invalid_settings(odd, monkeypatch):
    with pytest.raises(UserError, match="Unknown REGIONS.PIPELINE 'cv2'"):
        build_pipeline("cv2", odd, SIZE, 4)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="Device cuda is not available"):
            build_pipeline("auto", odd, SIZE, 4, device="cuda")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install nvidia-dali-cuda130"):
        build_pipeline("dali", odd, SIZE, 4)
    assert isinstance(build_pipeline("auto", odd, SIZE, 4), TorchvisionPipeline)


@needs_dali
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_dali_that_cannot_use_the_gpu(odd, monkeypatch, capsys):
    """torch reports a GPU, DALI finds none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert isinstance(build_pipeline("auto", odd, SIZE, 4, "cuda", dali_device="gpu"), TorchvisionPipeline)
    (line,) = capsys.readouterr().out.splitlines()
    assert "DALI cannot decode on cuda:0" in line
    with pytest.raises(SystemFailure, match=r"cannot decode on cuda:0 \(.*\). Set REGIONS.DALI_DEVICE cpu") as raised:
        build_pipeline("dali", odd, SIZE, 4, "cuda", dali_device="gpu")
    assert "\n" not in str(raised.value)


def test_invalid_dali_devices(odd):
    for device in ("cuda", "cpu;gpu"):
        with pytest.raises(UserError, match="choose cpu or gpu"):
            build_pipeline("auto", odd, SIZE, 4, dali_device=device)
    with pytest.raises(UserError, match="REGIONS.DALI_DEVICE gpu needs a GPU"):
        build_pipeline("auto", odd, SIZE, 4, "cpu", dali_device="gpu")


@needs_dali
@pytest.mark.parametrize("text", ["Can't allocate 1048576 bytes on device 0.", "CUDA allocation failed"])
def test_exhausted_memory_is_not_reported_as_a_damaged_image(odd, monkeypatch, text):
    pipeline = build_pipeline("dali", odd, SIZE, 4)
    monkeypatch.setattr(type(pipeline._pipeline), "run", fail := Mock(side_effect=RuntimeError(text)))
    with pytest.raises(RuntimeError, match=re.escape(text)) as raised:
        list(pipeline(requests_for(odd, ["plain.jpg"])))
    assert fail.call_count == 1  # not tried again with Pillow's pixels
    message, code = message_and_exit_code(raised.value)
    assert code == 1 and "on a GPU" in message


def measure(root, *before: str) -> subprocess.CompletedProcess:
    """`python -m tools.measure_pipelines ROOT` with a small workload, after some lines of Python."""
    lines = "; ".join([*before, "from tools.measure_pipelines import main", "main()"])
    settings = ["--images", "1", "--regions", "1", "8", "--size", "32", "--rounds", "1"]
    command = [sys.executable, "-c", f"import sys; {lines}", str(root), *settings]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@needs_dali
def test_measurement(odd):
    ended = measure(odd)
    assert ended.returncode == 0 and ended.stdout.count("regions/s") == 8 and "not installed" not in ended.stdout


@pytest.mark.slow
def test_measurement_without_dali(odd):
    ended = measure(odd, "sys.modules['nvidia.dali'] = None")
    assert ended.returncode == 0 and "Traceback" not in ended.stderr
    assert ended.stdout.count("regions/s") == 4 and "NVIDIA DALI is not installed" in ended.stdout


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_measurement_without_gpu(odd):
    ended = measure(odd, "sys.argv += ['--device', 'cuda']")
    assert ended.returncode == 2 and "torch finds no GPU" in ended.stderr
