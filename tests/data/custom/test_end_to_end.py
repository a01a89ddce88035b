"""Data as people have them, end to end: `python -m fdbpl.data`, then a run of train.py that tests on them.

Other cases: EXIF orientation in tests/test_exif_orientation.py, 60,000 images in test_class_folders.py.
"""

import csv
import json
import re
from pathlib import Path

import pytest

import train
from fdbpl.data import __main__ as command

from ...bad_input.calls import contents, refused, succeeds
from .files import CLASSES, NAMES, write_classes, write_csv, write_flat, write_image

ROOT = Path(__file__).resolve().parents[3]
SPLIT = (8, 4, 4)  # training, validation and test images of four classes of four images
VARIETIES = ("Fruit/Apple/Gala", "Fruit/Apple/Granny-Smith", "Fruit/Pear/Anjou", "Fruit/Pear/Conference")


def capital_split_folders(folder):
    write_classes(folder / "Training", count=2)
    write_classes(folder / "Testing", count=1)


def splits_and_an_extra_folder(folder):
    for name, count in (("train", 2), ("val", 1), ("test", 1)):
        write_classes(folder / name, count=count)
    write_image(folder / "iconic-images" / "1.jpg")


def domains(folder):
    for domain in ("photo", "sketch"):
        write_classes(folder / domain, count=2)
    (folder / "dataset.yaml").write_text("layout: '*/{class}/*'")


def kaggle(folder):
    rows = write_flat(folder / "train", count=4)
    write_flat(folder / "test", ("unknown",))
    write_csv(folder / "labels.csv", [(file[:-4], name) for file, name in rows], ("id", "breed"))


def windows_paths(folder):
    rows = [(rf"C:\Users\me\images\{file}", name) for file, name in write_flat(folder / "images", count=4)]
    write_csv(folder / "labels.csv", rows, ("filepath", "label"))


def no_header(folder):
    rows = [(f"images/{file}", name) for file, name in write_flat(folder / "images", count=4)]
    write_csv(folder / "labels.csv", rows, None)


def one_hot(folder):
    rows = write_flat(folder / "images", count=4)
    table = [(file, *(int(label == name) for name in CLASSES)) for file, label in rows]
    write_csv(folder / "labels.csv", table, ("image", *CLASSES))


def coop_labels_from_one(folder):
    rows = write_flat(folder / "images", count=4)
    split = {
        part: [[f"images/{file}", CLASSES.index(name) + 1, name] for file, name in rows if file[0] in numbers]
        for part, numbers in (("train", "01"), ("val", "2"), ("test", "3"))
    }
    (folder / "split_zhou_pets.json").write_text(json.dumps(split))


def nested_folders(folder):
    for name in VARIETIES:
        for number in range(4):
            write_image(folder / name / f"{number}.jpg")
    (folder / "dataset.yaml").write_text("layout: 3")


def metadata_in_split_folders(folder):
    for part, count in (("train", 2), ("test", 1)):
        rows = write_flat(folder / part, count=count)
        lines = [json.dumps({"file_name": file, "label": name}) for file, name in rows]
        (folder / part / "metadata.jsonl").write_text("\n".join(lines))


def embedded_images(folder):
    pytest.importorskip("pyarrow")
    from .test_hugging_face import write_embedded

    for part, count in (("train", 2), ("test", 1)):
        write_embedded(folder / "data" / f"{part}-00000-of-00001.parquet", count, part)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that returns the command line of a test of the zero-shot CLIP on the images of a place."""
    monkeypatch.setenv("FDBPL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return lambda place, *overrides: [
        "--root", place, "--seed", 1, "--trainer", "ZeroshotCLIP", "--output-dir", tmp_path / "run",
        "--dataset-config-file", ROOT / "configs/datasets/folder.yaml",
        "--config-file", ROOT / "configs/trainers/ZeroshotCLIP/demo.yaml",
        "USE_CUDA", False, "DATASET.NUM_SHOTS", -1, "TEST.SAVE_PREDICTIONS", True, *overrides,
    ]  # fmt: skip


@pytest.mark.parametrize(("write", "format", "sizes", "message"), [
    (capital_split_folders, "class folders", (8, 0, 4), ""),
    (splits_and_an_extra_folder, "class folders", SPLIT, "iconic-images: a folder that is no split"),
    (domains, "class folders", SPLIT, ""),
    (kaggle, "CSV", SPLIT, "the 6 images in test have no class and are left out; after training, predict them"),
    (windows_paths, "CSV", SPLIT, r"C:\Users\me\images\0_red fox.png is images/0_red fox.png"),
    (no_header, "CSV", SPLIT, "the file has no header"),
    (one_hot, "CSV", SPLIT, "4 columns of 0 and 1 are the classes"),
    (coop_labels_from_one, "CoOp split file", SPLIT, "labels 1 to 4 are numbered 0 to 3"),
    (nested_folders, "class folders", SPLIT, ""),
    (metadata_in_split_folders, "Hugging Face metadata", (8, 0, 4), "'file_name' is the image path"),
    (embedded_images, "Parquet", (8, 0, 4), "the images were extracted to"),
], ids=lambda value: value.__name__ if callable(value) else None)  # fmt: skip
def test_data_as_people_have_them(tmp_path, run, write, format, sizes, message):
    folder = tmp_path / "pets"
    folder.mkdir()
    write(folder)
    before = contents(folder)
    printed = succeeds(command.main, [folder, "--shots", 2]).out
    assert printed.startswith(f"{folder}: {format}\n") and message in printed and "Warnings: none" in printed
    inspection = json.loads(succeeds(command.main, [folder, "--shots", 2, "--json"]).out)
    found = [sum(one[part] for one in inspection["classes"]) for part in ("train", "val", "test")]
    assert inspection["format"] == format and tuple(found) == sizes
    names = [one["name"] for one in inspection["classes"]]
    kept = (nested_folders, coop_labels_from_one)  # other classes; names as they are written
    assert len(names) == 4 and (write in kept or sorted(names) == sorted(NAMES))

    succeeds(train.main, run(folder))
    protocol = json.loads(Path("run/metrics.json").read_text())["protocol"]
    assert protocol["classnames"] == names
    assert (protocol["train_images"], protocol["test_images"]) == (sizes[0], sizes[2])
    with open("run/predictions.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path, label = (re.sub("[_-]", " ", row[key]) for key in ("path", "label"))
            assert label in path or write is embedded_images
    assert contents(folder) == before


def test_domains_without_a_description(tmp_path, run):
    domains(tmp_path / "pacs")
    (tmp_path / "pacs" / "dataset.yaml").unlink()
    for main, words in ((command.main, [tmp_path / "pacs"]), (train.main, run(tmp_path / "pacs"))):
        refused(main, words, ["have the same sub-folders", "layout: '*/{class}/*'"])
