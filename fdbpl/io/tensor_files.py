"""Safe reading and atomic writing of tensor files: no code in a file is executed.

`torch.load(weights_only=True)` is not enough: before torch 2.6 it executes code of legacy .tar files, and it passes
TorchScript archives to `torch.jit.load`, which runs their `__setstate__`. No version compares checksums of zip files.
"""

import os
import tarfile
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from fdbpl.io.atomic import write_bytes

MAX_SHARED = 4  # tensors may take this many times the size of their file, because tied weights share their values


def load(file: Path, context: AbstractContextManager | None = None) -> Any:
    """Read what `torch.save` wrote to `file`, to the CPU: tensors, numbers, strings and containers of them.

    Args:
        context: entered while torch reads.

    Raises:
        ValueError: see `check_archive`; or tensors that are larger than the file, or not dense.
        Exception: errors of torch, of several types, for files that are broken or hold other objects.
    """
    check_archive(file)
    with context or nullcontext():
        content = torch.load(file, map_location="cpu", weights_only=True)
    _check_tensors(content, file.stat().st_size)
    return content


def check_archive(file: Path) -> None:
    """Check that `torch.load(weights_only=True)` of any version may read `file`.

    Raises:
        ValueError: the file is a TorchScript archive, a legacy .tar file, damaged, or a zip bomb.
    """
    if tarfile.is_tarfile(file):  # first: `zipfile` also finds a zip file that is stored in it
        raise ValueError("it is a .tar file of an old torch, which may hold code")
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if _is_torchscript(archive):
                raise ValueError("it is a TorchScript archive, which holds code")
            size = file.stat().st_size
            if sum(entry.file_size for entry in archive.infolist()) > size:  # torch does not compress
                raise ValueError(f"it unpacks to more than its {size} bytes")
            try:
                damaged = archive.testzip()
            except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
                damaged = reason(error)
        if damaged:
            raise ValueError(f"{damaged} in it is damaged")
    elif _begins_as_zip(file):  # torch looks no further, and may find content that `zipfile` does not
        raise ValueError("it is a damaged zip file")


def is_torchscript(file: Path) -> bool:
    """Return whether `file` is an archive of `torch.jit.save`, as OpenAI's CLIP files are."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return _is_torchscript(archive)


def reason(error: BaseException) -> str:
    """Return the first line of an error's message (two if it ends in a colon), or the type of the error."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(" ".join(lines[: 2 if lines[0].endswith(":") else 1]).split())[:200]


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the content of a safetensors file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(contiguous, metadata=dict(metadata or {}) or None)


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically; raises as `fdbpl.io.atomic.atomic_open`."""
    write_bytes(path, tensor_bytes(tensors, metadata))


def _begins_as_zip(file: Path) -> bool:
    with open(file, "rb") as content:
        return content.read(2) == b"PK"


def _is_torchscript(archive: zipfile.ZipFile) -> bool:
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _check_tensors(content: Any, size: int) -> None:
    """Check that all tensors are dense and take about the size of their file.

    A tensor with a stride of 0 is small in a file and fills the memory when it is converted.
    """
    values, seen, total = [content], set(), 0
    while values:
        value = values.pop()
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested:
                raise ValueError("it holds tensors that are not dense")
            total += value.numel() * value.element_size()
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            values += value.values() if isinstance(value, dict) else value
    if total > MAX_SHARED * size:
        raise ValueError(f"its tensors are larger ({total:,} bytes) than a file of {size:,} bytes can hold")
