"""A new data set, added by one file and one YAML (tests/datasets/new_dataset) as CONTRIBUTING.md describes."""

import sys
from pathlib import Path

import pytest
import yaml
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from PIL import Image

import datasets
from fdbpl.data.missing import missing_folder
from fdbpl.data.prepare import check, commands
from fdbpl.errors import UserError

EXAMPLE = Path(__file__).parent / "new_dataset"
NAMES = ("birch", "elm", "fir", "oak", "yew")


@pytest.fixture(scope="module", autouse=True)
def added_file():
    """Make tests/datasets/new_dataset/leaves.py importable from `datasets` during these tests."""
    (table,) = (value for value in vars(DATASET_REGISTRY).values() if isinstance(value, dict))
    before = dict(table)
    datasets.__path__.append(str(EXAMPLE))
    yield
    datasets.__path__.remove(str(EXAMPLE))
    sys.modules.pop("datasets.leaves", None)
    table.clear()
    table.update(before)


@pytest.fixture
def leaves(tmp_path):
    """Return leaves(KEY=value), which builds the data set with 4 training, 1 validation and 2 test images per class."""
    folder = tmp_path / "data" / "leaves"
    (folder / "images").mkdir(parents=True)
    rows = []
    for name in NAMES:
        for number, part in enumerate(["train"] * 4 + ["val"] + ["test"] * 2):
            Image.new("RGB", (8, 8)).save(folder / "images" / f"{name}{number}.png")
            rows.append(f"{part},{name}{number}.png,{name}")
    (folder / "split.csv").write_text("\n".join(rows) + "\n")

    def make(**settings):
        cfg = get_cfg_default()
        datasets.extend_cfg(cfg)
        cfg.DATASET.ROOT, cfg.DATASET.FEWSHOT_DIR = str(tmp_path / "data"), str(tmp_path / "cache")
        cfg.DATASET.NAME = yaml.safe_load((EXAMPLE / "leaves.yaml").read_text())["DATASET"]["NAME"]
        for key, value in settings.items():
            cfg.DATASET[key] = value
        return build_dataset(cfg)

    return make


def test_shots_and_halves(leaves):
    whole = leaves()
    assert whole.classnames == list(NAMES) and (len(whole.train_x), len(whole.val), len(whole.test)) == (20, 5, 10)
    few = leaves(NUM_SHOTS=2, SUBSAMPLE_CLASSES="base")
    assert few.classnames == ["birch", "elm", "fir"] and few.all_classnames == list(NAMES)
    assert [item.label for item in few.train_x] == [0, 0, 1, 1, 2, 2]
    assert {Path(item.impath).name[:-5] for item in leaves(SUBSAMPLE_CLASSES="new").test} == {"oak", "yew"}


def test_check(leaves, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check, "CONFIGS", EXAMPLE)
    monkeypatch.setattr(commands, "CONFIGS", EXAMPLE)
    assert leaves and commands.check_all(["leaves"], tmp_path / "data") == 0
    summary = "leaves: 5 classes, 35 images (train 20, val 5, test 10)"
    assert capsys.readouterr().out == f"{summary}; no listed image is missing or broken\n"
    (tmp_path / "data/leaves/images/elm0.png").write_bytes(b"broken")
    assert commands.check_all(["leaves"], tmp_path / "data") == 2
    assert "1 broken, the first" in capsys.readouterr().out
    assert commands.check_all(["leaves"], tmp_path) == 2
    assert capsys.readouterr().out == f"leaves: not found below {tmp_path}\n"


def test_check_of_custom_data(tmp_path, capsys):
    for name in NAMES:
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    assert missing_folder("folder", tmp_path / "elsewhere") is None
    assert commands.check_all(["folder"], tmp_path) == 0
    assert "folder: 5 classes, 10 images (train 5, val 0, test 5)" in capsys.readouterr().out


def test_missing_files(leaves, tmp_path):
    (tmp_path / "data/leaves/images/elm0.png").unlink()
    with pytest.raises(UserError, match=r"1 of 35 images are missing .*\(elm0.png\)"):
        leaves()
    (tmp_path / "data/leaves/split.csv").unlink()
    with pytest.raises(UserError, match="the list of the leaves is missing.*split.csv"):
        leaves()
