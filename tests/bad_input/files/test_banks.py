"""Region banks that are not what they were: broken, incomplete, mixed up, or somebody else's."""

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

from ..calls import refused, succeeds
from .workspace import TENTHS, Workspace, cut, edit_json

Damage = Callable[[Workspace], object]


def identity(**changes: object) -> Damage:
    """Another identity in the manifest; None takes a key out."""

    def damage(workspace: Workspace) -> None:
        file = workspace.bank / "manifest.json"
        content = {**json.loads(file.read_text())["identity"], **changes}
        edit_json(file, identity={key: value for key, value in content.items() if value is not None})

    return damage


def manifest(content: str | bytes) -> Damage:
    data = content.encode() if isinstance(content, str) else content
    return lambda workspace: (workspace.bank / "manifest.json").write_bytes(data)


MANIFESTS = {
    "gone": (lambda w: (w.bank / "manifest.json").unlink(), "no region bank of"),
    "empty": (manifest(""), "manifest.json"),
    "no JSON": (manifest("{'identity': 1}"), "manifest.json"),
    "no text": (manifest(b"\xff\xfe\x00"), "manifest.json"),
    "without end": (manifest("[" * 100_000), "manifest.json"),
    "a huge number": (manifest('{"identity": ' + "9" * 5000 + "}"), "manifest.json"),
    "a list": (manifest("[]"), "holds a list"),
    "null": (manifest("null"), "NoneType"),
    "without identity": (manifest("{}"), "identity"),
    "an identity that is a list": (manifest('{"identity": [1]}'), "identity"),
    "a folder": (lambda w: ((w.bank / "manifest.json").unlink(), (w.bank / "manifest.json").mkdir()),
                 "manifest.json"),
    "another schema": (identity(schema=2), "schema 2"),
    "a schema in words": (identity(schema="1"), "schema '1'"),
    "no schema": (identity(schema=None), "schema None"),
    "no seed": (identity(seed=None), "seed"),
    "a stranger's key": (identity(owner="me"), "owner"),
    "a size in words": (identity(size="32"), "size '32'"),
    "a mean that is a number": (identity(mean=0.5), "mean 0.5"),
    "a mean of words": (identity(mean=["a", "b", "c"]), "mean ['a'"),
    "a flag for a number": (identity(flip=True), "flip True"),
    "another teacher": (identity(teacher="ViT-L/14"), "(only"),
    "another teacher's weights": (identity(teacher_sha256="0" * 64), "(only"),
    "another seed": (identity(seed=2), "(only"),
    "another crop": (identity(scale=[0.1, 0.9]), "(only"),
    "another data set": (identity(dataset="other"), "(only"),
    "another content": (identity(content="topk:3"), "(only"),
    "another preprocessing": (identity(mean=[0.5, 0.5, 0.5]), "another bank"),
    "another size": (identity(size=64), "another bank"),
    "another logit scale": (identity(logit_scale=1.0), "another bank"),
    "another class list": (identity(classes="0123"), "(only"),
}  # fmt: skip


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_is_not_the_banks(workspace, case):
    damage, said = MANIFESTS[case]
    damage(workspace)
    workspace.refused(names=[said, str(workspace.bank if said == "another bank" else workspace.bank.parent)])


@pytest.mark.parametrize("share", TENTHS)
def test_a_truncated_manifest(workspace, share):
    cut(workspace.bank / "manifest.json", share)
    workspace.refused(names="manifest.json")


def other_bank(workspace: Workspace) -> Path:
    """A second bank of the same images, of another seed."""
    there = workspace.bank
    workspace.succeeds("REGIONS.SEED", 2, flags=["--generate-regions"])
    (other,) = (file.parent for file in there.parent.glob("*/manifest.json") if file.parent != there)
    return other


def rename(file: Path, name: str) -> Path:
    return file.rename(file.with_name(name))


def swap(first: Path, second: Path) -> None:
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def grown(workspace: Workspace) -> list[Path]:
    """The shards of a bank that has grown: two."""
    workspace.succeeds("REGIONS.PER_IMAGE", 5, flags=["--generate-regions"])
    return workspace.shards()


def header_of(file: Path) -> tuple[dict, bytes]:
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def with_header(file: Path, change: Callable[[dict], object]) -> None:
    """Have `change` edit the safetensors header."""
    header, payload = header_of(file)
    text = json.dumps(change(header) or header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + payload)


def first_region(file: Path) -> int:
    return json.loads(header_of(file)[0]["__metadata__"]["shard"])["first"]


def said_of_itself(**changes: object) -> Damage:
    """Another description in a shard's metadata; None takes a key out."""

    def change(header: dict) -> None:
        shard = {**json.loads(header["__metadata__"]["shard"]), **changes}
        header["__metadata__"]["shard"] = json.dumps({key: value for key, value in shard.items() if value is not None})

    return lambda workspace: with_header(workspace.shards()[0], change)


def first_shard(content: bytes) -> Damage:
    return lambda workspace: workspace.shards()[0].write_bytes(content)


SHARDS = {
    "gone": (lambda w: w.shards()[0].unlink(), "lacks regions of"),
    "empty": (first_shard(b""), "Broken"),
    "text": (first_shard(b"these are no tensors, but it is a long text"), "Broken"),
    "a header without end": (first_shard(struct.pack("<Q", 1 << 60) + b"{}"), "Broken"),
    "a header that is a list": (first_shard(struct.pack("<Q", 2) + b"[]"), "Broken"),
    "a header of brackets": (first_shard(struct.pack("<Q", 50_000) + b"[" * 50_000), "Broken"),
    "no metadata": (lambda w: with_header(w.shards()[0], lambda h: h.pop("__metadata__") and None), "Broken"),
    "metadata of another file": (lambda w: with_header(w.shards()[0], lambda h: h.update(__metadata__={})),
                                 "Broken"),
    "an unknown dtype": (lambda w: with_header(w.shards()[0], lambda h: h["boxes"].update(dtype="F8")),
                         "Broken"),
    "another shape": (lambda w: with_header(w.shards()[0], lambda h: h["boxes"].update(shape=[1, 4])),
                      "Broken"),
    "a negative shape": (lambda w: with_header(w.shards()[0], lambda h: h["boxes"].update(shape=[-1, -4])),
                         "Broken"),
    "an offset in words": (lambda w: with_header(w.shards()[0], lambda h: h["boxes"].update(data_offsets="ab")),
                           "Broken"),
    "a tensor gone": (lambda w: with_header(w.shards()[0], lambda h: h.pop("embeddings") and None), "Broken"),
    "no images": (said_of_itself(images=None), "images"),
    "images that are numbers": (said_of_itself(images=[1, 2]), "not strings"),
    "another image": (said_of_itself(images=["tiny/images/x.jpg"] * 10), "the regions of regions-"),
    "one image fewer": (said_of_itself(images=["tiny/images/0_0.jpg"]), "images"),
    "the first region in words": (said_of_itself(first="0"), "first region '0'"),
    "a negative first region": (said_of_itself(first=-3), "first region -3"),
    "no regions": (said_of_itself(count=0), "count 0"),
    "other regions": (said_of_itself(first=3), "the regions of regions-"),
    "sizes in words": (said_of_itself(sizes="large"), "sizes"),
    "no checksum": (said_of_itself(payload=None), "checksum"),
    "another checksum": (said_of_itself(payload="0" * 64), "checksum"),
    "another name": (lambda w: rename(w.shards()[0], f"regions-{'0' * 16}.safetensors"), "Rename it"),
    "another bank's": (lambda w: shutil.copy(other_bank(w) / w.shards()[0].name, w.bank),
                       "another bank"),
    "two swapped": (lambda w: swap(*grown(w)), "the regions of regions-"),
    "the second one of two gone": (lambda w: [file.unlink() for file in grown(w) if first_region(file)],
                                   "lacks regions of"),
    "a folder": (lambda w: (w.shards()[0].rename(w.bank / "kept"),
                                (w.bank / f"regions-{'1' * 16}.safetensors").mkdir()), "regions-1"),
}  # fmt: skip


@pytest.mark.parametrize("case", SHARDS)
def test_a_shard_that_is_not_what_was_written(workspace, case):
    damage, said = SHARDS[case]
    damage(workspace)
    more = ["REGIONS.PER_IMAGE", 5] if "two" in case else []
    workspace.refused(*more, names=[said, str(workspace.bank)])


@pytest.mark.parametrize("share", TENTHS)
def test_a_truncated_shard(workspace, share):
    shard = workspace.shards()[0]
    cut(shard, share)
    workspace.refused(names=shard.name)
    workspace.refused(names=shard.name, flags=["--generate-regions"])


def features(change: Callable[[Path], object]) -> Damage:
    return lambda workspace: change(workspace.student_features()[0])


def of_another_student(workspace: Workspace) -> None:
    file = workspace.student_features()[0]
    with_header(file, lambda header: _say(header, student="0" * 64))


def _say(header: dict, **changes: object) -> None:
    header["__metadata__"]["shard"] = json.dumps({**json.loads(header["__metadata__"]["shard"]), **changes})


def _told(header: dict, **changes: object) -> None:
    header["__metadata__"]["prompts"] = json.dumps({**json.loads(header["__metadata__"]["prompts"]), **changes})


def flip_last_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


FEATURES = {
    "all gone": (lambda w: shutil.rmtree(w.bank / "features"), "1 of 1 files are missing"),
    "the student's gone": (features(lambda file: shutil.rmtree(file.parent)), "1 of 1 files are missing"),
    "gone": (features(Path.unlink), "1 of 1 files are missing"),
    "empty": (features(lambda file: file.write_bytes(b"")), "Broken"),
    "half": (features(lambda file: cut(file, 0.5)), "Broken"),
    "a bit flipped": (features(flip_last_bit), "checksum"),
    "another student's": (of_another_student, "another student"),
    "another shard's": (features(lambda file: with_header(file, lambda h: _say(h, shard="regions-0.safetensors"))),
                        "another shard"),
    "another bank's": (lambda w: [shutil.copy(file, w.student_features()[0])
                                      for file in other_bank(w).glob("features/*/*")], "another bank"),
    "the regions themselves": (lambda w: shutil.copy(w.shards()[0], w.student_features()[0]), ""),
}  # fmt: skip
TEXTS = {
    "gone": (lambda w: shutil.rmtree(w.bank / "text"), "text features of 5 of 5 prompts"),
    "empty": (lambda w: w.texts()[0].write_bytes(b""), "text features"),
    "half": (lambda w: cut(w.texts()[0], 0.5), "text features"),
    "a bit flipped": (lambda w: flip_last_bit(w.texts()[0]), "text features"),
    "another name": (lambda w: rename(w.texts()[0], "0123.safetensors"), "do not match its name"),
    "other prompts": (lambda w: with_header(w.texts()[0], lambda h: _told(h, prompts=["a"])), "do not match"),
    "prompts that are none": (lambda w: with_header(w.texts()[0], lambda h: _told(h, prompts=7)), "text"),
    "another teacher's": (lambda w: with_header(w.texts()[0], lambda h: _told(h, teacher="0" * 64)),
                          "another teacher"),
    "a number for all that": (lambda w: with_header(w.texts()[0],
                                                        lambda h: h["__metadata__"].update(prompts="7")), "text"),
}  # fmt: skip


@pytest.mark.parametrize("case", FEATURES)
def test_student_features_that_are_not_of_these_regions(workspace, case):
    damage, said = FEATURES[case]
    damage(workspace)
    workspace.refused(names=[said, str(workspace.bank)])


@pytest.mark.parametrize("case", TEXTS)
def test_text_features_that_are_not_of_these_prompts(workspace, case):
    damage, said = TEXTS[case]
    damage(workspace)
    workspace.refused(names=[said, str(workspace.bank)])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seconds": "1"}', "x", '{"seconds": null, "regions": 1}'])
def test_nobody_waits_for_a_broken_record_of_costs(workspace, content):
    (workspace.bank / "cost.json").write_text(content)
    workspace.succeeds()
    workspace.succeeds("REGIONS.PER_IMAGE", 4, flags=["--generate-regions"])
    assert json.loads((workspace.bank / "cost.json").read_text())["regions"] > 0
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL")["accuracy"]


@pytest.mark.parametrize("case", ["gone", "empty", "another name", "another bank's", "other regions"])
def test_a_look_at_a_bank_says_the_same(workspace, case):
    SHARDS[case][0](workspace)
    words = ["inspect", workspace.bank]
    if case == "gone":
        assert "regions" in succeeds(regions.main, words, [workspace.bank]).out
    else:
        refused(regions.main, words, str(workspace.bank), unchanged=[workspace.bank])


BANK_WORDS = {
    "no bank": (["inspect", "nowhere"], "nowhere"),
    "no template": (["generate", "--template", "a photo"], "--template"),
    "no regions": (["generate", "--per-image", "0"], "--per-image 0"),
    "a range upside down": (["generate", "--scale", "0.9", "0.1"], "--scale"),
    "a range beyond": (["generate", "--scale", "0.5", "2"], "--scale"),
    "no images": (["generate", "--images", "{empty}"], "no image in"),
    "images elsewhere": (["generate", "--images", "{elsewhere}"], "does not lie below --root"),
    "a list that is none": (["generate", "--images", "{dict}"], "a JSON list of image paths"),
    "a list of numbers": (["generate", "--images", "{numbers}"], "a JSON list of image paths"),
    "a list that leads outside": (["generate", "--images", "{outside}"], "does not lie below --root"),
    "names that are not there": (["generate", "--classnames", "nowhere.txt"], "nowhere.txt"),
    "names that are no text": (["generate", "--classnames", "{binary}"], "UTF-8"),
    "K of nothing": (["generate", "--content", "topk:0", "--classnames", "{names}"], "topk:0"),
    "K without names": (["generate", "--content", "topk:3"], "--classnames"),
    "an unknown teacher": (["generate", "--teacher", "ViT-B/33"], "ViT-B/33"),
    "an unknown pipeline": (["generate", "--pipeline", "fast"], "fast"),
}


@pytest.mark.parametrize("case", BANK_WORDS)
def test_banks_without_a_trainer(data_root, teacher_file, tmp_path, case):
    given_words, said = BANK_WORDS[case]
    places = {"empty": tmp_path / "empty", "elsewhere": tmp_path / "elsewhere"}
    for folder in places.values():
        folder.mkdir()
    (tmp_path / "elsewhere" / "a.jpg").touch()
    contents = {
        "dict": "{}", "numbers": "[1]", "outside": '["../secret.jpg"]', "binary": b"\xff\xfe", "names": "cat\ndog\n"
    }  # fmt: skip
    for name, content in contents.items():
        places[name] = tmp_path / name
        places[name].write_bytes(content if isinstance(content, bytes) else content.encode())
    command, *more = [word.format(**places) for word in given_words]
    base = {"--root": data_root, "--images": data_root / "tiny" / "images", "--bank": tmp_path / "bank",
            "--teacher": teacher_file}  # fmt: skip
    flags = [word for pair in base.items() for word in pair] if command == "generate" else []
    refused(regions.main, [command, *flags, *more], said, unchanged=[data_root])


# any bit ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def everything(prepared, student_file):
    """everything(bank) -> what training reads of it."""
    student = (student_file, sha256_of(student_file))
    (shard,), (text,) = Workspace(prepared).shards(), Workspace(prepared).texts()
    images = json.loads(header_of(shard)[0]["__metadata__"]["shard"])["images"]
    prompts = json.loads(header_of(text)[0]["__metadata__"]["prompts"])["prompts"]
    grid = torch.cartesian_prod(torch.arange(len(images)), torch.arange(3))

    def read(bank: Path) -> list[torch.Tensor]:
        lookup = RegionLookup(bank, images, 3, prompts, student)
        ways = (lookup.embeddings, lookup.teacher_logits, lookup.boxes, lookup.flips, lookup.student_features)
        return [way(grid[:, 0], grid[:, 1]) for way in ways]

    return read


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_bit_goes_by(prepared, everything, tmp_path, data):
    """A flipped bit in any file of a bank ends in an error message or does not change the values."""
    whole = Workspace(prepared)
    files = [whole.bank / "manifest.json", *whole.shards(), *whole.student_features(), *whole.texts()]
    chosen = data.draw(st.sampled_from(files))
    size = chosen.stat().st_size
    place = data.draw(st.integers(0, size - 1) | st.integers(0, min(size, 1500) - 1))
    shutil.copytree(whole.bank, tmp_path / "bank", dirs_exist_ok=True)
    content = bytearray(chosen.read_bytes())
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "bank" / chosen.relative_to(whole.bank)).write_bytes(content)
    try:
        found = everything(tmp_path / "bank")
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert all(map(torch.equal, found, everything(whole.bank)))
