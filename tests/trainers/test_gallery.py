"""Gallery of regions for data sets from a CSV file."""

import csv

import numpy as np
import pytest
from PIL import Image

from fdbpl.report.gallery import make_galleries
from fdbpl.report.report import read_results


@pytest.fixture
def photos(tmp_path):
    """A folder with a CSV file and three classes of four images."""
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = []
    for number in range(12):
        file, name = f"images/{number}.jpg", ("cat", "dog", "owl")[number % 3]
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / file)
        rows.append((file, name, "test" if number > 8 else "val" if number > 5 else "train"))
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "class", "split"), *rows])
    return folder


@pytest.mark.parametrize("key", ["DATASET.ROOT", "DATASET.FOLDER"])
def test_regions_of_a_csv(train_py, photos, key):
    place = {key: str(photos / "labels.csv")}
    place |= {"DATASET.NAME": "Folder", "DATASET.SUBSAMPLE_CLASSES": "all"}
    train_py("FDBPL", "labels", "--generate-regions", **place)
    train_py("FDBPL", "run", **place)
    (gallery,) = make_galleries(train_py.folder, read_results(train_py.folder))
    assert gallery.reason == "" and gallery.regions
    (photos / "images").rename(photos / "moved")
    (gallery,) = make_galleries(train_py.folder, read_results(train_py.folder))
    assert f"its images do not exist at {photos} any more" in gallery.reason
