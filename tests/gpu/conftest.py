"""The tiny models and data of the trainers' tests, on a stand-in for CUDA."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ..trainers.conftest import build_shared, cfg_in, data_root, student_file, teacher_file  # noqa: F401
from .fake_cuda import FakeCuda


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    if torch.cuda.is_available() or not hasattr(torch._C, "_ensureCUDADeviceGuardSet"):
        pytest.skip("the stand-in for CUDA needs a machine without a GPU, and torch 2.5 or newer")
    with FakeCuda(code=Path(__file__).parents[2]) as fake:
        yield fake
