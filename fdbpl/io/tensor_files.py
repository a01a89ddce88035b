"""Files of tensors that nobody vouches for: what torch.save and TorchScript wrote is read, and nothing in it is run.

`torch.load(weights_only=True)` alone does not do. Before torch 2.6 it hands TorchScript archives on to
`torch.jit.load`, which runs their `__setstate__` (and that may write files), and reads legacy .tar files by a way that
runs code. No torch notices a flipped bit.
"""

import math
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from fdbpl.io.atomic import write_bytes

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
SHARED = 4  # names that may share the bytes of a tensor, as tied weights do
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError)


def load(file: Path, meanwhile: AbstractContextManager | None = None) -> Any:
    """What `torch.save` put into `file`, on the CPU: tensors, numbers, texts and containers of them.

    Args:
        meanwhile: entered while torch reads.

    Raises:
        ValueError: as `refuse`, or a tensor larger than the file. What the file holds besides is torch's to refuse,
            which raises errors of several kinds.
    """
    refuse(file)
    with meanwhile or nullcontext():
        content = torch.load(file, map_location="cpu", weights_only=True)
    _refuse_swollen(content, file.stat().st_size)
    return content


def refuse(file: Path) -> None:
    """Refuse what `torch.load(weights_only=True)` must not be given.

    Raises:
        ValueError: an archive that holds code, is damaged, or is a bomb.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if _is_torchscript(archive):
                raise ValueError("it is a TorchScript archive, which holds code")
            _refuse_bombs(archive, archive.infolist())
            broken = _first_damaged(archive)
        if broken:
            raise ValueError(f"{broken} in it is damaged")
    elif _begins_as_zip(file):  # torch looks no further, and may find in it what we do not
        raise ValueError("it is a damaged zip file")
    elif tarfile.is_tarfile(file):
        raise ValueError("it is a .tar file of an old torch, which may hold code")


def is_torchscript(file: Path) -> bool:
    """Whether `file` is an archive of `torch.jit.save`, as OpenAI's CLIP files are."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return _is_torchscript(archive)


def torchscript_tensors(file: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript archive by name, as `torch.jit.load(file).state_dict()` has them.

    Raises:
        ValueError: the archive is damaged, a bomb, or holds other things than modules of tensors and plain values.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            main = next(name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            with archive.open(main) as content:
                module = _ModuleReader(content, archive, main.removesuffix(".pkl")).load()
            tensors: dict[str, Tensor] = {}
            _collect(module, "", tensors, set())
            _refuse_swollen(tensors, file.stat().st_size)
    except (*DAMAGED, pickle.UnpicklingError, StopIteration, KeyError, TypeError, AttributeError, IndexError,
            RuntimeError, RecursionError, UnicodeDecodeError) as error:  # fmt: skip
        raise ValueError(f"no TorchScript archive of a model ({type(error).__name__}: {error})") from error
    return tensors


def reason(error: BaseException) -> str:
    """The first line of what a reader of files says, with the next one where it only announces that; at least the kind
    of its error."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(" ".join(lines[: 2 if lines[0].endswith(":") else 1]).split())[:200]


class _Module:
    """What a TorchScript module or object is read into: its attributes, no code."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _ModuleReader(pickle.Unpickler):
    """Knows tensors, lists and modules without their code; whatever else a file asks for is refused."""

    def __init__(self, content, archive: zipfile.ZipFile, folder: str):
        super().__init__(content)
        self.archive, self.folder = archive, folder
        self.bytes: dict[str, bytearray] = {}
        _refuse_bombs(archive, [entry for entry in archive.infolist() if entry.filename.startswith(folder)])

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module.partition(".")[0] == "__torch__":
            return _Module
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("collections", "OrderedDict"): OrderedDict,
            ("torch.jit._pickle", "restore_type_tag"): _untagged,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: tuple) -> Tensor:
        """The storage that ("storage", dtype, file, device, count) names, as a flat tensor."""
        _, dtype, key, _, count = pid
        name = f"{self.folder}/{key}"
        if name not in self.bytes:
            self.bytes[name] = bytearray(self.archive.read(name))  # the zip's checksum is compared
        return torch.frombuffer(self.bytes[name], dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _untagged(value: object, tag: str) -> object:
    """A container without the name of its TorchScript type."""
    return value


def _tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> Tensor:
    if math.prod(size) > storage.numel():
        raise pickle.UnpicklingError(f"a tensor of shape {size} is larger than what it lies in")
    return storage.as_strided(size, stride, offset)


def _collect(module: object, prefix: str, tensors: dict[str, Tensor], seen: set[int]) -> None:
    """Tensors of a module and of the modules below, in the order of `state_dict`: its own first."""
    if id(module) in seen or not isinstance(module, _Module) or not isinstance(module.state, dict):
        raise pickle.UnpicklingError("a module twice, or one that is none")
    seen.add(id(module))
    tensors.update({prefix + name: value for name, value in module.state.items() if isinstance(value, Tensor)})
    for name, value in module.state.items():
        if isinstance(value, _Module):
            _collect(value, f"{prefix}{name}.", tensors, seen)


def _begins_as_zip(file: Path) -> bool:
    with open(file, "rb") as content:
        return content.read(2) == b"PK"


def _is_torchscript(archive: zipfile.ZipFile) -> bool:
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _refuse_bombs(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
    """torch does not compress tensors: what is larger unpacked than the file is there to fill the memory."""
    size = Path(archive.filename or "").stat().st_size
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError(f"it says that it unpacks to more than its {size} bytes")


def _first_damaged(archive: zipfile.ZipFile) -> str:
    """Name of a member whose bytes are not those that were written; "" = none."""
    try:
        return archive.testzip() or ""
    except DAMAGED as error:
        return reason(error)


def _refuse_swollen(content: Any, size: int) -> None:
    """Tensors that share their bytes, or repeat them by a stride of 0, take no room in a file, and all of the memory
    once they are converted. Those without values, or with others than lie there (meta, sparse, quantised), are not
    ours."""
    found, seen, total = [content], set(), 0
    while found:
        value = found.pop()
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested:
                raise ValueError("it holds tensors that are not plain ones")
            total += value.numel() * value.element_size()
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            found += value.values() if isinstance(value, dict) else value
    if total > SHARED * size:
        raise ValueError(f"its tensors are larger ({total:,} bytes) than a file of {size:,} bytes can hold")


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a safetensors file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(contiguous, metadata=dict(metadata or {}) or None)


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically; raises as `fdbpl.io.atomic.atomic_open`."""
    write_bytes(path, tensor_bytes(tensors, metadata))
