"""Data roots, folders and numbers of images that are missing, invalid, or have unusual names."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from fdbpl import predict

from .calls import refused
from .conftest import Training, make_root

HUGE = 10**30


def test_no_data_root(training, tmp_path):
    training.refused(tmp_path / "gone", names=["the data root", str(tmp_path / "gone")])


def test_a_file_for_a_data_root(training, tmp_path):
    (tmp_path / "data.zip").write_bytes(b"PK\3\4")
    training.refused(tmp_path / "data.zip", names="is a file", unchanged=[tmp_path / "data.zip"])


def test_a_data_root_within_a_file(training, tmp_path):
    (tmp_path / "file").write_text("")
    training.refused(tmp_path / "file" / "data", names="the data root")


def test_a_data_root_without_an_end(training):
    training.refused("x" * 5000, names="x" * 100, code=1)


def test_a_data_root_that_leads_to_itself(training, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    training.refused(tmp_path / "loop", names="loop")


@pytest.mark.parametrize(
    ("gone", "found"),
    [("", "the folder of DescribableTextures"), ("images", "the image folder of DescribableTextures"),
     ("split_zhou_DescribableTextures.json", "the split file of DescribableTextures")],
)  # fmt: skip
@pytest.mark.parametrize("instead", ["nothing", "file"])
def test_a_part_of_the_data_set_is_missing(training, root, gone, found, instead):
    place = root / "dtd" / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    if instead == "file":
        place.write_text("")
        found = "dtd"
    training.refused(root, names=[found, "prepare_data.sh dtd"] if instead == "nothing" else found, unchanged=[root])


@pytest.mark.parametrize("dataset", ["imagenet", "fgvc_aircraft", "imagenet_a"])
def test_a_data_set_that_is_not_there(training, root, dataset):
    training.refused(root, dataset=dataset, names=f"prepare_data.sh {dataset}", unchanged=[root])


@pytest.mark.parametrize("missing", ["banded/banded_0.jpg", "banded"])
def test_missing_images(training, root, missing):
    place = root / "dtd" / "images" / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    training.refused(root, "DATASET.NUM_SHOTS", "-1", names="(banded/banded_0.jpg", unchanged=[root])


@pytest.mark.parametrize("shots", [0, -2])
def test_a_number_of_shots_that_is_none(training, root, shots):
    training.refused(root, "DATASET.NUM_SHOTS", shots, names=f"is {shots}", unchanged=[root])


@pytest.mark.parametrize(("shots", "images"), [(-1, 12), (1, 4), (HUGE, 12)])
def test_a_number_of_shots(training, root, shots, images):
    ended = training.succeeds(root, "DATASET.NUM_SHOTS", shots)
    assert f"{images} training images, 8 test images" in ended.out


@pytest.mark.parametrize(("half", "classes"), [("base", 1), ("new", 1)])
def test_a_half_of_one_class(training, root, edit_split, half, classes):
    edit_split(lambda split: {part: [row for row in rows if row[1] < 2] for part, rows in split.items()})
    training.refused(root, "DATASET.SUBSAMPLE_CLASSES", half, names="at least two are needed", unchanged=[root])


def test_no_test_images_of_a_half(training, root, edit_split):
    edit_split(lambda split: split.update(test=[row for row in split["test"] if row[1] < 2]))
    training.refused(root, "DATASET.SUBSAMPLE_CLASSES", "new", names="no test images", unchanged=[root])


def test_a_model_chosen_by_no_validation_images(training, root, edit_split):
    edit_split(lambda split: split["val"].clear())
    words = ("TEST.FINAL_MODEL", "best_val")
    training.refused(root, *words, trainer="CoOp", names="has only test images", unchanged=[root])


@pytest.mark.parametrize("name", ['it\'s a "b"', "line\nbreak", "$(touch x);`touch x`&", "-é猫🐈%s{}"])
def test_odd_names_of_the_places(tmp_path, name):
    """Data roots and run folders with unusual names."""
    data = make_root(tmp_path).rename(tmp_path / name)
    training = Training(tmp_path)
    training.output = tmp_path / "out" / name
    training.succeeds(data, unchanged=[data])
    assert (training.output / "done.json").is_file() and not os.path.exists("x")
    (data / "dtd" / "images" / "banded" / "banded_5.jpg").write_bytes(b"")
    training.output = tmp_path / "out" / f"{name} again"
    training.refused(data, names="banded/banded_5.jpg: empty", unchanged=[data])


def test_names_that_are_no_utf8(training, root):
    """Python represents such a byte as a lone surrogate, which cannot be written as UTF-8."""
    odd = os.fsdecode(os.fsencode(root.parent / "data") + b"\xff")
    os.rename(root, odd)
    training.refused(odd, names="is not UTF-8")
    training.output = Path(os.fsdecode(os.fsencode(training.output) + b"\xff"))
    training.refused(odd, names="is not UTF-8")


@contextlib.contextmanager
def somebody():
    """Drop root's permissions, which ignore file modes."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public():
    """A folder that every user may enter and write to."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)
        for place, _, _ in os.walk(folder):
            os.chmod(place, 0o755)


@pytest.mark.parametrize("place", ["", "dtd/images", "dtd/images/banded"])
def test_a_folder_that_may_not_be_read(public, monkeypatch, place):
    root = make_root(public)
    (public / "work").mkdir(mode=0o777)
    os.chmod(public / "work", 0o777)
    monkeypatch.chdir(public / "work")
    os.chmod(root / place, 0)
    training = Training(public)
    with somebody():
        # which images are there cannot be told, or nothing at all
        code = 2 if place.endswith("banded") else None
        ended = training.ended(root, "DATASET.NUM_SHOTS", "-1")
    assert ended.code in ([code] if code else [1, 2]) and "Traceback" not in ended.err, ended.err
    assert ended.err.startswith("error: ") and "; " in ended.err and str(root)[:20] in ended.err


@pytest.mark.parametrize("kind", ["custom data", "image"])
def test_something_that_may_not_be_read(public, monkeypatch, kind):
    root = make_root(public)
    (public / "work").mkdir()
    os.chmod(public / "work", 0o777)
    monkeypatch.chdir(public / "work")
    training = Training(public)
    with somebody():
        if kind == "image":
            with as_root():
                os.chmod(root / "dtd" / "images" / "banded" / "banded_0.jpg", 0)
            training.refused(root, "DATASET.NUM_SHOTS", "-1", names="banded/banded_0.jpg: Permission denied")
        else:
            with as_root():
                os.chmod(root / "dtd" / "images" / "banded", 0)
            words = ("DATASET.NUM_SHOTS", "-1")
            training.refused(root / "dtd" / "images", *words, dataset="folder", names="Permission denied")


@contextlib.contextmanager
def as_root():
    mine = os.geteuid()
    if os.getuid() == 0:
        os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_predictions_of_a_folder_that_may_not_be_read(finished_run, public, monkeypatch):
    make_root(public)
    shutil.copytree(finished_run, public / "run")
    monkeypatch.chdir(public)
    folder = public / "data" / "dtd" / "images"
    os.chmod(folder / "banded", 0)
    with somebody():
        refused(predict.main, [public / "run", folder], ["banded", "Permission denied"])


@pytest.mark.parametrize(
    ("words", "found"),
    [(["gone.jpg"], "gone.jpg"), (["*.jpg"], "*.jpg"), (["empty"], "no image in empty"), (["x" * 5000], "xxx"),
     (["a\nb.jpg"], "a\\nb.jpg")],
)  # fmt: skip
def test_predictions_of_nothing(finished_run, words, found):
    Path("empty").mkdir()
    refused(predict.main, [finished_run, *words], found, unchanged=[finished_run])
