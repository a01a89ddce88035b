"""CLIP files that are broken, of other things, or named wrongly: as student and as teacher."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fdbpl.backbones import load_backbone
from fdbpl.io import tensor_files

from .test_checkpoints import compressed, scripted, tarred, torn
from .workspace import TENTHS, cut

State = dict[str, torch.Tensor]


class Carrier(torch.nn.Module):
    """TorchScript carrier of a CLIP's tensors under their own names, as OpenAI's files are."""

    def __init__(self, state: State):
        super().__init__()
        for name, value in state.items():
            module: torch.nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            module.register_buffer(last, value)

    def forward(self, x):
        return x


@pytest.fixture(scope="session")
def kinds(student_file, tmp_path_factory) -> dict[str, Path]:
    """The same CLIP as TorchScript archive, state dict and safetensors."""
    folder, state = tmp_path_factory.mktemp("kinds"), load_file(student_file)
    torch.save(state, folder / "state.pt")
    torch.jit.script(Carrier(state)).save(str(folder / "archive.pt"))
    shutil.copy(student_file, folder / "clip.safetensors")
    return {kind: folder / name for kind, name in
            {"archive": "archive.pt", "state": "state.pt", "safetensors": "clip.safetensors"}.items()}  # fmt: skip


def changed(change: Callable[[State], object]) -> Callable[[Path], None]:
    """Have `change` edit the state dict."""

    def damage(file: Path) -> None:
        state = load_file(file)
        file.unlink()  # it is mapped
        torch.save(change(state) or state, file)

    return damage


def key(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    return changed(lambda state: state.update({name: change(state[name])}))


def without(name: str) -> Callable[[Path], None]:
    return changed(lambda state: {key: value for key, value in state.items() if key != name})


FILES = {
    "empty": (lambda file: file.write_bytes(b""), "cannot be read safely"),
    "text": (lambda file: file.write_text("<html>404</html>"), "cannot be read safely"),
    "a picture": (lambda file: file.write_bytes(b"\xff\xd8\xff\xe0" + bytes(2000)), "cannot be read safely"),
    "a pointer of Git LFS": (lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"), "cannot be"),
    "a bomb": (compressed, "unpacks to more than"),
    "a .tar of an old torch": (lambda file: (changed(lambda state: None)(file), tarred(file)), ".tar"),
    "a byte flipped": (lambda file: (changed(lambda state: None)(file), torn(file)), "damaged"),
    "TorchScript of another module": (scripted, "expected the parameters of OpenAI's CLIP"),
    "a zip without tensors": (lambda file: zipfile.ZipFile(file, "w").close(), "cannot be read safely"),
    "a list": (changed(lambda state: [1, 2]), "found list"),
    "a number": (changed(lambda state: 5), "found int"),
    "numbers for tensors": (changed(lambda state: {"logit_scale": 1.0}), "found dict"),
    "nothing in it": (changed(lambda state: {"state_dict": {}}), "expected the parameters of OpenAI's CLIP"),
    "another model's": (changed(lambda state: {"fc.weight": torch.zeros(2, 2)}), "expected the parameters"),
    "names of another library": (changed(lambda state: {f"clip.{name}": value for name, value in state.items()}),
                                 "expected the parameters"),
    "no projection": (without("text_projection"), "text_projection"),
    "no bias": (without("ln_final.bias"), "ln_final.bias"),
    "no image tower": (changed(lambda state: {k: v for k, v in state.items() if not k.startswith("visual")}),
                       "expected the parameters"),
    "no text tower": (changed(lambda state: {k: v for k, v in state.items() if not k.startswith("transformer")}),
                      "expected the parameters"),
    "something more": (changed(lambda state: state.update(extra=torch.zeros(1))), "extra"),
    "a shape turned round": (key("text_projection", lambda value: value[:, :7].T.contiguous()), "expected the param"),
    "a width that no head divides": (key("ln_final.weight", lambda value: torch.ones(40)), "expected the parameters"),
    "no width": (key("ln_final.weight", lambda value: torch.ones(0)), "expected the parameters"),
    "no number": (key("visual.proj", lambda value: value / 0 * 0), "finite numbers in visual.proj"),
    "infinite": (key("logit_scale", lambda value: value / 0), "finite numbers in logit_scale"),
    "whole numbers": (key("visual.proj", lambda value: value.to(torch.int8)), "found torch.int8"),
    "complex numbers": (key("visual.proj", lambda value: value.to(torch.complex64)), "found torch.complex64"),
    "a sparse tensor": (key("visual.proj", lambda value: value.to_sparse()), "not plain"),
    "a tensor without values": (key("visual.proj", lambda value: value.to("meta")), "not plain"),
    "a tensor larger than memory": (key("visual.proj", lambda value: torch.zeros(1).expand(1 << 20, 1 << 22)), "large"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_student_that_is_no_clip(workspace, student_file, case):
    damage, said = FILES[case]
    file = shutil.copy(student_file, workspace.folder / "clip.pt")
    damage(Path(file))
    workspace.refused("MODEL.BACKBONE.NAME", file, trainer="CoOp", names=[said, file], unchanged=[Path(file)])


@pytest.mark.parametrize("case", ["empty", "a bomb", "TorchScript of another module", "no number", "no projection"])
def test_a_teacher_that_is_no_clip(workspace, teacher_file, case):
    damage, said = FILES[case]
    file = Path(shutil.copy(teacher_file, workspace.folder / "clip.pt"))
    damage(file)
    workspace.refused("TEACHER.NAME", file, trainer="CoOp_KDPL", names=[said, str(file)])
    workspace.refused("TEACHER.NAME", file, flags=["--generate-regions"], names=[said, str(file)])


@pytest.mark.parametrize("kind", ["archive", "state", "safetensors"])
@pytest.mark.parametrize("share", TENTHS)
def test_a_truncated_clip(workspace, kinds, kind, share):
    file = Path(shutil.copy(kinds[kind], workspace.folder / kinds[kind].name))
    cut(file, share)
    workspace.refused("MODEL.BACKBONE.NAME", file, trainer="CoOp", names=[str(file), "cannot be read safely"])


@pytest.mark.parametrize("kind", ["archive", "state", "safetensors"])
def test_what_is_whole_is_read(kinds, student_file, kind):
    expected = load_file(student_file)
    found = load_backbone(str(kinds[kind])).model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_torchscript_archive_is_read_as_torch_reads_it(tmp_path):
    """Names, order, values, shapes and dtypes, of modules in modules, views and tied weights."""

    class Inner(torch.nn.Module):
        def __init__(self, value: torch.Tensor):
            super().__init__()
            self.weight = torch.nn.Parameter(value)
            self.names: list[str] = ["a", "b"]
            self.register_buffer("count", torch.tensor(3))

        def forward(self, x):
            return x * self.weight.sum()

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.randn(6, 4)
            self.first, self.second = Inner(whole[:2]), Inner(whole.T)
            self.short = torch.nn.Parameter(torch.randn(3).half())
            self.shorter = torch.nn.Parameter(torch.randn(3).bfloat16())
            self.register_buffer("none", torch.empty(0))
            self.register_buffer("flags", torch.tensor([True, False]))
            self.layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))

        def forward(self, x):
            return self.first(x) + self.second(x)

    torch.jit.script(Outer()).save(str(tmp_path / "model.pt"))
    expected = torch.jit.load(str(tmp_path / "model.pt")).state_dict()
    found = tensor_files.torchscript_tensors(tmp_path / "model.pt")
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


NAMES = {
    "ViT-B/33": "ViT-B/32",
    "": "neither a CLIP name nor a file",
    "nowhere/clip.pt": "nowhere/clip.pt does not exist",
    ".": "a folder",
    "demo:student": "demo:rn-student",
    "demo:../weights/teacher": "demo:rn-student",
    "random:ViT-Z": "random:",
    "open_clip:ViT-H-14": "expected open_clip:ARCHITECTURE/TAG",
    "open_clip:": "expected open_clip:ARCHITECTURE/TAG",
    "run:nowhere": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_that_there_are_not(workspace, name):
    if not name.startswith("run:"):
        workspace.refused("MODEL.BACKBONE.NAME", name, trainer="CoOp", names=NAMES[name])
    if name:
        workspace.refused("TEACHER.NAME", name, trainer="CoOp_KDPL", output="taught", names=NAMES[name])


@pytest.mark.parametrize("case", ["TorchScript of another module", "a bomb", "a .tar of an old torch"])
def test_files_that_open_clip_does_not_get_to_see(tmp_path, student_file, workspace, case):
    pytest.importorskip("open_clip", reason="open_clip_torch is optional")
    file = Path(shutil.copy(student_file, tmp_path / "weights.bin"))
    FILES[case][0](file)
    workspace.refused("TEACHER.NAME", f"open_clip:ViT-B-32/{file}", trainer="CoOp_KDPL", names=str(file))


def test_pictures_of_another_size(workspace):
    workspace.refused("INPUT.SIZE", "(64, 64)", trainer="CoOp", names="INPUT.SIZE (32, 32)")
