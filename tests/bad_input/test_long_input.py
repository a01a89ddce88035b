"""Very long input, which messages shorten."""

import json

import pytest
import torch

import train
from fdbpl import predict
from fdbpl.engine import checkpoint
from fdbpl.errors import UserError
from fdbpl.regions.__main__ import main as regions

from .calls import refused

SHORT = 1500  # characters


def test_a_json_file_given_as_a_csv(training, tmp_path):
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": [[f"class_{i}/image_{i}.jpg", i, f"class {i}"] for i in range(10_000)]}))
    assert len(training.refused(file, dataset="folder", names=str(file))) < SHORT


def test_an_override_with_a_long_key(training, root):
    assert len(training.refused(root, "X" * 100_000, 1)) < SHORT
    assert len(refused(train.main, training.words(root, *["WORD"] * 9_999), "KEY VALUE")) < SHORT


def test_a_long_value(training, root):
    assert len(training.refused(root, "OPTIM.MAX_EPOCH", "x" * 100_000, names="OPTIM.MAX_EPOCH")) < SHORT


def test_a_row_of_a_split_file(edit_split, training, root):
    edit_split(lambda split: split["train"].append([["x" * 1000] * 1000] * 100))
    assert len(training.refused(root, names="train")) < SHORT


def test_long_class_names(tmp_path, finished_run):
    file = tmp_path / "names.txt"
    file.write_text(f"{'x' * 100_000}\n" * 2)
    assert len(refused(predict.main, [finished_run, tmp_path, "--classes-file", file])) < SHORT


def test_a_checkpoint_of_thousands_of_parameters(tmp_path):
    with pytest.raises(UserError) as caught:
        checkpoint.match_keys(torch.nn.Linear(1, 1), {f"layer.{i}": torch.zeros(1) for i in range(10_000)}, tmp_path)
    assert len(str(caught.value)) < SHORT


def test_a_template_of_a_region_bank(tmp_path):
    words = ["generate", "--root", tmp_path, "--images", tmp_path, "--bank", tmp_path / "bank", "--teacher",
             "demo:teacher", "--template", "x" * 100_000]  # fmt: skip
    assert len(refused(regions, words, "--template")) < SHORT
