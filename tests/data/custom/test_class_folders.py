"""Class folders: FOLDER/CLASS, FOLDER/SPLIT/CLASS, and the layouts that dataset.yaml describes."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from fdbpl.data.custom.class_labels import natural
from fdbpl.data.custom.dataset import read_custom_data

from .files import (
    CLASSES,
    NAMES,
    all_paths,
    has_guess,
    labels,
    paths,
    refusal,
    sizes,
    write_classes,
    write_flat,
    write_image,
)  # fmt: skip


@pytest.fixture
def pets(tmp_path):
    return write_classes(tmp_path / "my pets'")


def test_defaults_are_printed(pets):
    for name in (".hidden.jpg", "notes.txt", "table.xls"):
        (pets / "dog-9" / name).write_text("no image")
    (pets / "outside.jpg").write_text("")
    (pets / ".git").mkdir()
    data = read_custom_data(str(pets))
    assert data.classnames == NAMES and data.name == "my_pets" and data.template == "a photo of a {}."
    assert sizes(data) == (16, 8, 8)
    text = "\n".join(data.notices)
    for words in (
        "4 classes, 32 images", "format: class folders", "'a photo of a {}.' (default)", "50/20/30 %",
        "16 train, 8 val, 8 test", "dog 9, dog 10, grey wolf ... (4 in all)", "2 hidden",
        "2 not an image (dog-9/notes.txt, dog-9/table.xls)", "1 outside of the class folders (outside.jpg)",
    ):  # fmt: skip
        assert words in text
    assert ("dog-9/notes.txt", "not an image") in data.skipped and data.hidden == 2


def test_natural_order():
    assert sorted(["b2", "B10", "a", "b1", "10", "9"], key=natural) == ["9", "10", "a", "b1", "b2", "B10"]


def test_sub_folders_and_links_belong_to_their_class(pets, tmp_path):
    write_image(tmp_path / "elsewhere" / "old" / "x.jpg")
    (pets / "dog-9" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "elsewhere")
    found = all_paths(read_custom_data(str(pets)))
    assert "dog-9/more/old/x.jpg" in found and len(found) == 33


def test_a_new_image_moves_at_most_one_other_across_each_cut_of_its_class(pets):
    before = paths(read_custom_data(str(pets)))
    write_image(pets / "dog-9" / "new.png")
    after = paths(read_custom_data(str(pets)))
    moved = {path for part in before for path in before[part] - after[part]}
    assert len(moved) <= 2 and all(path.startswith("dog-9/") for path in moved)


@pytest.mark.parametrize(("folders", "expected"), [
    (("train", "val", "test"), (12, 12, 12)), (("train", "test"), (12, 0, 12)), (("Train", "valid"), (12, 0, 12)),
    (("Training", "Testing"), (12, 0, 12)), (("train_set", "test-set"), (12, 0, 12)), (("TRAIN", "Eval"), (12, 0, 12)),
    (("train1", "val"), (12, 0, 12)),
])  # fmt: skip
def test_split_folders_next_to_another_folder(tmp_path, folders, expected):
    for folder in folders:
        write_classes(tmp_path / folder, count=3)
    write_image(tmp_path / "iconic images" / "1.jpg")
    data = read_custom_data(str(tmp_path))
    assert sizes(data) == expected and data.classnames == NAMES
    assert all(path.startswith(folders[0] + "/") for path in paths(data)["train"])
    assert all(path.startswith(folders[-1] + "/") for path in paths(data)["test"])
    assert any("no test, so val is tested on" in line for line in data.notices) == (expected[1] == 0 and len(
        {"test", "Testing", "test-set"} & set(folders)) == 0)  # fmt: skip
    assert ("iconic images", "a folder that is no split") in data.skipped


def test_an_unlabelled_test_folder_is_left_out(tmp_path):
    write_classes(tmp_path / "train")
    for number in range(5):
        write_image(tmp_path / "test" / f"{number}.jpg")
    data = read_custom_data(str(tmp_path))
    assert sizes(data) == (16, 8, 8) and not any(path.startswith("test") for path in all_paths(data))
    assert has_guess(data, "5 images in test have no class", "python -m fdbpl.predict RUN")
    assert ("test/0.jpg", "in a folder without class folders") in data.skipped
    write_classes(tmp_path / "val", count=2)
    assert sizes(read_custom_data(str(tmp_path))) == (32, 0, 8)


@pytest.mark.parametrize(("files", "words"), [
    (("a.jpg",), ["has no sub-folders", "layout: '{class}_*.jpg'"]),
    (("cat/1.jpg", "cat/2.jpg"), ["only the class cat", "at least two are needed"]),
    (("cat/1.jpg", "dog/1.jpg", "dog/2.jpg"), ["only one image of cat"]),
    (("bus/1.jpg", "train/1.jpg", "train/2.jpg"), ["the sub-folders train of", "are named like splits"]),
    (("train/cat/1.jpg", "train/dog/1.jpg"), ["the sub-folders train of"]),
    (("seg_train/cat/1.jpg", "seg_test/cat/1.jpg"), ["the sub-folders seg_test, seg_train of"]),
    (("train/cat/1.jpg", "val/cat/1.jpg", "valid/cat/1.jpg"), ["several folders for the val split (val, valid)"]),
    (("train/1.jpg", "test/cat/1.jpg"), ["train has no class folders", "layout: 'train/{class}.*.jpg'"]),
    (("photo/cat/1.jpg", "photo/dog/1.jpg", "sketch/cat/1.jpg", "sketch/dog/1.jpg"),
     ["have the same sub-folders (cat, dog)", "layout: '*/{class}/*'"]),
    (("cat/train/1.jpg", "cat/test/1.jpg", "dog/1.jpg"), ["cat has sub-folders named like splits (test, train)"]),
    (("pets/cat/1.jpg", "pets/dog/1.jpg"), ["only the sub-folder pets", "give "]),
    (("big-dog/1.jpg", "big-dog/2.jpg", "big_dog/1.jpg", "big_dog/2.jpg"), ["'big dog' occurs twice"]),
    (("Cat/1.jpg", "Cat/2.jpg", "cat/1.jpg", "cat/2.jpg"), ["cannot tell the class names 'Cat' and 'cat'"]),
    (("caf\u00e9/1.jpg", "caf\u00e9/2.jpg", "cafe\u0301/1.jpg", "cafe\u0301/2.jpg"), [r"'cafe\u0301' and 'caf\xe9'"]),
])  # fmt: skip
def test_refused_folders(tmp_path, files, words):
    for file in files:
        write_image(tmp_path / "data" / file)
    message = refusal(tmp_path / "data")
    assert all(word in message for word in words), message


def test_refused_places(tmp_path):
    assert "no folder of images and no CSV at" in refusal(tmp_path / "nowhere")
    write_classes(tmp_path / "pets")
    (tmp_path / "pets" / "empty").mkdir()
    assert "the class folders empty of" in refusal(tmp_path / "pets")
    write_image(tmp_path / "bytes" / os.fsdecode(b"a\xff") / "a.jpg")
    write_image(tmp_path / "bytes" / "b" / "a.jpg")
    assert "not valid UTF-8" in refusal(tmp_path / "bytes")


def test_system_folders_are_hidden(tmp_path):
    write_classes(tmp_path / "pets")
    for name in ("lost+found", "$RECYCLE.BIN", "__MACOSX"):
        write_image(tmp_path / "pets" / name / "x.jpg")
    assert read_custom_data(str(tmp_path / "pets")).classnames == NAMES


def test_classes_named_like_splits_or_with_the_same_sub_folders_are_listed(tmp_path):
    write_classes(tmp_path / "vehicles", ("bus", "train"), 2)
    (tmp_path / "vehicles" / "dataset.yml").write_text("classes: [train, bus]")
    assert read_custom_data(str(tmp_path / "vehicles")).classnames == ["train", "bus"]
    for name in ("left", "right"):
        write_classes(tmp_path / "eyes" / name, ("2023", "2024"), 2)
    (tmp_path / "eyes" / "dataset.yaml").write_text("split: {train: ['*/2023/*'], test: ['*/2024/*']}")
    assert read_custom_data(str(tmp_path / "eyes")).classnames == ["left", "right"]


@pytest.mark.parametrize(("layout", "names", "expected"), [
    ("'*/{class}/*'", ["Apple", "Pear", "Milk", "Oat Milk"], (8, 0, 8)),
    ("2", ["Apple", "Pear", "Milk", "Oat Milk"], (8, 0, 8)),
    ("3", ["Gala", "Granny Smith", "Conference", "Anjou"], (4, 0, 4)),
    ("'Fruit/*/{class}/*'", ["Gala", "Granny Smith", "Conference", "Anjou"], (4, 0, 4)),
    ("1", ["Fruit", "Packages"], (8, 0, 8)),
])  # fmt: skip
def test_nested_folders(tmp_path, layout, names, expected):
    groceries = ("Fruit/Apple/Gala", "Fruit/Apple/Granny-Smith", "Fruit/Pear/Conference", "Fruit/Pear/Anjou")
    for name in (*groceries, "Packages/Milk", "Packages/Oat-Milk"):
        for number in range(2 if "Fruit" in name else 4):
            write_image(tmp_path / name / f"{number}.jpg")
    assert has_guess(read_custom_data(str(tmp_path)), "sub-folders of a class folder (Apple, Milk, Oat-Milk", "layout:")
    (tmp_path / "dataset.yaml").write_text(f"layout: {layout}\nsplit: {{train: 0.5, test: 0.5}}")
    data = read_custom_data(str(tmp_path))
    assert sorted(data.classnames) == sorted(names) and sizes(data) == expected


def test_domains(tmp_path):
    """PACS: one domain as the folder of images, or all domains together."""
    for domain in ("photo", "sketch"):
        write_classes(tmp_path / domain, CLASSES, 2)
    assert read_custom_data(str(tmp_path / "photo")).classnames == NAMES
    (tmp_path / "dataset.yaml").write_text("layout: '*/{class}/*'")
    assert sum(sizes(read_custom_data(str(tmp_path)))) == 16


def test_layouts_with_splits_and_with_classes_in_file_names(tmp_path):
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            write_image(tmp_path / "a" / label / split / "1.jpg")
    write_image(tmp_path / "a" / "cat" / "extra" / "1.jpg")
    (tmp_path / "a" / "dataset.yaml").write_text("layout: '{class}/{split}/*'")
    data = read_custom_data(str(tmp_path / "a"))
    assert sizes(data) == (2, 0, 2) and ("cat/extra/1.jpg", "in the folder extra, which is no split") in data.skipped
    for name in ("great_dane", "beagle"):
        for number in range(2):
            write_image(tmp_path / "b" / f"{name}_{number}.jpg")
    (tmp_path / "b" / "dataset.yaml").write_text("layout: '{class}_*.jpg'")
    assert read_custom_data(str(tmp_path / "b")).classnames == ["beagle", "great dane"]


@pytest.mark.parametrize(("names", "pattern"), [
    (("001.Black_footed_Albatross", "002.Brown_Pelican"), "[0-9]+[.]"),
    (("n02085620-Black_footed_Albatross", "n02085782-Brown_Pelican"), "n[0-9]+-"),
])  # fmt: skip
def test_prefixes_of_class_names(tmp_path, names, pattern):
    write_classes(tmp_path, names, 2)
    data = read_custom_data(str(tmp_path))
    assert has_guess(data, "keep their prefixes", "strip_prefix") and names[0][:3] in data.classnames[0]
    (tmp_path / "dataset.yaml").write_text(f"strip_prefix: '{pattern}'")
    assert read_custom_data(str(tmp_path)).classnames == ["Black footed Albatross", "Brown Pelican"]


@pytest.mark.parametrize(("file", "text"), [
    ("classes.txt", "tench\ngreat white shark\nhen"), ("classes.txt", "0 tench\n1 great white shark\n2 hen"),
    ("names.txt", "0: tench\n1: great white shark\n2: hen"),
    ("my.json", '{"0": "tench", "1": "great white shark", "2": "hen"}'),
    ("my.yaml", "0: tench\n1: great white shark\n2: hen"), ("my.csv", "0,tench\n1,great white shark\n2,hen"),
])  # fmt: skip
def test_names_of_numbered_classes(tmp_path, file, text):
    write_classes(tmp_path, ("0", "1", "2"), 2)
    (tmp_path / file).write_text(text)
    if file.startswith("my"):
        (tmp_path / "dataset.yaml").write_text(f"classes: {file}")
    data = read_custom_data(str(tmp_path))
    assert data.classnames == ["tench", "great white shark", "hen"]
    assert has_guess(data, "class names of the numbers", file) != file.startswith("my")


def test_a_file_of_names_that_does_not_fit(tmp_path):
    write_classes(tmp_path, ("0", "1", "2"), 2)
    (tmp_path / "my.txt").write_text("tench\nshark")
    (tmp_path / "dataset.yaml").write_text("classes: my.txt")
    assert "do not fit the 3 labels (0, 1, 2)" in refusal(tmp_path)


def test_a_name_with_a_newline(tmp_path):
    data = read_custom_data(str(write_classes(tmp_path / "a\nb", ("big\ndog", "cat"))))
    assert data.name == "a_b" and data.classnames == ["big dog", "cat"]


def test_a_folder_named_like_a_data_set_of_the_field(tmp_path):
    assert read_custom_data(str(write_classes(tmp_path / "caltech101"))).name == "caltech101_folder"


def test_a_csv_in_a_folder_of_class_folders_is_named(pets):
    (pets / "labels.csv").write_text("path,class\n")
    assert has_guess(read_custom_data(str(pets)), "labels.csv in the folder is not read")


@pytest.fixture
def memory():
    """A folder in memory, where files are created and removed quickly."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_sixty_thousand_images_are_listed_in_five_seconds(memory):
    rows = []
    for label in range(10):
        (memory / f"class {label}").mkdir()
        for number in range(6000):
            path = f"class {label}/{number}.png"
            os.close(os.open(memory / path, os.O_CREAT))
            rows.append(f"{path},class {label}\n")
    (memory / "labels.csv").write_text("path,class\n" + "".join(rows))
    for place in (memory, memory / "labels.csv"):
        start = time.process_time()
        data = read_custom_data(str(place))
        assert sum(sizes(data)) == 60_000 and time.process_time() - start < 5, place


def test_flat_folders_are_no_classes(tmp_path):
    write_flat(tmp_path / "images")
    assert "images" in refusal(tmp_path)


def test_labels_of_images_below_links(tmp_path):
    """A link into the folder of another class gives its images two classes, which `python -m fdbpl.data` reports."""
    write_classes(tmp_path, ("cat", "dog"), 2)
    (tmp_path / "cat" / "more").symlink_to(tmp_path / "dog")
    found = labels(read_custom_data(str(tmp_path)))
    assert found["cat/more/image 0.jpg"] == "cat" and found["dog/image 0.jpg"] == "dog"
