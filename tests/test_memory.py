"""Exhausted memory: a one-line message that names what to reduce, and exit code 1."""

import numpy as np
import pytest
import torch

from fdbpl.errors import cli_error_handler

HUGE = 1 << 46  # bytes


def cuda_error() -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.04 GiB is "
        "free. Including non-PyTorch memory, this process has 78.06 GiB memory in use."
    )


def cublas_error() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


EVENTS = {
    "torch": (
        lambda: torch.empty(HUGE, dtype=torch.uint8),
        f"{HUGE} bytes could not be allocated on this machine",
    ),
    "numpy": (lambda: np.empty(HUGE, np.uint8), "64.0 TiB could not be allocated on this machine"),
    "Python": (lambda: bytearray(HUGE), "more could not be allocated on this machine"),
    "a GPU": (cuda_error, "20.00 GiB could not be allocated on a GPU"),
    "a GPU's library": (cublas_error, "more could not be allocated on a GPU"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_message_and_exit_code(name, capsys, monkeypatch):
    event, message = EVENTS[name]
    with pytest.raises(SystemExit) as ended, cli_error_handler(memory="ask for less"):
        event()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: out of memory: {message}; ask for less\n"
    monkeypatch.setenv("FDBPL_DEBUG", "1")
    with pytest.raises((MemoryError, RuntimeError)), cli_error_handler():
        event()


def test_other_errors_keep_their_traceback():
    with pytest.raises(RuntimeError, match="a bug"), cli_error_handler():
        raise RuntimeError("a bug")
