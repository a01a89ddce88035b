"""Broken and foreign CLIP files and unknown model names, each with its message."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fdbpl.backbones import load_backbone
from fdbpl.errors import UserError

from ..damage import TENTHS, flip_byte_of_zip, legacy_tar, torchscript, truncate, zip_bomb

State = dict[str, torch.Tensor]


def state(change: Callable[[State], object]) -> Callable[[Path], None]:
    """Damage that replaces the state dict by the result of `change`, or edits it in place."""

    def damage(file: Path) -> None:
        content = torch.load(file, weights_only=True)
        torch.save(change(content) or content, file)

    return damage


def value(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    return state(lambda content: content.update({name: change(content[name])}))


def without(prefix: str) -> Callable[[Path], None]:
    return state(lambda content: {key: value for key, value in content.items() if not key.startswith(prefix)})


NOT_CLIP = "are not those of OpenAI's CLIP"
UNREADABLE = "cannot be read safely"
FILES = {
    "empty": (lambda file: file.write_bytes(b""), UNREADABLE),
    "HTML": (lambda file: file.write_text("<html>404</html>"), UNREADABLE),
    "an image": (lambda file: file.write_bytes(b"\xff\xd8\xff\xe0" + bytes(2000)), UNREADABLE),
    "a pointer of Git LFS": (lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"), UNREADABLE),
    "a zip bomb": (zip_bomb, "unpacks to more than"),
    "a legacy .tar": (legacy_tar, "a .tar file of an old torch"),
    "a flipped byte": (flip_byte_of_zip, "damaged"),
    "TorchScript of another module": (torchscript, "none of those that OpenAI published"),
    "a zip file without tensors": (lambda file: zipfile.ZipFile(file, "w").close(), UNREADABLE),
    "a list": (state(lambda content: [1, 2]), "holds a list"),
    "a number": (state(lambda content: 5), "holds a int"),
    "numbers instead of tensors": (state(lambda content: {"logit_scale": 1.0}), "holds a dict"),
    "an empty state dict": (state(lambda content: {"state_dict": {}}), NOT_CLIP),
    "another model": (state(lambda content: {"fc.weight": torch.zeros(2, 2)}), NOT_CLIP),
    "names of another library": (state(lambda c: {f"clip.{name}": value for name, value in c.items()}), NOT_CLIP),
    "no projection": (without("text_projection"), "text_projection"),
    "no bias": (without("ln_final.bias"), "ln_final.bias"),
    "no image encoder": (without("visual"), NOT_CLIP),
    "no text encoder": (without("transformer"), NOT_CLIP),
    "an extra tensor": (state(lambda content: content.update(extra=torch.zeros(1))), "extra"),
    "a transposed matrix": (value("text_projection", lambda value: value[:, :7].T.contiguous()), NOT_CLIP),
    "a width that no head divides": (value("ln_final.weight", lambda value: torch.ones(40)), NOT_CLIP),
    "a width of 0": (value("ln_final.weight", lambda value: torch.ones(0)), NOT_CLIP),
    "NaN": (value("visual.proj", lambda value: value / 0 * 0), "visual.proj of .* contains NaN or Inf"),
    "Inf": (value("logit_scale", lambda value: value / 0), "logit_scale of .* contains NaN or Inf"),
    "integers": (value("visual.proj", lambda value: value.to(torch.int8)), "dtype torch.int8"),
    "complex numbers": (value("visual.proj", lambda value: value.to(torch.complex64)), "dtype torch.complex64"),
    "a sparse tensor": (value("visual.proj", lambda value: value.to_sparse()), "not dense"),
    "a tensor without values": (value("visual.proj", lambda value: value.to("meta")), "not dense"),
    "a tensor larger than memory": (value("visual.proj", lambda v: torch.zeros(1).expand(1 << 20, 1 << 22)), "larger"),
}


def assert_refused(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        load_backbone(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("case", FILES)
def test_files_without_a_clip(weights, tmp_path, case):
    damage, words = FILES[case]
    file = Path(shutil.copy(weights / "dict.pt", tmp_path / "clip.pt"))
    damage(file)
    before = file.read_bytes()
    assert_refused(str(file), words)
    assert_refused(str(file), str(file))
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["archive.pt", "dict.pt", "clip.safetensors"])
@pytest.mark.parametrize("share", TENTHS)
def test_truncated_files(weights, tmp_path, name, share):
    file = Path(shutil.copy(weights / name, tmp_path / name))
    truncate(file, share)
    assert_refused(str(file), f"{file} {UNREADABLE}")


NAMES = {
    "ViT-B/33": "ViT-B/32",
    "": "neither a CLIP name nor a file",
    "nowhere/clip.pt": "nowhere/clip.pt does not exist",
    ".": "is a folder",
    "demo:student": "demo:rn-student",
    "demo:../weights/teacher": "demo:rn-student",
    "random:ViT-Z": "Unknown architecture random:",
    "open_clip:ViT-H-14": "lacks an architecture or a tag",
    "open_clip:": "lacks an architecture or a tag",
    "run:nowhere": "nowhere",
}


@pytest.mark.parametrize("name", NAMES)
def test_unknown_names(name):
    assert_refused(name, NAMES[name])


@pytest.mark.parametrize(("precision", "words"), [("fp16", "PREC fp16 needs a GPU"), ("int8", "Unknown PREC 'int8'")])
def test_precisions(precision, words):
    with pytest.raises(UserError, match=words):
        load_backbone("RN50", precision=precision)
