"""Few-shot lists: stale, foreign and changed ones, and CoOp's pickles."""

import json

import pytest

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
    "no train": (lambda few: few.pop("train") and None, "must hold lists train and val"),
    "no val": (lambda few: few.pop("val") and None, "must hold lists train and val"),
    "train is null": (lambda few: few.update(train=None), "'train': NoneType"),
    "train is empty": (lambda few: few["train"].clear(), "no training images of banded"),
    "a row is a text": (lambda few: few["train"].append("x.jpg"), "row 8 of train"),
    "a label is a text": (lambda few: few["train"][0].__setitem__(1, "0"), "row 0 of train"),
    "a label is a fraction": (lambda few: few["train"][0].__setitem__(1, 0.0), "row 0 of train"),
    "a label is infinite": (lambda few: few["train"][0].__setitem__(1, float("inf")), "row 0 of train"),
    "another label": (lambda few: few["train"][0].__setitem__(1, 1), "'banded/banded_0.jpg', which"),
    "another name": (lambda few: few["train"][0].__setitem__(2, "striped"), "'banded/banded_0.jpg', which"),
    "an image of another data set": (lambda few: few["train"][0].__setitem__(0, "cat.jpg"), "'cat.jpg', which"),
    "a test image": (lambda few: few["train"][0].__setitem__(0, "banded/banded_5.jpg"), "'banded/banded_5.jpg', which"),
    "a validation image": (lambda few: few["train"].append(few["val"][0]), "more than once"),
    "a training image in val": (lambda few: few["val"].append(["banded/banded_1.jpg", 0, "banded"]), "not in the"),
    "an image twice": (lambda few: few["train"].__setitem__(1, few["train"][0]), "more than once"),
    "more shots": (lambda few: few["train"].append(["banded/banded_1.jpg", 0, "banded"]), "more than the 2"),
    "a class without shots": (lambda few: few.update(train=few["train"][2:]), "no training images of banded"),
    "a path that leads out": (lambda few: few["train"][0].__setitem__(0, "../x.jpg"), "not stay below"),
    "an absolute path": (lambda few: few["train"][0].__setitem__(0, "/x.jpg"), "not stay below"),
    "a list": (lambda few: [1], "holds a list"),
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
    training.refused(root, names=[f"{LIST}.json", "'banded/banded_0.jpg', which"], unchanged=[root])


def test_a_folder_in_its_place(training, root):
    (root / "dtd" / "split_fewshot" / f"{LIST}.json").mkdir(parents=True)
    training.refused(root, names=f"{LIST}.json", code=1, unchanged=[root])
