"""CSV and TSV files as people have them, and lists train.txt, val.txt, test.txt."""

import gzip

import pytest

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
    write_csv,
    write_flat,
    write_image,
)  # fmt: skip


@pytest.fixture
def rows(tmp_path):
    """(path, class) of 24 images in the folder images, the paths relative to the CSV's folder."""
    return [(f"images/{file}", name) for file, name in write_flat(tmp_path / "images")]


def check_complete(data, rows):
    """Require that all images were found, with their classes."""
    assert data.classnames == NAMES
    names = dict(
        zip(sorted(CLASSES, key=lambda name: NAMES.index(name.replace("-", " ").replace("_", " "))), NAMES, strict=True)
    )
    assert labels(data) == {path: names[label] for path, label in rows}


@pytest.mark.parametrize(("header", "delimiter", "encoding", "guess"), [
    (("path", "class"), ",", "utf-8", ""), (("Path", " CLASS"), ";", "utf-8-sig", "semicolons"),
    (("path", "class"), "\t", "utf-8", ""), (("path", "class"), "|", "utf-8", "bars"),
    (("path", "class"), ",", "utf-16", "UTF-16"), (("path", "class"), ",", "utf-16-le", "UTF-16"),
    (("filename", "label"), ",", "utf-8", "'filename' is the image path, 'label' is the class"),
    (("image", "label"), ",", "utf-8", "'image' is the image path"),
    (("x", "y"), ",", "utf-8", "'x' is the image path"),
    (("image_id", "breed"), ",", "utf-8", "'breed' is the class"), (None, ",", "utf-8", "no header"),
])  # fmt: skip
def test_headers_separators_and_encodings(tmp_path, rows, header, delimiter, encoding, guess):
    data = read_custom_data(str(write_csv(tmp_path / "labels.csv", rows, header, delimiter, encoding)))
    check_complete(data, rows)
    assert data.name == f"{tmp_path.name}-labels" and data.folder == tmp_path and data.format == "CSV"
    assert has_guess(data, guess) if guess else not data.guesses


def test_quotes_unicode_and_other_columns(tmp_path):
    odd = 'images/it\'s, "so"; é\tнью.png'
    write_image(tmp_path / odd)
    write_image(tmp_path / "images" / "2.png")
    table = [(1, "a, small", odd, 'a "note", with\nnewline'), (2, "a, small", "images/2.png", "")]
    write_image(tmp_path / "images" / "3.png")
    write_image(tmp_path / "images" / "4.png")
    table += [(3, "b, small", "images/3.png", ""), (4, "b, small", "images/4.png", "")]
    data = read_custom_data(str(write_csv(tmp_path / "labels.csv", table, ("width", "class", "path", "note"))))
    assert odd in all_paths(data) and data.classnames == ["a, small", "b, small"]


@pytest.mark.parametrize(("convert", "guess"), [
    (lambda path: path.removeprefix("images/"), "searched"), (lambda path: path.removesuffix(".png"), "searched"),
    (lambda path: path.removeprefix("images/").removesuffix(".png"), "searched"),
    (lambda path: path.replace("/", "\\"), "searched"), (lambda path: path.replace(".png", ".PNG"), "searched"),
    (lambda path: "C:\\Users\\me\\data\\" + path.replace("/", "\\"), "searched"),
    (lambda path: "/home/other/data/" + path, "searched"), (lambda path: "./" + path, ""),
])  # fmt: skip
def test_paths_that_do_not_exist_as_written(tmp_path, rows, convert, guess):
    table = [(convert(path), label) for path, label in rows]
    data = read_custom_data(str(write_csv(tmp_path / "labels.csv", table)))
    check_complete(data, rows)
    assert has_guess(data, guess, "24 of 24", "is images/0_red fox.png") if guess else not data.guesses


def test_numbers_without_leading_zeros(tmp_path):
    """Head CT: id 0 is the file 000.png, and the class is 0 or 1."""
    for number in range(12):
        write_image(tmp_path / "head_ct" / f"{number:03d}.png")
    data = read_custom_data(
        str(write_csv(tmp_path / "labels.csv", [(k, int(k > 5)) for k in range(12)], ("id", "hemorrhage")))
    )
    assert labels(data)["head_ct/003.png"] == "0" and labels(data)["head_ct/011.png"] == "1"
    assert has_guess(data, "'hemorrhage' is the class")


def test_a_path_with_another_folder_is_another_image(tmp_path):
    for number in range(4):
        write_image(tmp_path / "test" / f"{number}.png")
    message = refusal(write_csv(tmp_path / "labels.csv", [(f"train/{k}.png", "ab"[k % 2]) for k in range(4)]))
    assert "are missing: 4 of 4 (train/0.png, train/1.png" in message and "images: FOLDER" in message


def test_paths_that_fit_several_images(tmp_path):
    for folder in ("a", "b"):
        write_image(tmp_path / folder / "0.png")
    assert "0.png of" in refusal(write_csv(tmp_path / "labels.csv", [("0.png", "cat")]))
    write_csv(tmp_path / "labels.csv", [("0.png", "cat")])
    assert "fits 2 images" in refusal(tmp_path / "labels.csv")


def test_a_few_missing_images_are_left_to_the_check_of_images(tmp_path, rows):
    data = read_custom_data(str(write_csv(tmp_path / "labels.csv", [*rows, ("images/gone.png", "dog-9")])))
    assert "images/gone.png" in all_paths(data) and sum(sizes(data)) == 25


@pytest.mark.parametrize(("header", "guess", "fields"), [
    ("path,class,", "", ",,"), ("path,class,set", "column set", "training testing"),
    ("path,class,Usage", "column usage", "Train TEST"), ("path,class,split", "0 train, 1 val, 2 test", "0 2"),
    (",path,class,which", "column which", "train test"), ("path,class,part", "column part", "train test"),
])  # fmt: skip
def test_columns_with_the_split(tmp_path, rows, header, guess, fields):
    lines = [header]
    for number, (path, label) in enumerate(rows):
        index = f"{number}," if header.startswith(",") else ""
        lines.append(f"{index}{path},{label},{(fields.split() * 2)[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(["# exported", *lines, ",,,", ""]))
    data = read_custom_data(str(tmp_path / "labels.csv"))
    assert sizes(data) == (12, 0, 12) if guess else sizes(data) == (12, 4, 8)
    assert any(guess in line for line in data.notices)
    if guess:
        assert all("0_" in path or "2_" in path or "4_" in path for path in paths(data)["train"])


@pytest.mark.parametrize("values", ["01", ("0.0", "1.0"), ("false", "True")])
def test_one_hot_columns(tmp_path, rows, values):
    table = [(path, *(values[label == name] for name in CLASSES)) for path, label in rows]
    data = read_custom_data(str(write_csv(tmp_path / "labels.csv", table, ("image", *CLASSES))))
    assert data.classnames == ["red fox", "grey wolf", "dog 10", "dog 9"]  # in the order of the columns
    assert has_guess(data, "4 columns of 0 and 1") and labels(data)[rows[0][0]] == "red fox"
    several = [*table, (rows[0][0], *values[1] * 2, values[0], values[0])] if values == "01" else [*table[:3], (
        rows[0][0], values[1], values[1], values[0], values[0])]  # fmt: skip
    message = refusal(write_csv(tmp_path / "labels.csv", several, ("image", *CLASSES)))
    assert "several classes (red fox, grey_wolf)" in message and "Multi-label data are not supported" in message


def test_labels_written_as_floating_point_numbers(tmp_path, rows):
    table = [(path, f"{CLASSES.index(label)}.0") for path, label in rows]
    assert read_custom_data(str(write_csv(tmp_path / "labels.csv", table))).classnames == ["0", "1", "2", "3"]


def test_gzip(tmp_path, rows):
    (tmp_path / "labels.csv.gz").write_bytes(gzip.compress(write_csv(tmp_path / "x.csv", rows).read_bytes()))
    data = read_custom_data(str(tmp_path / "labels.csv.gz"))
    check_complete(data, rows)
    assert has_guess(data, "gzip") and data.name.endswith("-labels")


def test_kaggle(tmp_path):
    """Dog Breed Identification: labels.csv with ids, and flat folders train and test."""
    rows = write_flat(tmp_path / "train")
    write_flat(tmp_path / "test", ("unknown",))
    write_csv(tmp_path / "labels.csv", [(file[:-4], name) for file, name in rows], ("id", "breed"))
    write_csv(tmp_path / "sample_submission.csv", [], ("id", *CLASSES))
    data = read_custom_data(str(tmp_path))
    assert data.classnames == NAMES and all(path.startswith("train/") for path in all_paths(data))


def test_a_table_for_each_split(tmp_path):
    for part, count in (("train", 4), ("val", 2), ("test", 2)):
        rows = write_flat(tmp_path / part, count=count)
        write_csv(tmp_path / f"{part}.csv", [(f"{part}/{file}", name) for file, name in rows])
    assert sizes(read_custom_data(str(tmp_path))) == (16, 8, 8)
    write_csv(tmp_path / "test.csv", [(f"test/{file}",) for file, _ in rows], ("path",))
    data = read_custom_data(str(tmp_path))
    assert sizes(data) == (16, 0, 8) and has_guess(data, "images of test.csv have no class")
    (tmp_path / "val.csv").unlink()
    assert sizes(read_custom_data(str(tmp_path))) == (8, 4, 4)


def test_several_tables(tmp_path):
    rows = [(f"images/{file}", name) for file, name in write_flat(tmp_path / "images")]
    for name in ("a.csv", "b.csv"):
        write_csv(tmp_path / name, rows)
    assert "several tables (a.csv, b.csv)" in refusal(tmp_path)
    (tmp_path / "dataset.yaml").write_text("labels: b.csv")
    assert sum(sizes(read_custom_data(str(tmp_path)))) == 24


FIRST, SECOND = "images/0_dog-9.png", "images/1_dog-9.png"


@pytest.mark.parametrize(("header", "table", "words"), [
    (("a", "b"), [("x", "y")], "could be recognised as the image paths (columns: 'a', 'b'). Name the columns"),
    (("path", "width", "height"), [(FIRST, "3", "4")], "could be recognised as the classes"),
    (("path", "class"), [("images/gone.jpg", "dog")], "are missing: 1 of 1 (images/gone.jpg)"),
    (("path", "class"), [("images", "dog")], "are missing: 1 of 1 (images)"),
    (("path", "class"), [("http://a.b/x.jpg", "dog")], "lists URLs"),
    (("path", "class"), [(FIRST, "")], "line 2 of"), (("path", "class"), [("", "dog")], "has no path"),
    (("path", "class"), [(FIRST, "a"), (f"./{FIRST}", "b")], "twice, as 'a' and 'b'"),
    (("path", "class"), [(FIRST, "dog", " small")], "has 3 fields, the first line 2 columns"),
    (("path", "class", "split"), [(FIRST, "dog", "train", "x")], "has 4 fields"),
    (("path", "class", "class"), [], "has 2 columns 'class'; keep one"),
    (("path", "class", "split", "set"), [(FIRST, "a", "train", "test")], "'split' and 'set'"),
    (("path", "class", "set"), [(FIRST, "a", "red")], "holds 'red' in line 2"),
    (("path", "class", "split"), [(FIRST, "a", "0"), (SECOND, "b", "1")], "not both 0 and 2"),
    (("path", "class", "is_train"), [(FIRST, "a", "1")], "a column 'is_train', which seems to give"),
    (("path", "class"), [("../x.jpg", "a")], "is not below"),
    (("path", "class"), [("/etc/passwd", "a")], "is not below"),
    (("path", "class", "split"), [(FIRST, "a", "dev")], "holds 'dev' in line 2"),
    (("path", "class", "split"), [(FIRST, "a", "train"), (FIRST, "a", "test")], "in two splits, train and test"),
    (("path", "class", "split"), [(FIRST, "a", "train"), (SECOND, "a", "")], "holds nothing in line 3"),
    (("path", "class"), [(FIRST, "Training"), (SECOND, "Testing")], "classes Testing, Training of"),
    (("path", "class"), [(FIRST, "a|b"), (SECOND, "a"),
    ("images/2_dog-9.png", "b")], "several classes to an image (line 2: 'a|b')"),
    (("path", "class"), [(FIRST, "['a', 'b']")], "Multi-label data are not supported"),
    (("path", "class"), [(FIRST, "cat"), (SECOND, "Cat")], "'Cat' and 'cat'"),
    (("path", "class"), [], "labels.csv lists no images"),
    (("path", "class"), [(FIRST, "a"), (SECOND, "a")], "at least two are needed"),
    (("path", "class"), [(FIRST, "a"), (SECOND, "b")], "only one image of a, b"),
])  # fmt: skip
def test_refused_tables(tmp_path, rows, header, table, words):
    assert words in refusal(write_csv(tmp_path / "labels.csv", table, header))


@pytest.mark.parametrize(("content", "words"), [
    (b"", "image paths (columns: none)"), (b"PK\x03\x04" + bytes(20), "is an Excel or zip file"),
    ("path,class\nimages/x.jpg,Käfer\n".encode("latin-1"), "save it as UTF-8"),
    (b"\xff\xd8\xff\xe0" + bytes(200), "labels.csv"), (b"path,class\nimages/x.jpg,ca\0t\n", "zero bytes"),
    (b'path,class\n"images/x.jpg,cat\n', "is not a valid CSV"),
    (b"path,class\n" + b"x" * 200_000 + b",cat\n", "is not a valid CSV"), (b"\x1f\x8bpath,class", "labels.csv"),
])  # fmt: skip
def test_refused_files(tmp_path, content, words):
    (tmp_path / "labels.csv").write_bytes(content)
    assert words in refusal(tmp_path / "labels.csv")


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_lists(tmp_path, separator):
    """train.txt, val.txt and test.txt of lines `path label`, and the names of the labels in classes.txt."""
    for part, count in (("train", 4), ("val", 2), ("test", 2)):
        rows = write_flat(tmp_path / "all images" / part, count=count)
        text = "".join(f"all images/{part}/{file}{separator}{CLASSES.index(name)}\n" for file, name in rows)
        (tmp_path / f"{part}.txt").write_text(text)
    (tmp_path / "classes.txt").write_text("fox\nwolf\nhound\npoodle\n")
    data = read_custom_data(str(tmp_path))
    assert data.format == "lists" and sizes(data) == (16, 8, 8)
    assert data.classnames == ["fox", "wolf", "hound", "poodle"] and has_guess(data, "classes.txt")
    assert labels(data)["all images/test/1_dog-10.png"] == "hound"


def test_a_list_with_two_columns_of_labels(tmp_path):
    """GroceryStore: path, fine label, coarse label; the first one counts."""
    for part, count in (("train", 4), ("test", 2)):
        rows = write_flat(tmp_path / part, count=count)
        text = "".join(f"{part}/{file}, {CLASSES.index(name)}, 0\n" for file, name in rows)
        (tmp_path / f"{part}.txt").write_text(text)
    data = read_custom_data(str(tmp_path))
    assert data.classnames == ["0", "1", "2", "3"] and sizes(data) == (16, 0, 8)
    (tmp_path / "train.txt").write_text((tmp_path / "train.txt").read_text() + "train/x.png\n")
    assert "line 17 of" in refusal(tmp_path) and "has no label" in refusal(tmp_path)
