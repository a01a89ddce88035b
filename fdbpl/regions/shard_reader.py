"""Single rows out of thousands of safetensors files, read where they lie.

Rows are read (`pread`), not mapped: memory stays what it is however much of a bank was seen, and a bank may have more
files than a process may map (65,530 on Linux, unless told otherwise) or hold open.
"""

import json
import os
import resource
import threading
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fdbpl.errors import UserError

REMEDY = "delete that file and run scripts/generate_regions.sh again"
DTYPES = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "I16": np.int16, "BOOL": np.bool_}


Layout = dict[str, tuple[type, tuple[int, ...], int]]  # name -> numpy dtype, shape, position of the first byte


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        shard: its description, from the metadata.
        tensors: where its tensors lie.
    """

    shard: dict
    tensors: Layout


def read_header(file: str | Path) -> Header:
    """The header of a file of a bank.

    Raises:
        UserError: it is broken, or shorter than its header says.
    """
    try:
        with open(file, "rb", buffering=0) as content:
            begin = 8 + int.from_bytes(content.read(8), "little")
            size = os.fstat(content.fileno()).st_size
            if begin > size:
                raise ValueError(f"{size} bytes")
            header = json.loads(content.read(begin - 8))
            if not isinstance(header, dict):
                raise ValueError("no header")
        shard = json.loads(header.pop("__metadata__")["shard"])
        tensors = {}
        end = 0
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            kind, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
            if not all(isinstance(length, int) and length >= 0 for length in (first, *shape)):
                raise ValueError(f"{name} of an odd shape")
            if last - first != np.dtype(kind).itemsize * int(np.prod(shape)):
                raise ValueError(f"{name} of another size")
            tensors[name] = (kind, shape, begin + first)
            end = max(end, last)
        if begin + end != size:
            raise ValueError(f"{size} bytes instead of {begin + end}")
        return Header(shard, tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"expected a file of a region bank in {file}, found a broken one ({error!s:.200}); {REMEDY}"
        ) from error


class ShardReader:
    """The rows of tensors that many files have alike.

    Args:
        files: F files, at least one. tensors: where their tensors lie, by file (`Header.tensors`).

    Raises:
        UserError: a file that holds other tensors than the first.
    """

    def __init__(self, files: list[Path], tensors: list[Layout]):
        self.files = [os.fspath(file) for file in files]
        self.kinds = _kinds(tensors[0])
        for file, layout in zip(files, tensors, strict=True):
            if _kinds(layout) != self.kinds:
                raise UserError(f"expected a file of a region bank in {file}, found one of another bank; {REMEDY}")
        self.offsets = {name: [layout[name][2] for layout in tensors] for name in self.kinds}
        self.lengths = {name: [layout[name][1][0] for layout in tensors] for name in self.kinds}
        self._open: dict[int, int] = {}  # file number -> descriptor, the longest unused first
        self._most = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._open)

    def read(self, name: str, file: np.ndarray, row: np.ndarray) -> Tensor:
        """Row `row` of tensor `name` in file number `file`, int [B] each: [B, ...] in the tensor's dtype.

        Raises:
            UserError: a file has gone or has become shorter.
        """
        kind, tail = self.kinds[name]
        rows = np.empty((len(file), np.dtype(kind).itemsize * int(np.prod(tail))), np.uint8)
        order = np.argsort(file, kind="stable")
        starts = np.flatnonzero(np.diff(file[order], prepend=-1))
        with self._lock:
            for here in np.split(order, starts[1:]) if len(order) else []:
                self._read(name, int(file[here[0]]), row[here], rows, here)
        return torch.from_numpy(rows.view(kind).reshape(len(file), *tail))

    def _read(self, name: str, file: int, row: np.ndarray, rows: np.ndarray, here: np.ndarray) -> None:
        """Fill `rows[here]`, bytes, from one file: row by row, or all of the tensor at once where much is asked for."""
        size, begin, descriptor = rows.shape[1], self.offsets[name][file], self._descriptor(file)
        if len(here) <= 4:
            for number, place in zip(row.tolist(), here.tolist(), strict=True):
                self._fill(file, descriptor, rows[place], begin + number * size)
            return
        whole = np.empty((self.lengths[name][file], size), np.uint8)
        self._fill(file, descriptor, whole, begin)
        rows[here] = whole[row]

    def _fill(self, file: int, descriptor: int, buffer: np.ndarray, begin: int) -> None:
        if os.preadv(descriptor, [buffer], begin) != buffer.nbytes:
            raise UserError(f"expected a file of a region bank in {self.files[file]}, found a shorter one; {REMEDY}")

    def _descriptor(self, file: int) -> int:
        descriptor = self._open.pop(file, None)
        if descriptor is None:
            if len(self._open) >= self._most:
                os.close(self._open.pop(next(iter(self._open))))
            try:
                descriptor = os.open(self.files[file], os.O_RDONLY)
            except OSError as error:
                raise UserError(
                    f"expected a file of a region bank in {self.files[file]}, found none ({error.strerror}); "
                    "run scripts/generate_regions.sh again"
                ) from error
        self._open[file] = descriptor
        return descriptor


def _kinds(layout: Layout) -> dict[str, tuple[type, tuple[int, ...]]]:
    return {name: (kind, shape[1:]) for name, (kind, shape, _) in layout.items()}


def _close(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
