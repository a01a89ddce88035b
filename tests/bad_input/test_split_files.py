"""Damaged split files and few-shot lists; tests/datasets/test_split_dataset.py has the tables of invalid rows."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import train
from fdbpl.data.rows import read_rows
from fdbpl.errors import UserError

from .calls import alarm, call
from .conftest import make_root

SPLIT = "split_zhou_DescribableTextures.json"
CONTENTS = {
    "empty": (b"", "cannot be read"),
    "a list": (b"[]", "holds a list"),
    "a web page": (b"<html><title>Quota exceeded</title></html>", "cannot be read"),
    "UTF-16": ('{"train": []}'.encode("utf-16"), "cannot be read"),
    "an image": (b"\xff\xd8\xff\xe0" + bytes(100), "cannot be read"),
    "nested lists": (b"[" * 200_000 + b"]" * 200_000, "cannot be read"),
    "a nested row": (b'{"train": [' + b"[" * 900 + b"]" * 900 + b'], "val": [], "test": []}', "row 0 of train"),
    "a path outside": (b'{"train": [["../x.jpg", 0, "a"]], "val": [], "test": []}', "not stay below"),
}


@pytest.mark.parametrize(("content", "message"), CONTENTS.values(), ids=CONTENTS)
def test_invalid_content(training, root, content, message):
    (root / "dtd" / SPLIT).write_bytes(content)
    training.refused(root, names=[SPLIT, message], unchanged=[root])


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "link to itself"])
def test_split_file_that_is_no_regular_file(training, root, kind):
    file = root / "dtd" / SPLIT
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "link to itself":
        file.symlink_to(file)
    training.refused(root, names=SPLIT, unchanged=[root])


def test_byte_order_mark(training, root):
    file = root / "dtd" / SPLIT
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    training.succeeds(root, unchanged=[root])


def test_names_that_confuse_templates(training, root, edit_split):
    names = ["a <|endoftext|> b", "{0.__class__} {}", '%s "it\'s" 100%', "banded\nlike a zebra"]
    edit_split(lambda split: [row.__setitem__(2, names[row[1]]) for rows in split.values() for row in rows] and None)
    training.succeeds(root, "OPTIM.MAX_EPOCH", "1", trainer="CoOp", unchanged=[root])


def test_name_that_is_too_long(training, root, edit_split):
    long = "cat " * 200
    edit_split(
        lambda split: [row.__setitem__(2, long) for rows in split.values() for row in rows if not row[1]] and None
    )
    training.refused(root, names="75 tokens", unchanged=[root])


def test_invalid_few_shot_list(training, root):
    file = root / "dtd" / "split_fewshot" / "shot_2-seed_1.json"
    file.parent.mkdir()
    file.write_text('{"train": [["banded/banded_5.jpg", 0, "banded"]], "val": []}')
    training.refused(
        root, names=[file.name, "'banded/banded_5.jpg', which is not in the split", "delete"], unchanged=[root]
    )
    file.unlink()
    file.mkdir()
    training.refused(root, names=file.name, code=1, unchanged=[root])


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
def test_random_json(tmp_path_factory, content):
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
def test_changed_bytes(training, root, data):
    """A damaged split file gives a one-line error, or is still valid."""
    file = root / "dtd" / SPLIT
    make_root(root.parent)
    content = file.read_bytes()
    start = data.draw(st.integers(0, len(content) - 1))
    end = start + data.draw(st.integers(1, 4))
    file.write_bytes(content[:start] + data.draw(st.binary(max_size=3)) + content[end:])
    training.output = training.output.with_name(f"run {start}")
    ended = call(train.main, training.words(root, flags=["--no-train"]))
    assert "Traceback" not in ended.err, ended.err
    assert ended.code == 0 or (ended.code == 2 and ended.err.startswith("error: ") and ended.err.count("\n") == 1)
