"""`python -m fdbpl.regions verify`: findings and exit codes."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fdbpl.backbones import load_backbone
from fdbpl.regions import generation
from fdbpl.regions.__main__ import main
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.metadata import digest
from fdbpl.regions.shard import content_checksum

from .conftest import PROMPTS, identity_of, tiny


@pytest.fixture
def bank(make, weights, student, tmp_path, monkeypatch) -> Path:
    """Five shards of three images, with a student's features and the teacher's of three prompts."""
    monkeypatch.setattr(generation, "REGIONS_PER_SHARD", 12)
    teacher = load_backbone(str(weights))
    make(identity=identity_of(teacher), teacher=lambda: teacher, student=lambda: student)
    return tmp_path / "bank"


@pytest.fixture
def verify(photos, monkeypatch, capsys):
    """Return verify(bank, ...), which returns the exit code and the output."""

    def verify(*words: object) -> tuple[int, str]:
        command = ["fdbpl.regions", "verify", *map(str, words), "--root", str(photos), "--sample", "30"]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out + captured.err

    return verify


def shards(bank: Path) -> list[Path]:
    return sorted(bank.glob("regions-*"))


def flip(file: Path, position: int, bit: int = 2) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= bit
    file.write_bytes(data)


def rewrite(file: Path, change, **header) -> None:
    """Edit the tensors or the header of a file and update its checksum."""
    from safetensors import safe_open

    tensors = load_file(file)
    with safe_open(file, "pt") as content:
        described = json.loads(content.metadata()["shard"])
    change(tensors)
    described |= header | {"payload": content_checksum(tensors)}
    save_file(tensors, file, {"shard": json.dumps(described)})


def test_an_intact_bank(bank, verify, photos):
    code, output = verify(bank, "--images", photos / "toy")
    assert code == 0 and "WRONG" not in output
    assert "9 files match their names and checksums" in output  # four of regions, four of features, one of text
    assert "48 regions of 12 images, 4 of each" in output
    assert "30 regions agree with the teacher" in output


@pytest.mark.parametrize("kind", ["regions-*", "features/*/*", "text/*"])
def test_flipped_bits_are_found(bank, verify, kind):
    file = sorted(bank.glob(kind))[0]
    good = file.read_bytes()
    begin = 8 + int.from_bytes(good[:8], "little")
    places = np.random.default_rng(0).integers(begin, len(good), 6)  # tensor values
    places = [*places.tolist(), *np.random.default_rng(1).integers(0, begin, 6).tolist()]  # header
    for place in places:
        flip(file, int(place))
        code, output = verify(bank)
        padding = good[place] == 0x20  # between header and values
        named = str(file.parent) in output
        assert padding or (code, named) == (1, True), place
        file.write_bytes(good)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_truncated_file(bank, verify, cut):
    file = shards(bank)[1]
    file.write_bytes(file.read_bytes()[:cut])
    code, output = verify(bank)
    assert code == 1 and f"WRONG {file}: it cannot be read" in output


def test_swapped_files(bank, verify):
    first, second = shards(bank)[:2]
    for one, other in ((first, second), *zip(*[iter(sorted(bank.glob("features/*/*"))[:2])] * 2, strict=True)):
        contents = one.read_bytes(), other.read_bytes()
        one.write_bytes(contents[1])
        other.write_bytes(contents[0])
        code, output = verify(bank)
        assert (
            code == 1
            and output.count("WRONG") == 2
            and output.count("it holds the ") == 2
            and str(one) in output
            and str(other) in output
        )
        one.write_bytes(contents[0])
        other.write_bytes(contents[1])
    assert verify(bank)[0] == 0


def test_features_in_the_folder_of_another_student(bank, verify):
    (folder,) = bank.glob("features/*")
    shutil.copytree(folder, folder.with_name("another-11111111"))
    code, output = verify(bank)
    assert code == 1 and output.count("it holds the features of student 00000000 for ") == 4


def test_features_of_older_banks_without_student_and_bank(bank, verify):
    for file in bank.glob("features/*/*"):
        tensors = load_file(file)
        save_file(tensors, file, {"shard": json.dumps({"payload": content_checksum(tensors)})})
    assert verify(bank)[0] == 0


def test_missing_files(bank, verify, photos):
    lost = shards(bank)[0]
    lost.unlink()
    code, output = verify(bank)
    assert code == 1 and "the shard of its regions is missing" in output
    for file in bank.glob(f"features/*/{lost.name}"):
        file.unlink()
    code, output = verify(bank)  # only the cost record knows that there were more
    assert code == 0 and "note" in output and "48 regions were generated, 36 are present" in output
    code, output = verify(bank, "--images", photos / "toy")
    assert code == 1 and "regions of 3 images are missing (toy/" in output
    (bank / "manifest.json").unlink()
    code, output = verify(bank)
    assert code == 1 and f"WRONG {bank / 'manifest.json'}: the manifest is missing" in output


def test_a_gap_in_a_grown_bank(bank, make, weights, verify):
    teacher = load_backbone(str(weights))
    before = set(shards(bank))
    make(identity=identity_of(teacher), teacher=lambda: teacher, per_image=6)
    assert verify(bank)[0] == 0
    for file in before:
        file.unlink()
    shutil.rmtree(bank / "features")
    code, output = verify(bank)
    assert code == 1 and "regions of 12 images are missing" in output


def test_regions_of_another_seed(bank, verify):
    file = shards(bank)[0]
    rewrite(file, lambda tensors: tensors["boxes"][0].mul_(0.5))
    code, output = verify(bank)
    assert code == 1 and f"WRONG {file}: its regions are not those that seed 1 samples" in output


def test_wrong_embeddings(bank, verify):
    for file in shards(bank):
        rewrite(file, lambda tensors: tensors["embeddings"].copy_(tensors["embeddings"].roll(1, 0)))
    code, output = verify(bank)
    assert code == 1 and "30 regions do NOT agree" in output


def test_wrong_text_features(bank, verify):
    (file,) = bank.glob("text/*")
    features = load_file(file)["features"].roll(1, 0)
    save_file({"features": features}, file, {"prompts": json.dumps(PROMPTS)})  # without a checksum, as in older banks
    code, output = verify(bank)
    assert code == 1 and "do NOT agree" in output


def test_another_teacher_under_the_same_name(bank, verify, weights):
    own = weights.read_bytes()
    save_file(tiny(3).model.state_dict(), weights)
    try:
        code, output = verify(bank)
    finally:
        weights.write_bytes(own)
    assert code == 1 and "the bank's teacher has the SHA-256" in output and "Restore the teacher's weights" in output


def test_a_missing_teacher(bank, verify, weights):
    away = weights.with_suffix(".away")
    weights.rename(away)
    try:
        code, output = verify(bank)
    finally:
        away.rename(weights)
    assert code == 2 and "9 files match their names and checksums" in output and str(weights) in output


def test_changed_images(bank, verify, photos, tmp_path, monkeypatch, capsys):
    root = tmp_path / "root"
    shutil.copytree(photos, root)
    Image.new("RGB", (40, 40)).save(root / "toy/03.jpg")
    (root / "toy/04.jpg").unlink()
    monkeypatch.setattr(sys, "argv", ["fdbpl.regions", "verify", str(bank), "--root", str(root)])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "2 images have changed or are missing (toy/03.jpg" in capsys.readouterr().out


def test_a_changed_manifest(make, weights, verify, tmp_path):
    teacher = load_backbone(str(weights))
    identity = identity_of(teacher)
    bank = tmp_path / identity.folder_name()
    make(bank=bank, identity=identity, teacher=lambda: teacher)
    assert verify(bank)[0] == 0
    manifest = bank / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"flip": 0.5', '"flip": 0.25'))
    code, output = verify(bank)
    assert code == 1 and "does not match the name of its folder" in output


def test_top_k_banks(make, weights, verify, tmp_path):
    teacher = load_backbone(str(weights))
    identity = identity_of(teacher, content="topk:2", classes=digest(PROMPTS))
    make(identity=identity, teacher=lambda: teacher)
    bank = tmp_path / "bank"
    code, output = verify(bank)
    assert code == 0 and "30 regions agree with the teacher" in output
    for file in shards(bank):
        rewrite(file, lambda tensors: tensors["probabilities"].mul_(0.5))
    code, output = verify(bank)
    assert code == 1 and "do NOT agree" in output


def test_the_exit_code_is_that_of_the_worst_bank(bank, verify, tmp_path):
    shutil.copytree(bank, tmp_path / "other")
    flip(shards(tmp_path / "other")[0], -3)
    code, output = verify(tmp_path / "nowhere", tmp_path / "other", bank)
    assert code == 2 and "the manifest of a region bank" in output
    assert "its checksum does not match" in output and "agree with the teacher" in output


def test_an_empty_bank(teacher, verify, tmp_path):
    RegionBank.create(tmp_path / "empty", identity_of(teacher), {})
    code, output = verify(tmp_path / "empty")
    assert code == 0 and "0 regions of 0 images" in output


def test_text_features_with_nan(bank, verify):
    (file,) = bank.glob("text/*")
    features = load_file(file)["features"]
    features[0, 0] = torch.nan
    save_file({"features": features}, file, {"prompts": json.dumps(PROMPTS)})
    code, output = verify(bank)
    assert code == 1 and "it contains NaN or Inf" in output
