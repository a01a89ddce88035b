"""A folder or a CSV of own pictures, and its dataset.yaml."""

import os

import pytest

from .conftest import draw_image

LABELS = ("cat", "dog", "grey_wolf")


@pytest.fixture
def pets(tmp_path):
    folder = tmp_path / "my pets"
    for label in LABELS:
        for number in range(3):
            draw_image(folder / label / f"{number}.jpg", "red", number)
    return folder


def refused(training, place, names, code=2, unchanged=()):
    words = ("DATASET.NUM_SHOTS", "-1")
    return training.refused(place, *words, dataset="folder", names=names, code=code, unchanged=[*unchanged])


def nested(opening, closing, depth=5000):
    return opening * depth + closing * depth


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 30))

DESCRIPTIONS = {
    "no YAML": ("classes: [", "not valid YAML"),
    "a tab": ("classes:\n\t- cat", "not valid YAML"),
    "a text": ("hello", "holds 'hello'"),
    "a list": ("- cat\n- dog", "keys template, classes, split"),
    "an unknown key": ("clases: [cat]", "did you mean 'classes'?"),
    "a key that is a list": ("[a]: 1", "not valid YAML"),
    "a template without a place": ("template: a photo", "must have one {}"),
    "a template with two": ("template: '{} {}'", "must have one {}"),
    "a template with a name": ("template: 'a {name} {}'", "must have one {}"),
    "a template with an attribute": ("template: '{0.__class__}'", "must have one {}"),
    "a template that is a list": ("template: [a, b]", "must have one {}"),
    "a class that is not there": ("classes: [cat, dgo]", "did you mean 'dog'?"),
    "classes in a text": ("classes: cat", "classes in"),
    "a class that is a list": ("classes: {cat: [a]}", "classes in"),
    "two classes of one name": ("classes: {cat: dog}", "'dog' occurs twice"),
    "names that differ in case": ("classes: {cat: Dog}", "'Dog' and 'dog'"),
    "an unknown part": ("split: {training: 1}", "did you mean 'train'?"),
    "shares of more than 1": ("split: {train: 0.9, test: 0.9}", "add up to 1"),
    "negative shares": ("split: {train: -0.5, val: 0.5, test: 1}", "add up to 1"),
    "shares that are no numbers": ("split: {train: nan, test: nan}", "add up to 1"),
    "infinite shares": ("split: {train: inf, test: -inf}", "add up to 1"),
    "shares in words": ("split: {train: half, test: half}", "three shares"),
    "a split in a text": ("split: random", "is 'random'"),
    "no test": ("split: {train: 1.0}", "add up to 1"),
    "a path that is not there": ("split: {train: ['cat/9.jpg'], test: ['*']}", "no image matches 'cat/9.jpg'"),
    "a picture in two parts": ("split: {train: ['*'], test: ['cat/*']}", "assigns"),
    "a class that is not learnt": ("split: {train: ['cat/*'], test: ['dog/*', 'grey_wolf/*']}", "images of dog"),
    "an object of Python": ("template: !!python/object/apply:os.system ['touch x']", "must have one {}"),
    "lists in lists": (nested("[", "]"), "not valid YAML"),
    "a laugh a billion times": (LAUGHS, "dataset.yaml"),
    "a laugh in the classes": (LAUGHS + "classes: *a29\n", "'a0' in"),
    "a list of itself": ("classes: &a [*a]", "not valid YAML"),
    "a zero byte": ("template: '\0{}'", "not valid YAML"),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_a_description(training, pets, case):
    text, found = DESCRIPTIONS[case]
    (pets / "dataset.yaml").write_text(text)
    names = [found] if "not learnt" in case else ["dataset.yaml", found]
    refused(training, pets, names, unchanged=[pets])
    assert not os.path.exists("x")


@pytest.mark.parametrize("content", [b"\xff\xfe\0", "template: 'ein {} für'".encode("latin-1")])
def test_a_description_in_other_bytes(training, pets, content):
    (pets / "dataset.yaml").write_bytes(content)
    refused(training, pets, ["dataset.yaml", "not valid YAML"], unchanged=[pets])


def test_a_description_with_a_byte_order_mark(training, pets):
    (pets / "dataset.yaml").write_bytes(b"\xef\xbb\xbftemplate: 'a sketch of a {}.'\n")
    training.succeeds(pets, "DATASET.NUM_SHOTS", "-1", dataset="folder", unchanged=[pets])


TABLES = {
    "nothing": (b"", "has no column 'path'"),
    "other columns": (b"file,label\ncat/0.jpg,cat\n", "has no column 'path'"),
    "no rows": (b"path,class\n", "lists no images"),
    "Latin-1": ("path,class\ncat/0.jpg,Käfer\n".encode("latin-1"), "is not a CSV in UTF-8"),
    "UTF-16": ("path,class\ncat/0.jpg,cat\n".encode("utf-16"), "is not a CSV in UTF-8"),
    "an image": (b"\xff\xd8\xff\xe0" + bytes(200), "is not a CSV in UTF-8"),
    "zero bytes": (b"path,class\ncat/0.jpg,ca\0t\n", "is not a CSV in UTF-8"),
    "a quote that does not end": (b'path,class\n"cat/0.jpg,cat\n', "is not a CSV"),
    "a field without an end": (b"path,class\n" + b"x" * 200_000 + b",cat\n", "is not a CSV"),
    "a missing picture": (b"path,class\ncat/7.jpg,cat\n", "are missing: 1 of 1 (cat/7.jpg)"),
    "a folder in place of an image": (b"path,class\ncat,cat\n", "are missing: 1 of 1 (cat)"),
    "a path that leads out": (b"path,class\n../x.jpg,cat\n", "move the CSV"),
    "an absolute path": (b"path,class\n/etc/passwd,cat\n", "move the CSV"),
    "a row without a class": (b"path,class\ncat/0.jpg,\n", "line 2 of"),
    "a row without a path": (b"path,class\n,cat\n", "line 2 of"),
    "a picture twice": (b"path,class\ncat/0.jpg,cat\ncat/../cat/0.jpg,dog\n", "again in line 3"),
    "an unknown part": (b"path,class,split\ncat/0.jpg,cat,dev\n", "holds 'dev'"),
    "a part in some rows": (b"path,class,split\ncat/0.jpg,cat,train\ncat/1.jpg,cat,\n", "holds nothing in line 3"),
    "classes that differ in case": (b"path,class\ncat/0.jpg,cat\ncat/1.jpg,Cat\n", "'Cat' and 'cat'"),
    "one class": (b"path,class\ncat/0.jpg,cat\ncat/1.jpg,cat\n", "at least two are needed"),
    "one picture of a class": (b"path,class\ncat/0.jpg,cat\ncat/1.jpg,cat\ndog/0.jpg,dog\n", "one image of dog"),
    "no test": (b"path,class,split\ncat/0.jpg,cat,train\ndog/0.jpg,dog,train\n", "no images in test"),
    "the CSV itself": (b"path,class\nlabels.csv,cat\nlabels2.csv,dog\n", "missing"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table(training, pets, case):
    content, found = TABLES[case]
    (pets / "labels.csv").write_bytes(content)
    refused(training, pets / "labels.csv", found, unchanged=[pets])


def test_a_table_that_is_odd_but_right(training, pets):
    rows = [f'"{label}/{number}.jpg";"{label}, é🐈 {{}}";mine' for label in LABELS for number in range(3)]
    (pets / "labels.csv").write_text("\n".join(["Path; CLASS ;note", *rows]), encoding="utf-8-sig")
    training.succeeds(pets / "labels.csv", "DATASET.NUM_SHOTS", "-1", dataset="folder", unchanged=[pets])


def test_no_pictures(training, tmp_path):
    (tmp_path / "a").mkdir()
    refused(training, tmp_path / "a", "has no sub-folders", unchanged=[tmp_path / "a"])
    (tmp_path / "a" / "cat").mkdir()
    refused(training, tmp_path / "a", "class folders cat of", unchanged=[tmp_path / "a"])
    (tmp_path / "a" / "cat" / "notes.txt").write_text("")
    refused(training, tmp_path / "a", "(skipped: 1 that are not images", unchanged=[tmp_path / "a"])
    refused(training, tmp_path / "gone", "no folder of images and no CSV")
    refused(training, tmp_path / "a" / "cat" / "notes.txt", "has no column 'path'")


def test_one_class(training, tmp_path):
    for number in range(3):
        draw_image(tmp_path / "a" / "cat" / f"{number}.jpg", "red", number)
    refused(training, tmp_path / "a", "only the class cat", unchanged=[tmp_path / "a"])


@pytest.mark.parametrize("half", ["base", "new"])
def test_too_few_classes_for_halves(training, pets, half):
    training.refused(pets, "DATASET.SUBSAMPLE_CLASSES", half, dataset="folder", names="halves need four")


@pytest.mark.parametrize(("kind", "found"), [
    ("pipe", "cat/x.jpg: not a regular file"), ("link to nothing", "cat/x.jpg: No such file"),
    ("link to itself", "cat/x.jpg: Too many levels"),
])  # fmt: skip
def test_what_is_no_file(training, pets, kind, found):
    file = pets / "cat" / "x.jpg"
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(pets / "nothing" if kind == "link to nothing" else file)
    refused(training, pets, found, unchanged=[pets])


def test_a_name_that_is_no_utf8(training, pets):
    with open(os.fsencode(pets / "cat") + b"/\xff.jpg", "wb") as file:
        file.write((pets / "cat" / "0.jpg").read_bytes())
    refused(training, pets, "not valid UTF-8", unchanged=[pets])


def test_links_in_circles(training, pets):
    (pets / "cat" / "again").symlink_to(pets / "cat")
    (pets / "cat" / "loop").symlink_to(pets / "cat" / "loop")
    (pets / "loop").symlink_to(pets / "loop")
    (pets / ".hidden").symlink_to(pets / ".hidden")
    training.succeeds(pets, "DATASET.NUM_SHOTS", "-1", dataset="folder", unchanged=[pets])


def test_odd_names(training, pets):
    (pets / "grey_wolf").rename(pets / "line\nbreak 'quotes\" $(touch x) `touch x` ; é🐺")
    (pets / "cat" / "0.jpg").rename(pets / "cat" / "a\n'b\" $HOME;.jpg")
    training.succeeds(pets, "DATASET.NUM_SHOTS", "-1", dataset="folder", unchanged=[pets])
    assert not os.path.exists("x")
