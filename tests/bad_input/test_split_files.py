"""Split files with invalid content, and other files in their place."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdbpl.data.rows import read_rows
from fdbpl.errors import UserError

from .calls import alarm

SPLIT = "split_zhou_DescribableTextures.json"


def in_row(position, value, part="train"):
    """Put `value` into the first row of a split."""
    return lambda split: split[part][0].__setitem__(position, value)


def in_all_rows_of(label, change):
    return lambda split: [change(row) for rows in split.values() for row in rows if row[1] == label] and None


CHANGES = {
    "no test": (lambda split: split.pop("test") and None, "lists train, val and test"),
    "train is a dict": (lambda split: split.update(train={}), "'train': dict"),
    "train is empty": (lambda split: split["train"].clear(), "no images in train"),
    "test is empty": (lambda split: split["test"].clear(), "no images in test"),
    "all is empty": (lambda split: [rows.clear() for rows in split.values()] and None, "no images in train"),
    "a row is a dict": (lambda split: split["test"].append({"path": "x", "label": 0}), "row 8 of test"),
    "a row of two": (lambda split: split["train"][2].pop() and None, "row 2 of train"),
    "a path is a number": (in_row(0, 7), "[7, 0, 'banded']"),
    "a path is empty": (in_row(0, ""), "the path '' "),
    "a path is absolute": (in_row(0, "/etc/passwd"), "'/etc/passwd'"),
    "a path leads out": (in_row(0, "../../secret.jpg"), "'../../secret.jpg'"),
    "a path with a zero byte": (in_row(0, "banded/\0.jpg"), "not stay below"),
    "a path of 5,000 characters": (in_row(0, "b" * 5000 + ".jpg"), "missing"),
    "a path that is a folder": (in_row(0, "banded"), "missing below"),
    "a path that is not there": (in_row(0, "banded/gone.jpg"), "(banded/gone.jpg)"),
    "a label is not a number": (in_row(1, float("nan")), "row 0 of train"),
    "a label is negative": (in_row(1, -1), "label -1"),
    "a label is huge": (in_row(1, 10**400), "no image has label 4"),
    "labels from 1 on": (
        lambda split: [row.__setitem__(1, row[1] + 1) for rows in split.values() for row in rows] and None,
        "no image has label 0 (the largest is 4)",
    ),
    "a label is left out": (in_all_rows_of(2, lambda row: row.__setitem__(1, 9)), "no image has label 2"),
    "a label of two names": (in_row(2, "striped"), "label 0 has several class names"),
    "two labels of one name": (in_all_rows_of(1, lambda row: row.__setitem__(2, "banded")), "'banded' occurs twice"),
    "names that differ in case": (
        in_all_rows_of(1, lambda row: row.__setitem__(2, "Banded")),
        "'banded' and 'Banded'",
    ),
    "a name is a number": (in_row(2, 5), "row 0 of train"),
    "a name is empty": (in_all_rows_of(0, lambda row: row.__setitem__(2, "")), "empty or not valid"),
    "a name of 200 tokens": (in_all_rows_of(0, lambda row: row.__setitem__(2, "cat " * 200)), "75 tokens"),
    "an image in train and test": (lambda split: split["test"].append(split["train"][3]), "in train and test"),
    "an image of two labels": (lambda split: split["train"].append([split["train"][0][0], 1, "dotted"]), "than once"),
    "a class for tests only": (lambda split: split["test"].append(["x.jpg", 4, "new"]), "no training images of new"),
    "one class": (
        lambda split: {part: [row for row in rows if row[1] == 0] for part, rows in split.items()},
        "at least two",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_split(training, root, edit_split, case):
    change, found = CHANGES[case]
    file = edit_split(change)
    sentence = training.refused(root, names=found, unchanged=[root])
    assert str(root) in sentence or "tokens" in found
    assert file.is_file()


def nested(depth):
    return b"[" * depth + b"]" * depth


CONTENTS = {
    "nothing": (b"", "cannot be read"),
    "half of it": (None, "cannot be read"),
    "a list": (b"[]", "holds a list"),
    "a page": (b"<html><title>Quota exceeded</title></html>", "cannot be read"),
    "UTF-16": ('{"train": []}'.encode("utf-16"), "cannot be read"),
    "a picture": (b"\xff\xd8\xff\xe0" + bytes(100), "cannot be read"),
    "a list in a list in a list ...": (nested(200_000), "cannot be read"),
    "a deep row": (b'{"train": [' + nested(900) + b'], "val": [], "test": []}', "row 0 of train"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_something_else_in_its_place(training, root, case):
    file = root / "dtd" / SPLIT
    content, found = CONTENTS[case]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)
    training.refused(root, names=[SPLIT, found], unchanged=[root])


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "link to itself"])
def test_no_file_in_its_place(training, root, kind):
    file = root / "dtd" / SPLIT
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "link to itself":
        file.symlink_to(file)
    training.refused(root, names=SPLIT, unchanged=[root])


def test_a_byte_order_mark_does_no_harm(training, root):
    file = root / "dtd" / SPLIT
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    training.succeeds(root, unchanged=[root])


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("no validation images", lambda split: split["val"].clear()),
        ("keys that nobody asked for", lambda split: split.update(note="mine", dev=[])),
        ("a class without test images", lambda split: split.update(test=split["test"][2:])),
        ("emoji", in_all_rows_of(0, lambda row: row.__setitem__(2, "🦓 bänded 斑馬"))),
        ("braces", in_all_rows_of(0, lambda row: row.__setitem__(2, "{0.__class__} {x} {}"))),
        ("percents and quotes", in_all_rows_of(0, lambda row: row.__setitem__(2, '%s "it\'s" 100%'))),
        ("a line break in a name", in_all_rows_of(0, lambda row: row.__setitem__(2, "banded\nlike a zebra"))),
        ("words of CLIP's own", in_all_rows_of(0, lambda row: row.__setitem__(2, "a <|endoftext|> b"))),
    ],
)
def test_a_split_that_is_odd_but_right(training, root, edit_split, case, change):
    edit_split(change)
    training.succeeds(root, "OPTIM.MAX_EPOCH", "1", trainer="CoOp", unchanged=[root])


ROWS = st.lists(
    st.one_of(
        st.tuples(st.text(max_size=8), st.integers(-3, 5), st.text(max_size=5)).map(list),
        st.lists(st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.integers()), max_size=4),
    ),
    max_size=4,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
SPLITS = st.one_of(JSON, st.fixed_dictionaries({}, optional={part: st.one_of(ROWS, JSON) for part in ("train", "val")}))


@given(SPLITS)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_any_json_is_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "split.json"
    with alarm(20):
        try:
            rows = read_rows(json.loads(json.dumps(content)), ("train", "val"), file, "correct it")
        except UserError as error:
            assert str(file) in str(error) and str(error).endswith("; correct it") and len(str(error)) < 1000
        else:
            assert all(type(row[1]) is int and row[1] >= 0 and row[0] for part in rows.values() for row in part)


@given(st.data())
@settings(
    max_examples=5, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
def test_a_split_with_some_bytes_changed(training, root, data):
    """A damaged split file is refused in one line, or is still valid."""
    from .calls import call
    from .conftest import make_root

    file = root / "dtd" / SPLIT
    make_root(root.parent)
    content = file.read_bytes()
    start = data.draw(st.integers(0, len(content) - 1))
    end = start + data.draw(st.integers(1, 4))
    file.write_bytes(content[:start] + data.draw(st.binary(max_size=3)) + content[end:])
    training.output = training.output.with_name(f"run {start}")
    import train

    ended = call(train.main, training.words(root, flags=["--no-train"]))
    assert "Traceback" not in ended.err, ended.err
    assert ended.code == 0 or (ended.code == 2 and ended.err.startswith("error: ") and ended.err.count("\n") == 1)
