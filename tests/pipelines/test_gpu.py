"""Pipelines for a GPU, tested on a CPU: uploads are recorded and tensors stay on the CPU."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from fdbpl.pipelines import build_pipeline, dali_installed
from fdbpl.pipelines.resize import MAX_CUDA_SCALE, resize_region

from .test_pipelines import SIZE, collected, odd, requests_for  # noqa: F401

needs_dali = pytest.mark.skipif(not dali_installed(), reason="NVIDIA DALI is not installed")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture
def uploads(monkeypatch) -> list[tuple[torch.device, torch.Tensor]]:
    """Two GPUs, of which the main thread uses the second: every upload as (GPU, tensor)."""
    found, to, main = [], torch.Tensor.to, threading.main_thread()

    def upload(tensor, *args, **kwargs):
        if args and isinstance(args[0], str | torch.device) and torch.device(args[0]).type == "cuda":
            device = torch.device(args[0])
            found.append((torch.device("cuda", current()) if device.index is None else device, tensor))
            return tensor
        return to(tensor, *args, **kwargs)

    def current() -> int:
        return int(threading.current_thread() is main)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", current)
    monkeypatch.setattr(torch.Tensor, "to", upload)
    return found


@pytest.mark.parametrize("count", [1, 9])  # DALI roi and decode-once
@pytest.mark.parametrize("backend", ["torchvision", pytest.param("dali", marks=needs_dali)])
def test_regions_for_a_gpu_equal_those_for_a_cpu(odd, uploads, backend, count):  # noqa: F811
    requests = requests_for(odd, sorted(file.name for file in odd.iterdir()), count)
    expected = collected(build_pipeline(backend, odd, SIZE, 8, regions_per_image=count), requests)
    assert not uploads
    found = collected(build_pipeline(backend, odd, SIZE, 8, "cuda", regions_per_image=count), requests)
    assert torch.equal(found, expected)
    assert {device for device, _ in uploads} == {torch.device("cuda", 1)}
    assert sum(len(images) for _, images in uploads) == len(requests)  # finished regions, each once


@needs_dali
@pytest.mark.parametrize("count", [1, 9])
def test_decoding_on_a_gpu(odd, uploads, monkeypatch, count):  # noqa: F811
    """DALI has to interpolate chroma as libjpeg does and to copy on torch's stream. Here it decodes on the CPU."""
    from nvidia import dali
    from nvidia.dali.plugin import pytorch

    decoders, gpus, streams = [], [], []
    image, image_slice, pipeline_def = dali.fn.decoders.image, dali.fn.decoders.image_slice, dali.pipeline_def

    def on_cpu(operator):
        def decode(*inputs, device, jpeg_fancy_upsampling, **how):
            decoders.append((device, jpeg_fancy_upsampling))
            return operator(*inputs, device="cpu", **how)

        return decode

    def without_gpu(*, device_id, **how):
        gpus.append(device_id)
        return pipeline_def(device_id=None, **how)

    def feed_ndarray(image, copy, cuda_stream):
        streams.append(cuda_stream)
        return copy.copy_(torch.from_numpy(np.array(image)))

    monkeypatch.setattr(dali.fn.decoders, "image", on_cpu(image))
    monkeypatch.setattr(dali.fn.decoders, "image_slice", on_cpu(image_slice))
    monkeypatch.setattr(dali, "pipeline_def", without_gpu)
    monkeypatch.setattr(pytorch, "feed_ndarray", feed_ndarray)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, device=None, **how: empty(*shape, **how))
    requests = requests_for(odd, sorted(file.name for file in odd.iterdir()), count)
    pipeline = build_pipeline("dali", odd, SIZE, 8, "cuda", regions_per_image=count, dali_device="gpu")
    found = collected(pipeline, requests)
    assert pipeline.decoder == "nvjpeg"
    assert set(decoders) == {("mixed", True)} and gpus == [1] and set(streams) == {"stream of cuda:1"}
    monkeypatch.undo()
    expected = collected(build_pipeline("dali", odd, SIZE, 8, regions_per_image=count), requests)
    assert torch.equal(found, expected)


@pytest.fixture
def photographs(shared) -> list[torch.Tensor]:
    """uint8 [h, w, 3] of real photographs."""
    files = sorted((shared / "data" / "odd_images").rglob("*.jpg"))[:12]
    return [torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files]


def regions(photographs) -> list[torch.Tensor]:
    """Photographs and noise of different sizes."""
    rng = np.random.default_rng(0)
    noise = [torch.from_numpy(rng.choice([0, 255], (height, width, 3)).astype(np.uint8))
             for height, width in ((30, 400), (1, 37), (300, 20), (48, 48), (49, 200))]  # fmt: skip
    return [*noise, *photographs]


def test_resizing_on_a_gpu_deviates_by_at_most_2(photographs, monkeypatch):
    given = regions(photographs)
    expected = [resize_region(region, SIZE, False) for region in given]
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    found = [resize_region(region, SIZE, False) for region in given]
    assert max((ours.int() - theirs.int()).abs().max() for ours, theirs in zip(found, expected, strict=True)) <= 2
    assert all(image.dtype == torch.uint8 and image.shape == (3, SIZE, SIZE) for image in found)


def test_regions_too_long_for_the_cuda_kernel_are_resized_on_the_cpu(monkeypatch):
    long = torch.randint(0, 256, (8, MAX_CUDA_SCALE * SIZE + 1, 3), dtype=torch.uint8)
    expected, shapes, interpolate = resize_region(long, SIZE, True), [], torch.nn.functional.interpolate

    def recorded(image, size, **how):
        shapes.append((image.dtype, size))
        return interpolate(image, size, **how)

    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    monkeypatch.setattr(torch.nn.functional, "interpolate", recorded)
    assert torch.equal(resize_region(long, SIZE, True), expected)
    assert shapes == [(torch.uint8, (SIZE, SIZE))]
