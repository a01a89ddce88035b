"""Few-shot lists: stale, foreign and changed ones, and CoOp's pickles."""

import json
import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdbpl.data.pickled_lists import read_pickled
from fdbpl.errors import UserError

from .sentences import alarm

LIST = "shot_2-seed_1"
SPLIT = "split_zhou_DescribableTextures.json"
NAMES = ("banded", "dotted", "lined", "woven")


@pytest.fixture
def few(root):
    """few(change) writes a right list, changed, and returns its file."""

    def write(change=lambda few: None):
        content = {
            "train": [[f"{name}/{name}_{n}.jpg", label, name] for label, name in enumerate(NAMES) for n in (0, 2)],
            "val": [[f"{name}/{name}_3.jpg", label, name] for label, name in enumerate(NAMES)],
        }
        content = change(content) or content
        file = root / "dtd" / "split_fewshot" / f"{LIST}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
        return file

    return write


def test_a_right_list_is_read(training, root, few):
    few()
    training.succeeds(root, unchanged=[root])


CHANGES = {
    "no train": (lambda few: few.pop("train") and None, "expected lists train and val"),
    "no val": (lambda few: few.pop("val") and None, "expected lists train and val"),
    "train is null": (lambda few: few.update(train=None), "'train': NoneType"),
    "train is empty": (lambda few: few["train"].clear(), "found none of banded"),
    "a row is a text": (lambda few: few["train"].append("x.jpg"), "row 8 of train"),
    "a label is a text": (lambda few: few["train"][0].__setitem__(1, "0"), "row 0 of train"),
    "a label is a fraction": (lambda few: few["train"][0].__setitem__(1, 0.0), "row 0 of train"),
    "a label is infinite": (lambda few: few["train"][0].__setitem__(1, float("inf")), "row 0 of train"),
    "another label": (lambda few: few["train"][0].__setitem__(1, 1), "found 'banded/banded_0.jpg'"),
    "another name": (lambda few: few["train"][0].__setitem__(2, "striped"), "found 'banded/banded_0.jpg'"),
    "an image of another data set": (lambda few: few["train"][0].__setitem__(0, "cat.jpg"), "found 'cat.jpg'"),
    "a test image": (lambda few: few["train"][0].__setitem__(0, "banded/banded_5.jpg"), "found 'banded/banded_5.jpg'"),
    "a validation image": (lambda few: few["train"].append(few["val"][0]), "every image once"),
    "a training image in val": (lambda few: few["val"].append(["banded/banded_1.jpg", 0, "banded"]), "this split"),
    "an image twice": (lambda few: few["train"].__setitem__(1, few["train"][0]), "every image once"),
    "more shots": (lambda few: few["train"].append(["banded/banded_1.jpg", 0, "banded"]), "expected 2 images"),
    "a class without shots": (lambda few: few.update(train=few["train"][2:]), "found none of banded"),
    "a path that leads out": (lambda few: few["train"][0].__setitem__(0, "../x.jpg"), "expected paths below"),
    "an absolute path": (lambda few: few["train"][0].__setitem__(0, "/x.jpg"), "expected paths below"),
    "a list": (lambda few: [1], "found a list"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_list(training, root, few, case):
    change, found = CHANGES[case]
    few(change)
    training.refused(root, names=[f"{LIST}.json", found, "delete"], unchanged=[root])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"\x80\x04}."])
def test_no_list(training, root, few, content):
    few().write_bytes(content)
    training.refused(root, names=[f"{LIST}.json", "cannot be read"], unchanged=[root])


def test_a_list_from_before_the_split_changed(training, root, few, edit_split):
    few()
    edit_split(lambda split: split["train"].pop(0) and None)
    training.refused(root, names=[f"{LIST}.json", "found 'banded/banded_0.jpg'"], unchanged=[root])


def test_a_folder_in_its_place(training, root):
    (root / "dtd" / "split_fewshot" / f"{LIST}.json").mkdir(parents=True)
    training.refused(root, names=f"{LIST}.json", code=1, unchanged=[root])


# ------------------------------------------------------------------------------------------------------ pickles

PICKLES = ("DATASET.ALLOW_PICKLE", "True")


class Datum:
    """Pickles as Dassl's own."""

    def __init__(self, impath):
        self._impath, self._label, self._domain, self._classname = impath, 0, 0, ""


Datum.__module__, Datum.__qualname__ = "dassl.data.datasets.base_dataset", "Datum"


class Bomb:
    """Asks for a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def pickled(content, protocol=pickle.HIGHEST_PROTOCOL):
    import dassl.data.datasets.base_dataset as module

    theirs, module.Datum = module.Datum, Datum
    try:
        return pickle.dumps(content, protocol)
    finally:
        module.Datum = theirs


def chosen(*numbers, parts=("train", "val")):
    train = [Datum(f"/home/you/dtd/images/{name}/{name}_{number}.jpg") for name in NAMES for number in numbers]
    return dict(zip(parts, (train, [Datum(f"D:\\data\\{name}\\{name}_3.jpg") for name in NAMES]), strict=True))


@pytest.fixture
def pickle_file(root):
    file = root / "dtd" / "split_fewshot" / f"{LIST}.pkl"
    file.parent.mkdir()
    return file


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_coops_list_is_read(training, root, pickle_file, protocol):
    pickle_file.write_bytes(pickled(chosen(0, 2), protocol))
    ended = training.succeeds(root, *PICKLES, unchanged=[root])
    assert "Loading CoOp's few-shot list" in ended.out and "8 training images" in ended.out


def nested_key():
    """Its hash would take 2 ** 64 steps."""
    key = ()
    for _ in range(64):
        key = (key, key)
    pieces = [b"\x80\x04}", b")", *[b"2\x86"] * 64, b"K\x01s."]
    return b"".join(pieces)


def cut(content):
    return content[: len(content) // 2]


PICKLED = {
    "nothing": (lambda here: b"", "exhausted"),
    "half of it": (lambda here: cut(pickled(chosen(0, 2))), "expected a few-shot list"),
    "a text": (lambda here: b"hello", "expected a few-shot list"),
    "JSON": (lambda here: b'{"train": []}', "expected a few-shot list"),
    "a number": (lambda here: pickled(5), "expected a few-shot list"),
    "a list": (lambda here: pickled([Datum("x")]), "expected a few-shot list"),
    "no val": (lambda here: pickled({"train": chosen(0)["train"]}), "KeyError"),
    "paths that are numbers": (lambda here: pickled({"train": [Datum(5)], "val": []}), "AttributeError"),
    "numbers for items": (lambda here: pickled({"train": [5], "val": []}), "AttributeError"),
    "dicts for items": (lambda here: pickled({"train": [{}], "val": []}), "expected a few-shot list"),
    "images of another data set": (lambda here: pickled({"train": [Datum("/cat.jpg")], "val": []}), "not in the split"),
    "one class alone": (lambda here: pickled({"train": chosen(0)["train"][:1], "val": []}), "found none of dotted"),
    "more shots": (lambda here: pickled(chosen(0, 1, 2)), "expected 2 images of a class"),
    "an image twice": (lambda here: pickled(chosen(0, 0)), "every image once"),
    "a command": (lambda here: pickled({"train": [Bomb(os.system, f"touch {here}/run")], "val": []}), "holds TUPLE"),
    "a file to write": (lambda here: pickled({"train": [Bomb(open, f"{here}/run", "w")], "val": []}), "holds TUPLE"),
    "code to run": (lambda here: pickled(Bomb(exec, f"open('{here}/run', 'w')")), "the file holds "),
    "a class of ours": (lambda here: b"\x80\x04cfdbpl.errors\nUserError\n.", "asks for fdbpl.errors.UserError"),
    "a part of Dassl's": (lambda here: b"cdassl.data.datasets.base_dataset\nDatum.__init__.__globals__\n.", "asks for"),
    "a memory of two billions": (lambda here: b"\x80\x04}r\xff\xff\xff\x7f.", "more memory"),
    "a length of eight billions of bytes": (lambda here: b"\x80\x05\x96\xff\xff\xff\xff\x01\x00\x00\x00.", "expected"),
    "a key that is hashed for ever": (lambda here: nested_key(), "DUP"),
    "an object from elsewhere": (lambda here: b"\x80\x04\x8c\x01xQ.", "BINPERSID"),
}


@pytest.mark.parametrize("case", PICKLED)
def test_a_pickle_that_is_no_list_of_this_split(training, root, pickle_file, tmp_path, case):
    make, found = PICKLED[case]
    pickle_file.write_bytes(make(tmp_path))
    training.refused(root, *PICKLES, names=[f"{LIST}.pkl", found, "delete"], unchanged=[root])
    assert not (tmp_path / "run").exists()


def test_without_the_wish_no_pickle_is_opened(training, root, pickle_file, tmp_path):
    pickle_file.write_bytes(pickled(Bomb(open, f"{tmp_path}/run", "w")))
    ended = training.succeeds(root, unchanged=[root])
    assert "DATASET.ALLOW_PICKLE True reads it" in ended.out and not (tmp_path / "run").exists()


WHOLE = pickled(chosen(0, 2))
ROWS = [(f"{name}/{name}_{number}.jpg", label, name) for label, name in enumerate(NAMES) for number in range(4)]


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=4), st.integers(0, 6))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_pickle_with_some_bytes_changed(tmp_path_factory, start, filling, count):
    file = tmp_path_factory.getbasetemp() / "changed.pkl"
    file.write_bytes(WHOLE[:start] + filling + WHOLE[start + count :])
    with alarm(20):
        try:
            rows = read_pickled(file, ROWS, ROWS)
        except UserError as error:
            assert str(file) in str(error) and len(str(error)) < 600
        else:
            assert set(rows["train"] + rows["val"]) <= set(ROWS)
