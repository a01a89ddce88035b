"""Files that would create a marker if anything in them were run."""

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
    """A pickle and nothing else."""
    return pickle.dumps(Payload(marker))


def zipped(marker: Path) -> bytes:
    """As torch.save has written since 1.6."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {"ctx": torch.zeros(4, 64)}, "epoch": 2, "scheduler": Payload(marker)}, buffer)
    return buffer.getvalue()


def legacy(marker: Path) -> bytes:
    """As torch.save wrote before."""
    buffer = io.BytesIO()
    torch.save({"state_dict": Payload(marker)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tarred(marker: Path) -> bytes:
    """As torch.save wrote long before: a tar file of pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("pickle", "tensors", "storages", "sys_info"):
            info = tarfile.TarInfo(name)
            info.size = len(bare(marker))
            archive.addfile(info, io.BytesIO(bare(marker)))
    return buffer.getvalue()


class Writer(torch.nn.Module):
    """TorchScript whose code runs when it is loaded; it cannot touch, but save."""

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
    """As torch.jit.save writes."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Writer(str(marker))), buffer)
    marker.unlink(missing_ok=True)
    return buffer.getvalue()


KINDS = {"bare": bare, "zipped": zipped, "legacy": legacy, "tarred": tarred, "scripted": scripted}


def runs(kind: str, folder: Path) -> bool:
    """Whether a careless reader would run what is in such a file: else a test with it proves nothing."""
    marker, file = folder / "careless", folder / "careless.pt"
    file.write_bytes(KINDS[kind](marker))
    try:
        if kind == "scripted":
            torch.jit.load(file)
        elif kind == "bare":
            pickle.loads(file.read_bytes())
        else:
            torch.load(file, weights_only=False)
    except Exception:  # a half of the file may be missing: what counts is what has run by then
        pass
    return marker.exists()
