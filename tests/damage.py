"""Functions that damage files as disks, networks and attackers do."""

import tarfile
import zipfile
from pathlib import Path

import torch

TENTHS = [number / 10 for number in range(10)]


def truncate(file: Path, share: float) -> None:
    """Keep the first `share` of a file."""
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def flip_bit(file: Path, position: int = -1, bit: int = 0) -> None:
    """Flip one bit of a file."""
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


def flip_byte_of_zip(file: Path) -> None:
    """Flip a byte in the largest member of a zip file, whose checksum no longer matches."""
    with zipfile.ZipFile(file) as archive:
        member = max(archive.infolist(), key=lambda entry: entry.file_size)
    flip_bit(file, member.header_offset + 200)


def zip_bomb(file: Path) -> None:
    """Write a zip file of 64 KiB that unpacks to 64 MiB of zeros."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(4):
                member.write(bytes(1 << 24))


def legacy_tar(file: Path) -> None:
    """Write a .tar file as the first versions of torch did."""
    kept = file.rename(file.with_name("kept"))
    with tarfile.open(file, "w") as archive:
        archive.add(kept, "storages")


def torchscript(file: Path) -> None:
    """Write a TorchScript archive of a linear layer."""
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(file))
