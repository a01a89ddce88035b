"""Deterministic algorithms for `--deterministic`: the fastest GPU kernels are not bitwise reproducible."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fdbpl.errors import UserError

WORKSPACE = ":4096:8"  # makes cuBLAS deterministic; read at the first matrix product on a GPU


@contextmanager
def deterministic_algorithms(enabled: bool = True) -> Iterator[None]:
    """Allow only deterministic algorithms of torch, cuBLAS and cuDNN in the block.

    Raises:
        UserError: an operation has no such algorithm on its device.
    """
    if not enabled:
        yield
        return
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
    _set(True, True, False)
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"--deterministic cannot be used here, since an operation has no deterministic algorithm ({reason}). Leave "
            "the flag out, or set USE_CUDA False"
        ) from error
    finally:
        _set(*before)


def _set(algorithms: bool, deterministic: bool, benchmark: bool) -> None:
    torch.use_deterministic_algorithms(algorithms)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
