"""dataset.yaml: valid and invalid values."""

import pytest

from fdbpl.data.custom.dataset import read_custom_data

from .files import has_guess, refusal, sizes, write_classes, write_csv, write_flat

LABELS = ("cat", "dog", "grey_wolf")


@pytest.fixture
def pets(tmp_path):
    return write_classes(tmp_path / "pets", LABELS, 8)


def nested(opening, closing, depth=5000):
    return opening * depth + closing * depth


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 30))


@pytest.mark.parametrize(("text", "words"), [
    ("classes: [", "not valid YAML"), ("classes:\n\t- cat", "not valid YAML"), ("[a]: 1", "not valid YAML"),
    (nested("[", "]"), "not valid YAML"), ("classes: &a [*a]", "not valid YAML"),
    ("template: '\0{}'", "not valid YAML"),
    ("hello", "holds 'hello' instead of the keys template"), ("- cat\n- dog", "instead of the keys"),
    ("clases: [cat]", "is not one of the keys"), ("clases: [cat]", "did you mean 'classes'?"),
    ("colums: {path: a}", "did you mean 'columns'?"), ("delimeter: ','", "did you mean 'delimiter'?"),
    ("template: a photo", "must have one {}"), ("template: '{} {}'", "must have one {}"),
    ("template: 'a {name} {}'", "must have one {}"), ("template: '{0.__class__}'", "must have one {}"),
    ("template: [a, b]", "must have one {}"),
    ("template: !!python/object/apply:os.system ['touch x']", "must have one {}"),
    (LAUGHS, "is not one of the keys"), (LAUGHS + "classes: *a29\n", "is not one of the keys"),
    ("classes: [cat, dgo]", "did you mean 'dog'?"), ("classes: {grey-wolf: wolf}", "did you mean 'grey_wolf'?"),
    ("classes: cat.txt", "'cat.txt', which"), ("classes: {cat: [a]}", "classes in"),
    ("classes: {cat: dog}", "'dog' occurs twice"), ("classes: {cat: Dog}", "'Dog' and 'dog'"),
    ("split: {training: 1}", "did you mean 'train'?"), ("split: {train: 0.9, test: 0.9}", "add up to 1"),
    ("split: {train: -0.5, val: 0.5, test: 1}", "add up to 1"), ("split: {train: nan, test: nan}", "add up to 1"),
    ("split: {train: inf, test: -inf}", "add up to 1"), ("split: {train: 1.0}", "add up to 1"),
    ("split: {train: half, test: half}", "must be three shares"), ("split: random", "is 'random'"),
    ("split: {train: ['cat/9.jpg'], test: ['*']}", "no image matches 'cat/9.jpg'"),
    ("split: {train: ['*'], test: ['*/image 0.*']}", "to both train and test"),
    ("strip_prefix: '['", "not a regular expression"), ("layout: '*/*'", "must contain {class} once"),
    ("layout: '{class}/{name}'", "must contain {class} once"), ("layout: 'a/{class}/*'", "no image of"),
    ("layout: 0", "must contain {class} once"), ("images: ../x", "'../x', which"),
    ("images: x", "'x', which"),
    ("labels: x.csv", "'x.csv', which"), ("columns: [a]", "columns in"),
    ("columns: {image: a}", "not one of the columns"),
    ("delimiter: ab", "must be one character"), ("split_values: {train: [[a]]}", "assign each value to one part"),
    ("split_values: {train: a, test: a}", "assign each value to one part"),
])  # fmt: skip
def test_refused_descriptions(pets, text, words):
    (pets / "dataset.yaml").write_text(text)
    message = refusal(pets)
    assert "dataset.yaml" in message or "occurs twice" in message or "'Dog'" in message
    assert words in message


@pytest.mark.parametrize("content", [b"\xff\xfe\0", "template: 'ein {} für'".encode("latin-1")])
def test_descriptions_in_other_encodings(pets, content):
    (pets / "dataset.yaml").write_bytes(content)
    assert "dataset.yaml is not valid YAML" in refusal(pets)


def test_a_byte_order_mark_and_the_ending_yml(pets):
    (pets / "dataset.yml").write_bytes(b"\xef\xbb\xbftemplate: 'a sketch of a {}.'\n")
    assert read_custom_data(str(pets)).template == "a sketch of a {}."
    (pets / "dataset.yaml").write_text("")
    assert "has both dataset.yaml and dataset.yml" in refusal(pets)


def test_template_classes_and_shares(pets):
    (pets / "dataset.yaml").write_text(
        'template: "a sketch of a {}, an animal."\nclasses:\n  grey_wolf: Canis lupus\n  dog: ""\n'
        "split: {train: 0.25, val: 0, test: 0.75}\n"
    )
    data = read_custom_data(str(pets))
    assert data.template == "a sketch of a {}, an animal." and data.classnames == ["Canis lupus", "dog", "cat"]
    text = "\n".join(data.notices)
    assert sizes(data) == (6, 0, 18) and "25/0/75 %" in text and text.count("dataset.yaml") >= 3


def test_an_explicit_split(pets):
    (pets / "dataset.yaml").write_text(
        'split:\n  train: ["*/image [0-3].*"]\n  test: ["*/image 4.*", dog/image 5.tif]\n'
    )
    data = read_custom_data(str(pets))
    assert sizes(data) == (12, 0, 4) and "8 images in no part are left out" in "\n".join(data.notices)
    assert ("dog/image 6.JPG", "in no part of dataset.yaml") in data.skipped


def test_names_that_yaml_would_change(tmp_path):
    write_classes(tmp_path, ("007", "yes", "1e3", "null"), 2)
    (tmp_path / "dataset.yaml").write_text("classes: [yes, 007, null, 1e3]")
    assert read_custom_data(str(tmp_path)).classnames == ["yes", "007", "null", "1e3"]


def test_a_table_described_completely(tmp_path):
    """Columns, image folder, ending, delimiter and values of the split, in a folder with other tables."""
    rows = write_flat(tmp_path / "pixels" / "raw", count=4)
    table = [(file[:-4], "x", name, f"fold{file[0]}") for file, name in rows]
    (tmp_path / "tables").mkdir()
    write_csv(tmp_path / "tables" / "main.csv", table, ("key", "note", "species", "fold"), "|")
    write_csv(tmp_path / "other.csv", [], ("a", "b"))
    (tmp_path / "dataset.yaml").write_text(
        "labels: tables/main.csv\ncolumns: {path: key, class: species, split: fold}\nimages: pixels/raw\n"
        "ending: png\ndelimiter: '|'\nsplit_values: {train: [fold0, fold1], val: fold2, test: [fold3]}\n"
    )
    data = read_custom_data(str(tmp_path))
    assert sizes(data) == (8, 4, 4) and data.folder == tmp_path and not has_guess(data, "searched")
    assert all(path.startswith("pixels/raw/") for path, _, _ in data.rows["train"])
    (tmp_path / "dataset.yaml").write_text("labels: tables/main.csv\ncolumns: {path: kee}")
    assert "has no column 'kee'" in refusal(tmp_path)
