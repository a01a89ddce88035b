"""Region banks with files that are damaged, missing, swapped, or from another bank."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fdbpl.regions.__main__ as regions
from fdbpl.backbones.openai import sha256_of
from fdbpl.errors import UserError
from fdbpl.regions.lookup import RegionLookup

from ...damage import TENTHS, flip_bit, truncate
from ..calls import refused, succeeds
from .workspace import Workspace, edit_json

Damage = Callable[[Workspace], object]


def header_of(file: Path) -> tuple[dict, bytes]:
    """Return the header and the tensor bytes of a safetensors file."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def edit_header(file: Path, change: Callable[[dict], object]) -> None:
    """Replace the safetensors header by the result of `change`, or edit it in place."""
    header, payload = header_of(file)
    text = json.dumps(change(header) or header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + payload)


def edit_metadata(file: Path, key: str = "shard", **changes: object) -> None:
    """Change entries of the bank's metadata in a file; None removes an entry."""

    def change(header: dict) -> None:
        content = json.loads(header["__metadata__"][key]) | changes
        header["__metadata__"][key] = json.dumps({name: value for name, value in content.items() if value is not None})

    edit_header(file, change)


def rename(file: Path, name: str) -> None:
    file.rename(file.with_name(name))


def swap(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def other_bank(workspace: Workspace) -> Path:
    """Generate a second bank of the same images with another seed and return its folder."""
    own = workspace.bank
    workspace.succeeds("REGIONS.SEED", 2, flags=["--generate-regions"])
    (other,) = (file.parent for file in own.parent.glob("*/manifest.json") if file.parent != own)
    return other


def grown(workspace: Workspace) -> list[Path]:
    """Grow the bank and return its two shards."""
    workspace.succeeds("REGIONS.PER_IMAGE", 5, flags=["--generate-regions"])
    return workspace.shards()


# manifest ------------------------------------------------------------------------------------------------------------


def manifest(content: str | bytes) -> Damage:
    data = content.encode() if isinstance(content, str) else content
    return lambda w: (w.bank / "manifest.json").write_bytes(data)


def identity(**changes: object) -> Damage:
    """Change entries of the identity in the manifest; None removes an entry."""

    def damage(workspace: Workspace) -> None:
        file = workspace.bank / "manifest.json"
        content = {**json.loads(file.read_text())["identity"], **changes}
        edit_json(file, identity={key: value for key, value in content.items() if value is not None})

    return damage


def manifest_folder(workspace: Workspace) -> None:
    (workspace.bank / "manifest.json").unlink()
    (workspace.bank / "manifest.json").mkdir()


MANIFESTS = {
    "missing": (lambda w: (w.bank / "manifest.json").unlink(), "no region bank of"),
    "empty": (manifest(""), "manifest.json"),
    "not JSON": (manifest("{'identity': 1}"), "manifest.json"),
    "not UTF-8": (manifest(b"\xff\xfe\x00"), "manifest.json"),
    "deeply nested": (manifest("[" * 100_000), "manifest.json"),
    "a huge number": (manifest('{"identity": ' + "9" * 5000 + "}"), "manifest.json"),
    "a list": (manifest("[]"), "holds a list"),
    "null": (manifest("null"), "NoneType"),
    "without identity": (manifest("{}"), "identity"),
    "an identity that is a list": (manifest('{"identity": [1]}'), "identity"),
    "a folder": (manifest_folder, "manifest.json"),
    "another schema": (identity(schema=2), "schema 2"),
    "a schema of type str": (identity(schema="1"), "schema '1'"),
    "no schema": (identity(schema=None), "schema None"),
    "no seed": (identity(seed=None), "seed"),
    "an unknown key": (identity(owner="me"), "owner"),
    "a size of type str": (identity(size="32"), "size '32'"),
    "a mean that is a number": (identity(mean=0.5), "mean 0.5"),
    "a mean of strings": (identity(mean=["a", "b", "c"]), "mean ['a'"),
    "a flag instead of a number": (identity(flip=True), "flip True"),
    "another teacher": (identity(teacher="ViT-L/14"), "(only"),
    "another teacher's weights": (identity(teacher_sha256="0" * 64), "(only"),
    "another seed": (identity(seed=2), "(only"),
    "another crop": (identity(scale=[0.1, 0.9]), "(only"),
    "another data set": (identity(dataset="other"), "(only"),
    "another content": (identity(content="topk:3"), "(only"),
    "another class list": (identity(classes="0123"), "(only"),
    "another preprocessing": (identity(mean=[0.5, 0.5, 0.5]), "another bank"),
    "another size": (identity(size=64), "another bank"),
    "another logit scale": (identity(logit_scale=1.0), "another bank"),
    **{f"{share:.0%} of it": (lambda w, s=share: truncate(w.bank / "manifest.json", s), "manifest.json")
       for share in TENTHS},
}  # fmt: skip


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests(workspace, case):
    damage, words = MANIFESTS[case]
    damage(workspace)
    workspace.refused(names=[words, str(workspace.bank if words == "another bank" else workspace.bank.parent)])


# shards --------------------------------------------------------------------------------------------------------------


def first_shard(change: Callable[[Path], object]) -> Damage:
    return lambda w: change(w.shards()[0])


def content(data: bytes) -> Damage:
    return first_shard(lambda file: file.write_bytes(data))


def header(change: Callable[[dict], object]) -> Damage:
    return first_shard(lambda file: edit_header(file, change))


def metadata(**changes: object) -> Damage:
    return first_shard(lambda file: edit_metadata(file, **changes))


def delete_second_of_two(workspace: Workspace) -> None:
    for file in grown(workspace):
        if json.loads(header_of(file)[0]["__metadata__"]["shard"])["first"]:
            file.unlink()


SHARDS = {
    "missing": (first_shard(Path.unlink), "lacks regions of"),
    "empty": (content(b""), "Broken"),
    "text": (content(b"a text that is long enough for a header"), "Broken"),
    "a header beyond the end": (content(struct.pack("<Q", 1 << 60) + b"{}"), "Broken"),
    "a header that is a list": (content(struct.pack("<Q", 2) + b"[]"), "Broken"),
    "a deeply nested header": (content(struct.pack("<Q", 50_000) + b"[" * 50_000), "Broken"),
    "no metadata": (header(lambda h: h.pop("__metadata__") and None), "Broken"),
    "metadata of another file": (header(lambda h: h.update(__metadata__={})), "Broken"),
    "an unknown dtype": (header(lambda h: h["boxes"].update(dtype="F8")), "Broken"),
    "another shape": (header(lambda h: h["boxes"].update(shape=[1, 4])), "Broken"),
    "a negative shape": (header(lambda h: h["boxes"].update(shape=[-1, -4])), "Broken"),
    "an offset of type str": (header(lambda h: h["boxes"].update(data_offsets="ab")), "Broken"),
    "a missing tensor": (header(lambda h: h.pop("embeddings") and None), "Broken"),
    "no images": (metadata(images=None), "images"),
    "images of type int": (metadata(images=[1, 2]), "not strings"),
    "another image": (metadata(images=["tiny/images/x.jpg"] * 10), "the regions of regions-"),
    "a single image": (metadata(images=["tiny/images/0_0.jpg"]), "images"),
    "a first region of type str": (metadata(first="0"), "first region '0'"),
    "a negative first region": (metadata(first=-3), "first region -3"),
    "no regions": (metadata(count=0), "count 0"),
    "other regions": (metadata(first=3), "the regions of regions-"),
    "sizes of type str": (metadata(sizes="large"), "sizes"),
    "no checksum": (metadata(payload=None), "checksum"),
    "another checksum": (metadata(payload="0" * 64), "checksum"),
    "another name": (first_shard(lambda file: rename(file, f"regions-{'0' * 16}.safetensors")), "Rename it"),
    "a shard of another bank": (lambda w: shutil.copy(other_bank(w) / w.shards()[0].name, w.bank), "another bank"),
    "two swapped": (lambda w: swap(*grown(w)), "the regions of regions-"),
    "the second of two missing": (delete_second_of_two, "lacks regions of"),
    "a folder": (lambda w: (w.bank / f"regions-{'1' * 16}.safetensors").mkdir(), "regions-1"),
}


@pytest.mark.parametrize("case", SHARDS)
def test_shards(workspace, case):
    damage, words = SHARDS[case]
    damage(workspace)
    overrides = ["REGIONS.PER_IMAGE", 5] if "two" in case else []
    workspace.refused(*overrides, names=[words, str(workspace.bank)])


@pytest.mark.parametrize("share", TENTHS)
def test_truncated_shards(workspace, share):
    shard = workspace.shards()[0]
    truncate(shard, share)
    workspace.refused(names=shard.name)
    workspace.refused(names=shard.name, flags=["--generate-regions"])


@pytest.mark.parametrize("case", ["missing", "empty", "another name", "a shard of another bank", "other regions"])
def test_inspection(workspace, case):
    SHARDS[case][0](workspace)
    words = ["inspect", workspace.bank]
    if case == "missing":
        assert "regions" in succeeds(regions.main, words, [workspace.bank]).out
    else:
        refused(regions.main, words, str(workspace.bank), unchanged=[workspace.bank])


# features ------------------------------------------------------------------------------------------------------------


def features(change: Callable[[Path], object]) -> Damage:
    return lambda w: change(w.student_features()[0])


def text(change: Callable[[Path], object]) -> Damage:
    return lambda w: change(w.texts()[0])


def features_of_another_bank(workspace: Workspace) -> None:
    for file in other_bank(workspace).glob("features/*/*"):
        shutil.copy(file, workspace.student_features()[0])


FEATURES = {
    "no folder": (lambda w: shutil.rmtree(w.bank / "features"), "1 of 1 files are missing"),
    "no folder of the student": (features(lambda file: shutil.rmtree(file.parent)), "1 of 1 files are missing"),
    "missing": (features(Path.unlink), "1 of 1 files are missing"),
    "empty": (features(lambda file: file.write_bytes(b"")), "Broken"),
    "half": (features(lambda file: truncate(file, 0.5)), "Broken"),
    "a flipped bit": (features(flip_bit), "checksum"),
    "features of another student": (features(lambda file: edit_metadata(file, student="0" * 64)), "another student"),
    "features of another shard": (features(lambda file: edit_metadata(file, shard="regions-0.safetensors")),
                               "another shard"),
    "features of another bank": (features_of_another_bank, "another bank"),
    "a shard": (lambda w: shutil.copy(w.shards()[0], w.student_features()[0]), ""),
    "no text features": (lambda w: shutil.rmtree(w.bank / "text"), "text features of 5 of 5 prompts"),
    "empty text features": (text(lambda file: file.write_bytes(b"")), "text features"),
    "half of the text features": (text(lambda file: truncate(file, 0.5)), "text features"),
    "a flipped bit of the text features": (text(flip_bit), "text features"),
    "text features of another name": (text(lambda file: rename(file, "0123.safetensors")), "do not match its name"),
    "other prompts": (text(lambda file: edit_metadata(file, "prompts", prompts=["a"])), "do not match"),
    "prompts of type int": (text(lambda file: edit_metadata(file, "prompts", prompts=7)), "text"),
    "text features of another teacher": (text(lambda file: edit_metadata(file, "prompts", teacher="0" * 64)),
                                         "another teacher"),
    "metadata of type int": (text(lambda file: edit_header(
        file, lambda h: h["__metadata__"].update(prompts="7"))), "text"),
}  # fmt: skip


@pytest.mark.parametrize("case", FEATURES)
def test_features(workspace, case):
    damage, words = FEATURES[case]
    damage(workspace)
    workspace.refused(names=[words, str(workspace.bank)])


@pytest.mark.parametrize("record", ["x", '{"seconds": null, "regions": 1}'])
def test_a_broken_cost_record_is_ignored(workspace, record):
    (workspace.bank / "cost.json").write_text(record)
    workspace.succeeds()
    workspace.succeeds("REGIONS.PER_IMAGE", 4, flags=["--generate-regions"])
    assert json.loads((workspace.bank / "cost.json").read_text())["regions"] > 0
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL")["accuracy"]


# command line --------------------------------------------------------------------------------------------------------


COMMANDS = {
    "no bank": ("inspect nowhere", "nowhere"),
    "no {}": ("generate --template photo", "--template"),
    "no regions": ("generate --per-image 0", "--per-image 0"),
    "a reversed range": ("generate --scale 0.9 0.1", "--scale"),
    "a scale above 1": ("generate --scale 0.5 2", "--scale"),
    "no images": ("generate --images {empty}", "no image in"),
    "images outside of the root": ("generate --images {elsewhere}", "does not lie below --root"),
    "a dictionary of images": ("generate --images {dict}", "a JSON list of image paths"),
    "a list of numbers": ("generate --images {numbers}", "a JSON list of image paths"),
    "a list that leads outside": ("generate --images {outside}", "does not lie below --root"),
    "a missing file of class names": ("generate --classnames nowhere.txt", "nowhere.txt"),
    "class names without UTF-8": ("generate --classnames {binary}", "UTF-8"),
    "K = 0": ("generate --content topk:0 --classnames {names}", "topk:0"),
    "K without class names": ("generate --content topk:3", "--classnames"),
    "an unknown teacher": ("generate --teacher ViT-B/33", "ViT-B/33"),
    "an unknown pipeline": ("generate --pipeline fast", "fast"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_commands(data_root, teacher_file, tmp_path, case):
    contents = {"dict": b"{}", "numbers": b"[1]", "outside": b'["../secret.jpg"]', "binary": b"\xff\xfe",
                "names": b"cat\ndog\n", "empty/.keep": b"", "elsewhere/a.jpg": b""}  # fmt: skip
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    places = {Path(name).parts[0]: tmp_path / Path(name).parts[0] for name in contents}
    command, message = COMMANDS[case]
    first, *words = [word.format(**places) for word in command.split()]
    flags = ["--root", data_root, "--images", data_root / "tiny" / "images", "--bank", tmp_path / "bank",
             "--teacher", teacher_file] if first == "generate" else []  # fmt: skip
    refused(regions.main, [first, *flags, *words], message, unchanged=[data_root])


# random bit flips ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def read_all(prepared, student_file):
    """Return a function that reads from a bank all tensors that training uses."""
    student = (student_file, sha256_of(student_file))
    (shard,), (texts,) = Workspace(prepared).shards(), Workspace(prepared).texts()
    images = json.loads(header_of(shard)[0]["__metadata__"]["shard"])["images"]
    prompts = json.loads(header_of(texts)[0]["__metadata__"]["prompts"])["prompts"]
    grid = torch.cartesian_prod(torch.arange(len(images)), torch.arange(3))

    def read(bank: Path) -> list[torch.Tensor]:
        lookup = RegionLookup(bank, images, 3, prompts, student)
        reads = (lookup.embeddings, lookup.teacher_logits, lookup.boxes, lookup.flips, lookup.student_features)
        return [function(grid[:, 0], grid[:, 1]) for function in reads]

    return read


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bits(prepared, read_all, tmp_path, data):
    """A flipped bit in any file of a bank ends in an error message or does not change the values."""
    intact = Workspace(prepared)
    files = [intact.bank / "manifest.json", *intact.shards(), *intact.student_features(), *intact.texts()]
    file = data.draw(st.sampled_from(files))
    size = file.stat().st_size
    position = data.draw(st.integers(0, size - 1) | st.integers(0, min(size, 1500) - 1))
    shutil.copytree(intact.bank, tmp_path / "bank", dirs_exist_ok=True)
    flip_bit(tmp_path / "bank" / file.relative_to(intact.bank), position, data.draw(st.integers(0, 7)))
    try:
        values = read_all(tmp_path / "bank")
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert all(map(torch.equal, values, read_all(intact.bank)))
