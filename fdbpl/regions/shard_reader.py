"""Random access to rows of tensors that are spread over thousands of safetensors files.

Rows are read with `pread` instead of memory maps: memory use does not grow with the part of a bank that was read, and a
bank may have more files than a process may map (65,530 by default on Linux) or keep open.
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

REMEDY = "Delete that file and run scripts/generate_regions.sh again."
DTYPES = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "I16": np.int16, "BOOL": np.bool_}


Layout = dict[str, tuple[type, tuple[int, ...], int]]  # name -> numpy dtype, shape, position of the first byte


class Header(NamedTuple):
    """Header of a file of a bank.

    Attributes:
        shard: description of the content, from the safetensors metadata.
        tensors: layout of the tensors.
    """

    shard: dict
    tensors: Layout


def read_header(file: str | Path) -> Header:
    """Read the header of a file of a bank.

    Raises:
        UserError: the header is broken, or the file has another size than the header says.
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
            dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
            if not all(isinstance(length, int) and length >= 0 for length in (first, *shape)):
                raise ValueError(f"invalid shape or offset of {name}")
            if last - first != np.dtype(dtype).itemsize * int(np.prod(shape)):
                raise ValueError(f"wrong size of {name}")
            tensors[name] = (dtype, shape, begin + first)
            end = max(end, last)
        if begin + end != size:
            raise ValueError(f"{size} bytes instead of {begin + end}")
        return Header(shard, tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"Broken file of a region bank: {file} ({error!s:.200}). {REMEDY}") from error


class ShardReader:
    """Rows of tensors that many files have in common.

    Args:
        files: F files, at least one.
        tensors: layout of the tensors of each file (`Header.tensors`).

    Raises:
        UserError: the tensors of a file differ in name, dtype or row shape from those of the first.
    """

    def __init__(self, files: list[Path], tensors: list[Layout]):
        self.files = [os.fspath(file) for file in files]
        self.row_types = _row_types(tensors[0])
        for file, layout in zip(files, tensors, strict=True):
            if _row_types(layout) != self.row_types:
                raise UserError(f"{file} belongs to another region bank: its tensors differ. {REMEDY}")
        self.offsets = {name: [layout[name][2] for layout in tensors] for name in self.row_types}
        self.lengths = {name: [layout[name][1][0] for layout in tensors] for name in self.row_types}
        self._open: dict[int, int] = {}  # file number -> descriptor, least recently used first
        self._max_open = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._open)

    def read(self, name: str, file: np.ndarray, row: np.ndarray) -> Tensor:
        """Read row `row` of tensor `name` in file number `file`, both int [B].

        Returns:
            [B, ...] in the tensor's dtype.

        Raises:
            UserError: a file was deleted or truncated after its header was read.
        """
        dtype, tail = self.row_types[name]
        rows = np.empty((len(file), np.dtype(dtype).itemsize * int(np.prod(tail))), np.uint8)
        order = np.argsort(file, kind="stable")
        starts = np.flatnonzero(np.diff(file[order], prepend=-1))
        with self._lock:
            for places in np.split(order, starts[1:]) if len(order) else []:
                self._read(name, int(file[places[0]]), row[places], rows, places)
        return torch.from_numpy(rows.view(dtype).reshape(len(file), *tail))

    def _read(self, name: str, file: int, row: np.ndarray, rows: np.ndarray, places: np.ndarray) -> None:
        """Fill `rows[places]`, bytes, from one file: a few single rows, or the whole tensor if many are needed."""
        size, begin, descriptor = rows.shape[1], self.offsets[name][file], self._descriptor(file)
        if len(places) <= 4:
            for number, place in zip(row.tolist(), places.tolist(), strict=True):
                self._fill(file, descriptor, rows[place], begin + number * size)
            return
        tensor = np.empty((self.lengths[name][file], size), np.uint8)
        self._fill(file, descriptor, tensor, begin)
        rows[places] = tensor[row]

    def _fill(self, file: int, descriptor: int, buffer: np.ndarray, begin: int) -> None:
        if os.preadv(descriptor, [buffer], begin) != buffer.nbytes:
            raise UserError(f"{self.files[file]} was truncated while it was in use. {REMEDY}")

    def _descriptor(self, file: int) -> int:
        descriptor = self._open.pop(file, None)
        if descriptor is None:
            if len(self._open) >= self._max_open:
                os.close(self._open.pop(next(iter(self._open))))
            try:
                descriptor = os.open(self.files[file], os.O_RDONLY)
            except OSError as error:
                raise UserError(
                    f"Cannot open {self.files[file]}, a file of the region bank ({error.strerror}). "
                    "Run scripts/generate_regions.sh again."
                ) from error
        self._open[file] = descriptor
        return descriptor


def _row_types(layout: Layout) -> dict[str, tuple[type, tuple[int, ...]]]:
    return {name: (dtype, shape[1:]) for name, (dtype, shape, _) in layout.items()}


def _close(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
