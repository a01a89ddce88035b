"""Pictures of one's own: what is found, assumed, printed and refused."""

import csv
import json
import os
from pathlib import Path

import pytest
from dassl.config import get_cfg_default
from PIL import Image

import datasets
from datasets.folder import Folder
from fdbpl.data.custom.dataset import natural, read_custom_data
from fdbpl.engine import registry
from fdbpl.engine.bank_discovery import bank_root, training_images
from fdbpl.errors import UserError

ENDINGS = ("jpg", "png", "webp", "gif", "bmp", "tif", "JPG", "jpeg")
CLASSES = ("red fox", "grey_wolf", "dog-10", "dog-9")


def write_picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), (len(file.name) * 9 % 256, 80, 90)).save(file)


def write_classes(folder: Path, classes=CLASSES, count=8) -> Path:
    for name in classes:
        for number in range(count):
            write_picture(folder / name / f"picture {number}.{ENDINGS[number % len(ENDINGS)]}")
    return folder


@pytest.fixture
def pets(tmp_path):
    return write_classes(tmp_path / "my pets'")


def config(place, cache, **keys):
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.FOLDER, cfg.DATASET.FEWSHOT_DIR, cfg.DATASET.NUM_SHOTS, cfg.SEED = str(place), str(cache), 16, 1
    for key, value in keys.items():
        cfg.DATASET[key] = value
    return cfg


def parts(own) -> dict[str, set[str]]:
    return {part: {row[0] for row in rows} for part, rows in own.rows.items()}


def sentence(place) -> str:
    with pytest.raises(UserError) as caught:
        read_custom_data(str(place))
    return str(caught.value)


def test_defaults_are_said(pets):
    (pets / "dog-9" / ".hidden.jpg").write_text("")
    (pets / "dog-9" / "notes.txt").write_text("")
    (pets / "dog-9" / "table.xls").write_text("no picture")
    (pets / "beside.jpg").write_text("")
    (pets / ".git").mkdir()
    own = read_custom_data(str(pets))
    assert own.classnames == ["dog 9", "dog 10", "grey wolf", "red fox"]
    assert own.name == "my_pets" and own.template == "a photo of a {}."
    assert {part: len(rows) for part, rows in own.rows.items()} == {"train": 16, "val": 8, "test": 8}
    text = "\n".join(own.notes)
    assert "4 classes, 32 images" in text and "'a photo of a {}.' (default)" in text and "50/20/30 %" in text
    assert "16 train, 8 val, 8 test" in text and "dog 9, dog 10, grey wolf ... (4 in all)" in text
    assert "2 hidden" in text and "2 that are not images" in text and ".txt 1" in text and "1 outside" in text


def test_natural_order():
    assert sorted(["b2", "B10", "a", "b1", "10", "9"], key=natural) == ["9", "10", "a", "b1", "b2", "B10"]


def test_pictures_below_a_class_folder_and_behind_links(pets, tmp_path):
    write_picture(tmp_path / "elsewhere" / "old" / "x.jpg")
    (pets / "dog-9" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "elsewhere")
    paths = set().union(*parts(read_custom_data(str(pets))).values())
    assert "dog-9/more/old/x.jpg" in paths and len(paths) == 33


def test_a_new_picture_moves_at_most_one_over_each_cut_of_its_class(pets):
    before = parts(read_custom_data(str(pets)))
    write_picture(pets / "dog-9" / "new.png")
    after = parts(read_custom_data(str(pets)))
    moved = {path for part in before for path in before[part] - after[part]}
    assert len(moved) <= 2 and all(path.startswith("dog-9/") for path in moved)


@pytest.mark.parametrize(("folders", "sizes"), [
    (("train", "val", "test"), (12, 12, 12)), (("train", "test"), (12, 0, 12)), (("Train", "valid"), (12, 0, 12)),
])  # fmt: skip
def test_part_folders_are_used(tmp_path, folders, sizes):
    for folder in folders:
        write_classes(tmp_path / folder, count=3)
    own = read_custom_data(str(tmp_path))
    assert tuple(len(own.rows[part]) for part in ("train", "val", "test")) == sizes
    assert all(path.startswith(folders[0] + "/") for path, _, _ in own.rows["train"])
    assert all(path.startswith(folders[-1] + "/") for path, _, _ in own.rows["test"])
    assert ("no test, so val is tested on" in own.notes[3]) == ("valid" in folders)


@pytest.mark.parametrize(
    "names", [("Training", "Testing"), ("train_set", "test-set"), ("TRAIN", "Eval"), ("train1", "val")]
)
def test_usual_names_of_splits_in_any_spelling(tmp_path, names):
    for name in names:
        write_classes(tmp_path / name, count=2)
    write_picture(tmp_path / "samples" / "1.jpg")  # neither a split nor a class
    own = read_custom_data(str(tmp_path))
    assert own.classnames == ["dog 9", "dog 10", "grey wolf", "red fox"]
    assert [path.startswith(names[0]) for path, _, _ in own.rows["train"]] == [True] * 8
    assert [path.startswith(names[1]) for path, _, _ in own.rows["test"]] == [True] * 8
    assert "folders that are no split (samples)" in own.notes[-1]


@pytest.mark.parametrize(("folders", "expected"), [
    (("bus/1.jpg", "train/1.jpg", "train/2.jpg"), "the sub-folders train of .* are named like splits"),
    (("train/cat/1.jpg", "train/dog/1.jpg"), "the sub-folders train of"),
    (("seg_train/cat/1.jpg", "seg_test/cat/1.jpg"), "the sub-folders seg_test, seg_train of"),
    (("train/cat/1.jpg", "val/cat/1.jpg", "valid/cat/1.jpg"), r"several folders for the val split \(val, valid\)"),
    (("train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg"), "test has no class folders, so its images have no class"),
    (("photo/cat/1.jpg", "photo/dog/1.jpg", "sketch/cat/1.jpg", "sketch/dog/1.jpg"), "have the same sub-folders"),
    (("cat/train/1.jpg", "cat/test/1.jpg", "dog/1.jpg"), "cat has sub-folders named like splits .test, train"),
])  # fmt: skip
def test_splits_and_domains_are_no_classes(tmp_path, folders, expected):
    for file in folders:
        write_picture(tmp_path / file)
    with pytest.raises(UserError, match=expected):
        read_custom_data(str(tmp_path))


def test_classes_named_like_splits_or_with_the_same_sub_folders_are_listed(tmp_path):
    write_classes(tmp_path / "vehicles", ("bus", "train"), 2)
    (tmp_path / "vehicles" / "dataset.yml").write_text("classes: [train, bus]")
    assert read_custom_data(str(tmp_path / "vehicles")).classnames == ["train", "bus"]
    for name in ("left", "right"):
        write_classes(tmp_path / "eyes" / name, ("2023", "2024"), 2)
    (tmp_path / "eyes" / "dataset.yaml").write_text("split: {train: ['*/2023/*'], test: ['*/2024/*']}")
    assert read_custom_data(str(tmp_path / "eyes")).classnames == ["left", "right"]
    (tmp_path / "eyes" / "dataset.yml").write_text("")
    assert "has both dataset.yaml and dataset.yml" in sentence(tmp_path / "eyes")


@pytest.mark.parametrize("kind", ["folders", "csv"])
def test_a_class_without_test_images_is_named(tmp_path, capsys, kind):
    files = [
        f"{part}/{name}/1.jpg" for part in ("train", "test") for name in CLASSES if (part, name) != ("test", "dog-9")
    ]
    for file in files:
        write_picture(tmp_path / "pets" / file)
    place = tmp_path / "pets"
    if kind == "csv":
        rows = [(file, file.split("/")[1], file.split("/")[0]) for file in files]
        place = write_csv(place / "labels.csv", rows, ("path", "class", "split"))
    dataset = Folder(config(place, tmp_path / "cache"))
    assert dataset.num_classes == 4 and len(dataset.test) == 3
    assert f"Classes without test images in {tmp_path / 'pets'}: 1 (dog 9)\n" in capsys.readouterr().out


def test_dataset_yaml(pets):
    (pets / "dataset.yaml").write_text(
        'template: "a sketch of a {}, an animal."\nclasses:\n  red fox: vixen\n  dog-10: ""\n'
        "split: {train: 0.25, val: 0, test: 0.75}\n"
    )
    own = read_custom_data(str(pets))
    assert own.template == "a sketch of a {}, an animal." and own.classnames == [
        "vixen",
        "dog 10",
        "dog 9",
        "grey wolf",
    ]
    assert [len(own.rows[part]) for part in ("train", "val", "test")] == [8, 0, 24]
    assert "(dataset.yaml" in own.notes[1] and "dataset.yaml" in own.notes[2] and "25/0/75 %" in own.notes[3]


def test_folder_names_that_yaml_would_change(tmp_path):
    write_classes(tmp_path, ("007", "yes", "1e3", "null"), 2)
    (tmp_path / "dataset.yaml").write_text("classes: [yes, 007, null, 1e3]")
    assert read_custom_data(str(tmp_path)).classnames == ["yes", "007", "null", "1e3"]


def test_an_explicit_split_in_dataset_yaml(pets):
    (pets / "dataset.yaml").write_text(
        'split:\n  train: ["*/picture [0-3].*"]\n  test: ["*/picture 4.*", red fox/picture 5.tif]\n'
    )
    own = read_custom_data(str(pets))
    assert [len(own.rows[part]) for part in ("train", "val", "test")] == [16, 0, 5]
    assert "11 images in no part are left out" in own.notes[3]


def write_csv(file: Path, rows, header=("path", "class"), delimiter=",", encoding="utf-8") -> Path:
    with open(file, "w", newline="", encoding=encoding) as handle:
        csv.writer(handle, delimiter=delimiter).writerows([header, *rows])
    return file


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_a_csv(pets, delimiter, encoding):
    odd = pets / "dog-9" / 'it\'s, "so"; é\tнью.jpg'
    write_picture(odd)
    files = [file.relative_to(pets) for file in sorted(pets.rglob("*.*"))]
    rows = [(file, file.parts[0]) for file in files]
    own = read_custom_data(str(write_csv(pets / "labels.csv", rows, ("Path", " class"), delimiter, encoding)))
    assert own.name == "my_pets-labels" and own.folder == pets
    assert set().union(*parts(own).values()) == {file.as_posix() for file in files}
    assert own.classnames == ["dog 9", "dog 10", "grey wolf", "red fox"]


def test_a_csv_with_a_split(pets):
    rows = [
        (f"{name}/picture {k}.{ENDINGS[k]}", name, ("train", "valid", "TEST")[k]) for name in CLASSES for k in range(3)
    ]
    own = read_custom_data(str(write_csv(pets / "labels.csv", rows, ("path", "class", "split"))))
    assert {part: {path.split()[-1][0] for path in paths} for part, paths in parts(own).items()} == {
        "train": {"0"}, "val": {"1"}, "test": {"2"},
    }  # fmt: skip
    assert "column split" in own.notes[3]


@pytest.mark.parametrize(("header", "column", "fields"), [
    ("path,class,", "", ",,"), ("path,class,set", "column set", "training testing"),
    ("path,class,Usage", "column usage", "Train TEST"), ("path,class,split", "0 train, 1 val, 2 test", "0 2"),
    (",path,class,which", "column which", "train test"),
])  # fmt: skip
def test_surplus_commas_and_other_columns_with_the_split(pets, header, column, fields):
    lines = [header]
    for name in CLASSES:
        for number, field in enumerate((fields.split() * 2)[:2]):
            index = f"{number}," if header.startswith(",") else ""
            lines.append(f"{index}{name}/picture {number}.{ENDINGS[number]},{name},{field}")
    (pets / "labels.csv").write_text("\n".join([*lines, ",,,", ""]))
    own = read_custom_data(str(pets / "labels.csv"))
    assert column in own.notes[3] and {part: len(rows) for part, rows in own.rows.items()} == {
        "train": 4,
        "val": 0,
        "test": 4,
    }
    if column:
        assert all("picture 0" in path for path, _, _ in own.rows["train"])
    assert "default: column class" in own.notes[2]


FIRST, SECOND = "dog-9/picture 0.jpg", "dog-9/picture 1.png"


@pytest.mark.parametrize(("header", "rows", "expected"), [
    (("file", "label"), [], "has no column 'path' .*'file', 'label'.; name the columns path, class"),
    (("path", "class"), [("dog-9/gone.jpg", "dog")], "are missing: 1 of 1 .dog-9/gone.jpg"),
    (("path", "class"), [(FIRST, "")], "line 2 of .* has no class"),
    (("path", "class"), [(FIRST, "a"), ("./dog-9/picture 0.jpg", "b")], "in line 2 and again in line 3"),
    (("path", "class"), [(FIRST, "dog", " small")], "line 2 of .* has 3 fields, the first line 2 columns"),
    (("path", "class", "split"), [(FIRST, "dog", "train", "x")], "has 4 fields"),
    (("path", "class", "class"), [], "has 2 columns 'class'; keep one"),
    (("path", "class", "split", "set"), [(FIRST, "a", "train", "test")], "'split' and 'set' .* both seem"),
    (("path", "class", "set"), [(FIRST, "a", "red")], "'set' of .* holds 'red' in line 2; .* or rename"),
    (("path", "class", "split"), [(FIRST, "a", "0"), (SECOND, "b", "1")], "not both 0 and 2"),
    (("path", "class", "is_train"), [(FIRST, "a", "1")], "a column 'is_train', which seems to give"),
    (("path", "class"), [("../x.jpg", "a")], "is not below .* move the CSV"),
    (("path", "class", "split"), [(FIRST, "a", "dev")], "'split' of .* holds 'dev' in line 2"),
    (("path", "class", "split"), [(FIRST, "a", "train"), (SECOND, "a", "")],
     "holds nothing in line 3"),
    (("path", "class"), [(FIRST, "Training"), (SECOND, "Testing")], "classes Testing, Training of .* like splits"),
    (("path", "class"), [], "labels.csv lists no images"),
])  # fmt: skip
def test_a_bad_csv_is_a_sentence(pets, header, rows, expected):
    with pytest.raises(UserError, match=expected):
        read_custom_data(str(write_csv(pets / "labels.csv", rows, header)))


@pytest.mark.parametrize(("text", "expected"), [
    ("template: [", "dataset.yaml is not valid YAML"),
    ("- a", "instead of the keys template, classes, split"),
    ("clases: {}", "'clases' in .*; did you mean 'classes'"),
    ("template: a photo of a dog", "The template 'a photo of a dog' .* must have one {}"),
    ("template: 'a {x} {}'", "must have one {}"),
    ("classes: dogs", "classes in .* is 'dogs'"),
    ("classes: {grey-wolf: wolf}", "'grey-wolf' in .*; did you mean 'grey_wolf'"),
    ("classes: {dog-9: dog, dog-10: dog}", "'dog' occurs twice"),
    ("split: half", "must name train, val, test"),
    ("split: {train: 0.5, tset: 0.5}", "'tset' in .*; did you mean 'test'"),
    ("split: {train: 0.5, test: 0.3}", "add up to 1"),
    ("split: {train: all, test: 0.3}", "must be three shares"),
    ("split: {train: ['*'], test: ['*/picture 0.*']}", "assigns .* to both"),
    ("split: {train: ['*/nothing']}", "no image matches '\\*/nothing'"),
])  # fmt: skip
def test_a_bad_dataset_yaml_is_a_sentence(pets, text, expected):
    (pets / "dataset.yaml").write_text(text)
    with pytest.raises(UserError, match=expected):
        read_custom_data(str(pets))


def test_bad_folders_are_a_sentence(tmp_path):
    assert "no folder of images and no CSV at" in sentence(tmp_path / "nowhere")
    write_picture(tmp_path / "flat" / "a.jpg")
    assert "has no sub-folders" in sentence(tmp_path / "flat")
    write_classes(tmp_path / "one", ("dog",))
    assert "at least two are needed" in sentence(tmp_path / "one")
    write_picture(tmp_path / "one" / "cat" / "a.jpg")
    assert "only one image of cat" in sentence(tmp_path / "one")
    (tmp_path / "one" / "empty").mkdir()
    assert "the class folders empty of" in sentence(tmp_path / "one")
    write_classes(tmp_path / "twins", ("big-dog", "big_dog"))
    assert "'big dog' occurs twice" in sentence(tmp_path / "twins")
    write_classes(tmp_path / "composed", ("caf\u00e9", "cafe\u0301"))
    assert r"'cafe\u0301' and 'caf\xe9'" in sentence(tmp_path / "composed")
    os.makedirs(os.fsencode(tmp_path / "bytes") + b"/a\xff")
    write_picture(tmp_path / "bytes" / os.fsdecode(b"a\xff") / "a.jpg")
    assert "not valid UTF-8" in sentence(tmp_path / "bytes")


def test_a_name_with_a_newline(tmp_path):
    own = read_custom_data(str(write_classes(tmp_path / "a\nb", ("big\ndog", "cat"))))
    assert own.name == "a_b" and own.classnames == ["big dog", "cat"]


def test_a_folder_called_as_one_of_our_data_sets(tmp_path):
    assert read_custom_data(str(write_classes(tmp_path / "caltech101"))).name == "caltech101_folder"


def test_the_data_set(pets, tmp_path, capsys):
    dataset = Folder(config(pets, tmp_path / "cache"))
    assert "Images of " in capsys.readouterr().out
    assert dataset.name == "my_pets" and len(dataset.train_x) == 16 and dataset.protocol["test_images"] == 8
    root, images = training_images(config(pets, tmp_path), dataset)
    assert root == pets and all((root / image).is_file() for image in images)
    (stored,) = (tmp_path / "cache").rglob("shot_16-seed_1.json")
    assert {row[0] for row in json.loads(stored.read_text())["train"]} == set(images)
    assert sorted(path.name for path in pets.iterdir()) == sorted(CLASSES)  # nothing is written among the pictures


def test_the_data_root_stands_in_for_the_folder(pets, tmp_path):
    assert Folder(config("", tmp_path, ROOT=str(pets))).name == "my_pets"
    with pytest.raises(UserError, match="no folder of images is given"):
        Folder(config("", tmp_path))


def test_a_changed_folder_has_other_lists_and_another_digest(pets, tmp_path):
    before = Folder(config(pets, tmp_path / "cache"))
    write_picture(pets / "dog-9" / "new.png")
    Folder(config(pets, tmp_path / "cache"))
    assert len(list((tmp_path / "cache").rglob("shot_16-seed_1.json"))) == 2
    with pytest.raises(UserError, match="have changed since the command started"):
        Folder(config(pets, tmp_path / "cache", FOLDER_DIGEST=before.own.digest))


def test_two_folders_of_one_name_have_two_banks(tmp_path):
    roots = set()
    for place in ("a", "b"):
        cfg = config(write_classes(tmp_path / place / "pets"), tmp_path / "cache")
        registry.extend_cfg(cfg)
        roots.add(bank_root(cfg, Folder(cfg)))
    assert len(roots) == 2


def test_halves_need_two_classes_each(tmp_path):
    place = write_classes(tmp_path / "pets", CLASSES[:3])
    with pytest.raises(UserError, match="has 3 classes, but .* need four; add classes, or train on all"):
        Folder(config(place, tmp_path, SUBSAMPLE_CLASSES="base"))
    assert Folder(config(place, tmp_path)).num_classes == 3


def test_real_photographs(shared, tmp_path):
    place = shared / "data" / "caltech-101" / "101_ObjectCategories"
    dataset = Folder(config(place, tmp_path, NUM_SHOTS=1))
    assert dataset.num_classes == 100 and len(dataset.train_x) == 100
    assert "Motorbikes" in dataset.classnames and "cougar body" in dataset.classnames


def test_data_that_are_only_classified(tmp_path):
    """A single class and classes of one image are accepted, and no image is kept for training."""
    write_picture(tmp_path / "cat" / "a.jpg")
    own = read_custom_data(str(tmp_path), training=False)
    assert own.rows == {"train": [], "val": [], "test": [("cat/a.jpg", 0, "cat")]}
