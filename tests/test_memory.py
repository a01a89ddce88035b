"""Exhausted memory: a one-line message that says what to reduce, exit code 1."""

import numpy as np
import pytest
import torch

from fdbpl.errors import cli_error_handler

HUGE = 1 << 46  # bytes: more than a machine has, and than it promises


def cuda_says() -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.04 GiB is "
        "free. Including non-PyTorch memory, this process has 78.06 GiB memory in use."
    )


def cublas_says() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


EVENTS = {
    "torch": (
        lambda: torch.empty(HUGE, dtype=torch.uint8),
        f"{HUGE} bytes could not be allocated on this machine",
    ),
    "numpy": (lambda: np.empty(HUGE, np.uint8), "64.0 TiB could not be allocated on this machine"),
    "Python": (lambda: bytearray(HUGE), "more could not be allocated on this machine"),
    "a GPU": (cuda_says, "20.00 GiB could not be allocated on a GPU"),
    "a GPU's library": (cublas_says, "more could not be allocated on a GPU"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_memory_that_is_used_up_is_a_sentence(name, capsys, monkeypatch):
    event, found = EVENTS[name]
    with pytest.raises(SystemExit) as ended, cli_error_handler(memory="ask for less"):
        event()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said == f"error: out of memory: {found}; ask for less\n"
    monkeypatch.setenv("FDBPL_DEBUG", "1")
    with pytest.raises((MemoryError, RuntimeError)), cli_error_handler():
        event()


def test_other_failures_are_not_taken_for_it():
    with pytest.raises(RuntimeError, match="a bug"), cli_error_handler():
        raise RuntimeError("a bug")
