"""Files that create a marker if code in them is executed."""

import io
import pickle
import tarfile
from pathlib import Path

import torch


class Payload:
    """Touches `marker` when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def bare(marker: Path) -> bytes:
    """A pickle."""
    return pickle.dumps(Payload(marker))


def zipped(marker: Path) -> bytes:
    """The format of torch.save since torch 1.6."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {"ctx": torch.zeros(4, 64)}, "epoch": 2, "scheduler": Payload(marker)}, buffer)
    return buffer.getvalue()


def legacy(marker: Path) -> bytes:
    """The format of torch.save before torch 1.6."""
    buffer = io.BytesIO()
    torch.save({"state_dict": Payload(marker)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tarred(marker: Path) -> bytes:
    """The first format of torch.save: a tar file of pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("pickle", "tensors", "storages", "sys_info"):
            info = tarfile.TarInfo(name)
            info.size = len(bare(marker))
            archive.addfile(info, io.BytesIO(bare(marker)))
    return buffer.getvalue()


class Writer(torch.nn.Module):
    """TorchScript module that saves a tensor to `marker` when it is loaded."""

    def __init__(self, marker: str):
        super().__init__()
        self.marker = marker
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x

    @torch.jit.export
    def __getstate__(self):
        return (self.marker, self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]):
        self.marker = state[0]
        self.weight = state[1]
        self.training = state[2]
        torch.save(self.weight, self.marker)


def scripted(marker: Path) -> bytes:
    """The format of torch.jit.save."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Writer(str(marker))), buffer)
    marker.unlink(missing_ok=True)
    return buffer.getvalue()


FORMATS = {"bare": bare, "zipped": zipped, "legacy": legacy, "tarred": tarred, "scripted": scripted}


def is_executed(name: str, folder: Path) -> bool:
    """Return whether an unsafe reader executes the payload; otherwise a test with it proves nothing."""
    marker, file = folder / "unsafe", folder / "unsafe.pt"
    file.write_bytes(FORMATS[name](marker))
    try:
        if name == "scripted":
            torch.jit.load(file)
        elif name == "bare":
            pickle.loads(file.read_bytes())
        else:
            torch.load(file, weights_only=False)
    except Exception:  # the file may be incomplete; the payload comes first
        pass
    return marker.exists()
