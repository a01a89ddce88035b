"""Generation and lookup of region banks: values, growth, interruptions, mismatches."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fdbpl.crops import pixel_boxes
from fdbpl.errors import SystemFailure, UserError
from fdbpl.pipelines.resize import resize_region
from fdbpl.regions import generation
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.lookup import RegionLookup

from ..damage import truncate
from .conftest import PROMPTS, content, identity_of, tiny

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(generation, "REGIONS_PER_SHARD", 12)


def everything(images, per_image):
    grid = np.stack(np.meshgrid(np.arange(len(images)), np.arange(per_image), indexing="ij"), -1).reshape(-1, 2)
    return grid[:, 0], grid[:, 1]


def test_lookup_equals_both_encoders_on_the_crops(make, photos, images, teacher, student, tmp_path):
    """Brute force: crop every region from its file and encode it with teacher and student."""
    make(student=lambda: student)
    lookup = RegionLookup(tmp_path / "bank", images, 4, PROMPTS, (student.name, student.sha256))
    image, region = everything(images, 4)
    boxes, flips = lookup.boxes(image, region).numpy(), lookup.flips(image, region)
    crops = []
    for row, number in enumerate(image):
        pixels = torch.from_numpy(np.array(Image.open(photos / images[number]).convert("RGB")))
        top, left, height, width = pixel_boxes(boxes[row : row + 1], pixels.shape[:2])[0]
        crops.append(resize_region(pixels[top : top + height, left : left + width], 16, bool(flips[row])))
    crops = torch.stack(crops)
    torch.testing.assert_close(lookup.embeddings(image, region), teacher.encode_image(crops), atol=1e-3, rtol=0)
    torch.testing.assert_close(lookup.student_features(image, region), student.encode_image(crops), atol=1e-3, rtol=0)
    logits = teacher.logit_scale * teacher.encode_image(crops) @ teacher.encode_text(PROMPTS).T
    torch.testing.assert_close(lookup.teacher_logits(image, region), logits, atol=0.03, rtol=0)
    p = logits.softmax(-1)
    entropy = -(p * p.log()).sum(-1) / np.log(3)
    torch.testing.assert_close(lookup.entropy(image, region), entropy, atol=0.01, rtol=0)


def test_a_complete_bank_needs_no_teacher(make, tmp_path):
    make()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "bank").rglob("*.safetensors")}

    def no_teacher():
        raise AssertionError("the teacher was built")

    report = make(teacher=no_teacher)
    assert report.regions_made == 0 and report.images_there == 12
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "bank").rglob("*.safetensors")} == before


def test_a_bank_grows_by_images_regions_students_and_prompts(make, images, student, tmp_path):
    make(images=images[:5])
    first = content(tmp_path / "bank")
    assert make().regions_made == 7 * 4
    assert make(per_image=6).regions_made == 12 * 2
    assert make(per_image=6, student=lambda: student).features_made == 12 * 6
    make(per_image=6, prompts=["a photo of a cup."])
    grown = content(tmp_path / "bank")
    assert first.items() <= grown.items()
    view = (images, 6, ["a photo of a cup.", PROMPTS[0]], (student.name, student.sha256))
    lookup = RegionLookup(tmp_path / "bank", *view)
    whole = tmp_path / "whole"
    make(bank=whole, per_image=6, student=lambda: student, prompts=[*PROMPTS, "a photo of a cup."])
    other = RegionLookup(whole, *view)
    image, region = everything(images, 6)
    assert torch.equal(lookup.boxes(image, region), other.boxes(image, region))
    torch.testing.assert_close(lookup.embeddings(image, region), other.embeddings(image, region), atol=1e-3, rtol=0)
    features = [view.student_features(image, region) for view in (lookup, other)]
    torch.testing.assert_close(*features, atol=1e-3, rtol=0)


def test_the_number_of_processes_does_not_change_the_files(make, process, tmp_path):
    assert str(make()).endswith("48 regions labelled, 0 student features added")
    made = 0
    for rank in (1, 0):
        process(rank, 2)
        made += make(bank=tmp_path / "two").regions_made
    assert made == 48
    assert content(tmp_path / "two") == content(tmp_path / "bank")


def test_both_pipelines_generate_the_same_bank(make, tmp_path):
    pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    make()
    make(bank=tmp_path / "dali", pipeline="dali")
    assert content(tmp_path / "dali") == content(tmp_path / "bank")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "has seed 1, but this run needs seed 2"),
        ({"scale": (0.3, 1.0)}, "needs scale"),
        ({"content": "topk:2"}, "needs content 'topk:2'"),
        ({"teacher_sha256": "f" * 64}, "needs teacher_sha256"),
        ({"size": 32}, "needs size 32"),
        ({"mean": (0.0, 0.0, 0.0)}, "needs mean"),
        ({"precision": "bf16"}, "has precision 'fp32', but this run needs precision 'bf16'"),
    ],
)
def test_metadata_that_differ_from_the_bank(make, teacher, change, message):
    make()
    with pytest.raises(UserError, match=message):
        make(identity=identity_of(teacher, **change))


def test_a_teacher_with_other_weights(make):
    with pytest.raises(UserError, match="weights of the teacher tiny-1 have the SHA-256"):
        make(teacher=lambda: tiny(3))


def test_a_newer_schema(make, tmp_path):
    make()
    manifest = tmp_path / "bank" / "manifest.json"
    stored = json.loads(manifest.read_text())
    stored["identity"]["schema"] = 99
    manifest.write_text(json.dumps(stored))
    with pytest.raises(UserError, match="has schema 99, but this version reads schema 1"):
        RegionBank.open(tmp_path / "bank")


def test_a_changed_image(make, photos, images, tmp_path):
    import shutil

    root = tmp_path / "root"
    shutil.copytree(photos, root)
    make(root=root)
    Image.new("RGB", (40, 40)).save(root / images[3])
    with pytest.raises(UserError, match=r"1 images have changed .*toy/03.jpg"):
        make(root=root)


def test_unreadable_images_are_listed_before_generation(make, photos, images, tmp_path):
    import shutil

    root = tmp_path / "root"
    shutil.copytree(photos, root)
    (root / images[2]).write_bytes((photos / images[2]).read_bytes()[:60])
    (root / images[5]).write_bytes(b"")
    with pytest.raises(UserError, match=r"2 of 12 images .*toy/02.jpg: .*toy/05.jpg: "):
        make(root=root)
    assert not content(tmp_path / "bank")


def test_a_broken_shard_is_named_and_regenerated(make, images, tmp_path):
    make()
    file = sorted((tmp_path / "bank").glob("regions-*"))[0]
    truncate(file, 0.5)
    with pytest.raises(UserError, match=f"Broken .*{file.name}"):
        RegionLookup(tmp_path / "bank", images, 4, PROMPTS)
    file.unlink()
    make()
    RegionLookup(tmp_path / "bank", images, 4, PROMPTS)


def test_messages_for_missing_content(make, images, student, tmp_path):
    make(images=images[:5])
    bank = tmp_path / "bank"
    with pytest.raises(UserError, match=r"lacks regions of 7 of 12 images .*toy/05.jpg .*generate_regions.sh"):
        RegionLookup(bank, images, 4, PROMPTS)
    with pytest.raises(UserError, match="lacks regions of 5 of 5 images"):
        RegionLookup(bank, images[:5], 9, PROMPTS)
    with pytest.raises(UserError, match="features of 1 of 1 prompts .'a photo of a cup.'"):
        RegionLookup(bank, images[:5], 4, ["a photo of a cup."])
    with pytest.raises(UserError, match="lacks image features of the student tiny-2"):
        RegionLookup(bank, images[:5], 4, PROMPTS, (student.name, student.sha256))
    with pytest.raises(UserError, match="the manifest of a region bank"):
        RegionLookup(tmp_path / "nowhere", images, 4)


def test_top_k_keeps_the_largest_probabilities_and_the_full_entropy(make, images, teacher, tmp_path):
    from fdbpl.regions.metadata import digest

    make()
    full = RegionLookup(tmp_path / "bank", images, 4, PROMPTS)
    make(bank=tmp_path / "topk", identity=identity_of(teacher, content="topk:2", classes=digest(PROMPTS)))
    few = RegionLookup(tmp_path / "topk", images, 4, PROMPTS)
    image, region = everything(images, 4)
    expected, found = (view.teacher_logits(image, region).softmax(-1) for view in (full, few))
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)  # 3 classes, 2 kept: the rest is one class
    torch.testing.assert_close(few.entropy(image, region), full.entropy(image, region), atol=5e-3, rtol=0)
    with pytest.raises(UserError, match="another class list than these 2 prompts"):
        RegionLookup(tmp_path / "topk", images, 4, PROMPTS[:2])


def test_top_10_takes_at_most_64_bytes_per_region(make, teacher, tmp_path, monkeypatch):
    from fdbpl.regions.metadata import digest

    prompts = [f"a photo of a {number}." for number in range(12)]
    identity = identity_of(teacher, content="topk:10", classes=digest(prompts))
    monkeypatch.setattr(generation, "REGIONS_PER_SHARD", 1024)  # as by default
    make(identity=identity, prompts=prompts, per_image=80)
    tensors = [load_file(file) for file in (tmp_path / "bank").glob("regions-*")]
    payload = sum(t.numel() * t.element_size() for shard in tensors for t in shard.values())
    assert payload / (12 * 80) <= 64


def test_a_full_disk_leaves_complete_files(make, tmp_path, monkeypatch):
    make(bank=tmp_path / "uninterrupted")
    real, calls = os.fsync, []

    def third_write_fails(descriptor):
        calls.append(descriptor)
        if len(calls) > 3:
            raise OSError(28, os.strerror(28))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", third_write_fails)
        with pytest.raises(SystemFailure, match="the disk is full"):
            make()
    assert 0 < len(content(tmp_path / "bank")) < len(content(tmp_path / "uninterrupted"))
    make()
    assert content(tmp_path / "bank") == content(tmp_path / "uninterrupted")


def test_partial_files_of_killed_processes_are_removed(make, tmp_path):
    (tmp_path / "bank").mkdir()
    partial = tmp_path / "bank" / ".regions-0.safetensors.abc.partial"
    partial.write_bytes(b"half")
    make()
    assert not partial.exists()


def test_a_restart_completes_the_shards_of_killed_processes(make, process, tmp_path, monkeypatch):
    """Of three processes, one dies after its first file and one before it; then one or two processes continue."""
    make(bank=tmp_path / "uninterrupted")
    write = RegionBank.write_shard

    def dies_after(files: int):
        written = []

        def write_some(bank, shard, tensors):
            if len(written) >= files:
                raise SystemFailure("gone")
            written.append(shard)
            write(bank, shard, tensors)

        return write_some

    for processes in (2, 1):
        bank = tmp_path / f"then_{processes}"
        for rank, files in ((0, 1), (1, 99), (2, 0)):
            process(rank, 3)
            with monkeypatch.context() as patch:
                patch.setattr(RegionBank, "write_shard", dies_after(files))
                try:
                    make(bank=bank)
                except SystemFailure:
                    assert files < 99
        there = set(content(bank))
        assert there < set(content(tmp_path / "uninterrupted"))
        made = 0
        for rank in range(processes):
            process(rank, processes)
            made += make(bank=bank).regions_made
        assert made == 48 - 12 * len([file for file in there if "regions-" in file])  # complete files stay
        assert content(bank) == content(tmp_path / "uninterrupted")
