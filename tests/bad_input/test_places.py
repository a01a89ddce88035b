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


@pytest.mark.parametrize(
    ("place", "found"),
    [("missing", "the data root"), ("data.zip", "is a file"), ("data.zip/data", "the data root"), ("loop", "loop"),
     ("x" * 5000, "x" * 100)],
)  # fmt: skip
def test_invalid_data_roots(training, tmp_path, place, found):
    (tmp_path / "data.zip").write_bytes(b"PK\3\4")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = [found, place] if len(place) < 100 else found
    training.refused(tmp_path / place, names=names, code=1 if len(place) > 255 else 2, unchanged=[tmp_path])


@pytest.mark.parametrize(
    ("gone", "found"),
    [("", "the folder of DescribableTextures"), ("images", "the image folder of DescribableTextures"),
     ("split_zhou_DescribableTextures.json", "the split file of DescribableTextures")],
)  # fmt: skip
@pytest.mark.parametrize("instead", ["nothing", "file"])
def test_missing_parts_of_a_data_set(training, root, gone, found, instead):
    place = root / "dtd" / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    if instead == "file":
        place.write_text("")
        found = "dtd"
    training.refused(root, names=[found, "prepare_data.sh dtd"] if instead == "nothing" else found, unchanged=[root])


@pytest.mark.parametrize("dataset", ["imagenet", "fgvc_aircraft", "imagenet_a"])
def test_missing_data_sets(training, root, dataset):
    training.refused(root, dataset=dataset, names=f"prepare_data.sh {dataset}", unchanged=[root])


@pytest.mark.parametrize("missing", ["banded/banded_0.jpg", "banded"])
def test_missing_images(training, root, missing):
    place = root / "dtd" / "images" / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    training.refused(root, "DATASET.NUM_SHOTS", "-1", names="(banded/banded_0.jpg", unchanged=[root])


@pytest.mark.parametrize("shots", [0, -2])
def test_invalid_numbers_of_shots(training, root, shots):
    training.refused(root, "DATASET.NUM_SHOTS", shots, names=f"is {shots}", unchanged=[root])


@pytest.mark.parametrize(("shots", "images"), [(-1, 12), (1, 4), (HUGE, 12)])
def test_numbers_of_shots(training, root, shots, images):
    ended = training.succeeds(root, "DATASET.NUM_SHOTS", shots)
    assert f"{images} training images, 8 test images" in ended.out


@pytest.mark.parametrize("half", ["base", "new"])
def test_a_half_of_one_class(training, root, edit_split, half):
    edit_split(lambda split: {part: [row for row in rows if row[1] < 2] for part, rows in split.items()})
    training.refused(root, "DATASET.SUBSAMPLE_CLASSES", half, names="at least two are needed", unchanged=[root])


def test_a_half_without_test_images(training, root, edit_split):
    edit_split(lambda split: split.update(test=[row for row in split["test"] if row[1] < 2]))
    training.refused(root, "DATASET.SUBSAMPLE_CLASSES", "new", names="no test images", unchanged=[root])


def test_best_val_without_validation_images(training, root, edit_split):
    edit_split(lambda split: split["val"].clear())
    words = ("TEST.FINAL_MODEL", "best_val")
    training.refused(root, *words, trainer="CoOp", names="has only test images", unchanged=[root])


@pytest.mark.parametrize("name", ['it\'s a "b"', "line\nbreak", "$(touch x);`touch x`&", "-é猫🐈%s{}"])
def test_unusual_names_of_data_roots_and_run_folders(tmp_path, name):
    data = make_root(tmp_path).rename(tmp_path / name)
    training = Training(tmp_path)
    training.output = tmp_path / "out" / name
    training.succeeds(data, unchanged=[data])
    assert (training.output / "done.json").is_file() and not os.path.exists("x")
    (data / "dtd" / "images" / "banded" / "banded_5.jpg").write_bytes(b"")
    training.output = tmp_path / "out" / f"{name} again"
    training.refused(data, names="banded/banded_5.jpg: empty", unchanged=[data])


def test_names_that_are_not_utf8(training, root):
    """Python represents such a byte as a lone surrogate, which cannot be written as UTF-8."""
    odd = os.fsdecode(os.fsencode(root.parent / "data") + b"\xff")
    os.rename(root, odd)
    training.refused(odd, names="is not UTF-8")
    training.output = Path(os.fsdecode(os.fsencode(training.output) + b"\xff"))
    training.refused(odd, names="is not UTF-8")


@contextlib.contextmanager
def unprivileged():
    """Run as a user without root's permissions, which ignore file modes."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public(monkeypatch):
    """A working directory that every user may enter and write to, with a data root."""
    # upstream's Dassl starts this interpreter, which another user may be unable to execute
    monkeypatch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
    with tempfile.TemporaryDirectory() as folder:
        make_root(Path(folder))
        (Path(folder) / "work").mkdir()
        for place in (folder, f"{folder}/work"):
            os.chmod(place, 0o777)
        monkeypatch.chdir(f"{folder}/work")
        yield Path(folder)
        for place, _, _ in os.walk(folder):
            os.chmod(place, 0o755)


@pytest.mark.parametrize("place", ["", "dtd/images", "dtd/images/banded"])
def test_unreadable_folders_of_a_data_set(public, place):
    root = public / "data"
    os.chmod(root / place, 0)
    with unprivileged():
        ended = Training(public).ended(root, "DATASET.NUM_SHOTS", "-1")
    assert ended.code in ([2] if place.endswith("banded") else [1, 2]) and "Traceback" not in ended.err, ended.err
    assert ended.err.startswith("error: ") and "; " in ended.err and str(root)[:20] in ended.err


@pytest.mark.parametrize(
    ("place", "root", "dataset", "message"),
    [("banded/banded_0.jpg", "data", "dtd", "banded/banded_0.jpg: Permission denied"),
     ("banded", "data/dtd/images", "folder", "Permission denied")],
)  # fmt: skip
def test_unreadable_images_and_class_folders(public, place, root, dataset, message):
    os.chmod(public / "data/dtd/images" / place, 0)
    with unprivileged():
        Training(public).refused(public / root, "DATASET.NUM_SHOTS", "-1", dataset=dataset, names=message)


def test_prediction_of_an_unreadable_folder(finished_run, public):
    shutil.copytree(finished_run, public / "run")
    folder = public / "data" / "dtd" / "images"
    os.chmod(folder / "banded", 0)
    with unprivileged():
        refused(predict.main, [public / "run", folder], ["banded", "Permission denied"])


@pytest.mark.parametrize(
    ("words", "found"),
    [(["gone.jpg"], "gone.jpg"), (["*.jpg"], "*.jpg"), (["empty"], "no image in empty"), (["x" * 5000], "xxx"),
     (["a\nb.jpg"], "a\\nb.jpg")],
)  # fmt: skip
def test_prediction_without_images(finished_run, words, found):
    Path("empty").mkdir()
    refused(predict.main, [finished_run, *words], found, unchanged=[finished_run])
