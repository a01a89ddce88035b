"""Custom data with `train.py`: unusual but valid data train, and invalid data end with one line and change nothing.

The table of refusals is in tests/data/custom.
"""

import json
import os

import pytest

from .conftest import draw_image

LABELS = ("cat", "dog", "grey_wolf", "owl")
ALL = ("DATASET.NUM_SHOTS", "-1")


@pytest.fixture
def pets(tmp_path):
    folder = tmp_path / "my pets"
    for label in LABELS:
        for number in range(3):
            draw_image(folder / label / f"{number}.jpg", "red", number)
    return folder


def check_trains(training, place, unchanged, *overrides, trainer="ZeroshotCLIP"):
    """Require that a run on custom data succeeds; return its output."""
    return training.succeeds(place, *ALL, *overrides, dataset="folder", trainer=trainer, unchanged=[unchanged]).out


def check_refused(training, place, unchanged, names):
    training.refused(place, *ALL, dataset="folder", names=names, unchanged=[unchanged])


def test_invalid_data_are_refused(training, pets):
    (pets / "dataset.yaml").write_text("clases: [cat]")
    check_refused(training, pets, pets, ["dataset.yaml", "did you mean 'classes'?"])
    (pets / "dataset.yaml").write_text("template: !!python/object/apply:os.system ['touch x']")
    check_refused(training, pets, pets, "must have one {}")
    (pets / "dataset.yaml").unlink()
    (pets / "labels.csv").write_bytes(b"\xff\xd8\xff\xe0" + bytes(200))
    check_refused(training, pets / "labels.csv", pets, "labels.csv")
    check_refused(training, pets / "nowhere", pets, "no folder of images and no CSV")
    (pets / "cat" / "notes.txt").write_text("")
    check_refused(training, pets / "cat" / "notes.txt", pets, "notes.txt")
    assert not os.path.exists("x")


def test_a_large_json_file_is_refused_in_a_short_message(training, pets):
    (pets / "split.json").write_text(json.dumps({"annotations": ["x" * 1000] * 500}))
    check_refused(training, pets / "split.json", pets, "is not a split file")


@pytest.mark.parametrize("half", ["base", "new"])
def test_too_few_classes_for_halves(training, pets, half):
    for path in (pets / "owl").iterdir():
        path.unlink()
    (pets / "owl").rmdir()
    training.refused(pets, "DATASET.SUBSAMPLE_CLASSES", half, dataset="folder", names="halves need four")


@pytest.mark.parametrize(("kind", "words"), [
    ("pipe", "cat/x.jpg: not a regular file"), ("link to nothing", "cat/x.jpg: No such file"),
    ("link to itself", "cat/x.jpg: Too many levels"), ("not UTF-8", "not valid UTF-8"),
])  # fmt: skip
def test_only_regular_files_with_unicode_names(training, pets, kind, words):
    file = pets / "cat" / "x.jpg"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "not UTF-8":
        (pets / "cat" / "0.jpg").rename(pets / "cat" / os.fsdecode(b"\xff.jpg"))
    else:
        file.symlink_to(pets / "nothing" if kind == "link to nothing" else file)
    check_refused(training, pets, pets, words)


def test_a_missing_image_of_a_table_can_be_left_out(training, pets):
    rows = [f"{label}/{number}.jpg,{label}" for label in LABELS for number in range(3)]
    (pets / "labels.csv").write_text("\n".join(["path,class", *rows, "owl/gone.jpg,owl"]))
    check_refused(training, pets / "labels.csv", pets, "owl/gone.jpg: No such file")
    check_trains(training, pets / "labels.csv", pets, "DATASET.SKIP_UNREADABLE", "True")


def test_unusual_names_and_links(training, pets):
    (pets / "grey_wolf").rename(pets / "line\nbreak 'quotes\" $(touch x) `touch x` ; é🐺")
    (pets / "cat" / "0.jpg").rename(pets / "cat" / "a\n'b\" $HOME;.jpg")
    (pets / "cat" / "again").symlink_to(pets / "cat")
    (pets / "cat" / "loop").symlink_to(pets / "cat" / "loop")
    (pets / "loop").symlink_to(pets / "loop")
    (pets / ".hidden").symlink_to(pets / ".hidden")
    check_trains(training, pets, pets)
    assert not os.path.exists("x")


def test_an_unusual_csv(training, pets):
    rows = [f'"{label}/{number}.jpg";"{label}, é🐈 {{}}";mine' for label in LABELS for number in range(3)]
    (pets / "labels.csv").write_text("\n".join(["Path; CLASS ;note", *rows]), encoding="utf-8-sig")
    check_trains(training, pets / "labels.csv", pets)
