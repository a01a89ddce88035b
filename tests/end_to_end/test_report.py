"""Report of real runs, with its gallery."""

import base64
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fdbpl.report.gallery import make_galleries
from fdbpl.report.report import read_results
from fdbpl.runs.metrics import harmonic_mean

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def output(scripts, tmp_path_factory) -> Path:
    """The default run and its bank, separate from the runs of other tests."""
    scripts.succeed("base2new_train.sh")
    output = tmp_path_factory.mktemp("output")
    for part in ("train_base", "test_new"):
        folder = scripts.folder(part, "FDBPL")
        shutil.copytree(folder, output / folder.relative_to(scripts.output))
    (output / "regions").symlink_to(scripts.output / "regions")
    return output


def test_the_report_of_a_run(output, tmp_path):
    command = [sys.executable, "-m", "fdbpl.report", str(output), "--to", str(tmp_path / "to")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = {"table.md", "table.csv", "table.tex", "report.html"}
    assert {file.name for file in (tmp_path / "to").iterdir()} == files
    base, new, h = map(float, re.search(r"\| FDBPL \| 1 \| \**([\d.]+)\** \| \**([\d.]+)\** \| \**([\d.]+)\** \|",
                                        done.stdout).groups())  # fmt: skip
    assert h == pytest.approx(harmonic_mean(base, new), abs=0.01)
    page = (tmp_path / "to/report.html").read_text()
    assert page.count("data:image/jpeg") == 24 and "say nothing about photographs" in page
    assert len(page) < 3_000_000


def test_gallery_of_a_run(output):
    results = read_results(output)
    (gallery,) = make_galleries(output, results)
    weights = [region.weight for region in gallery.regions]
    assert weights == sorted(weights, reverse=True) and weights[0] > 0.9 and weights[-1] < 0.3
    for region in gallery.regions:
        image = Image.open(io.BytesIO(base64.b64decode(region.jpeg.split(",")[1])))
        assert image.size == (128, 128) and np.asarray(image).std() > 1
        for prediction in (region.teacher, region.positive, region.negative):
            probabilities = [probability for _, probability in prediction]
            assert probabilities == sorted(probabilities, reverse=True) and 0 <= sum(probabilities) <= 1.0001
    agree = sum(region.teacher[0][0] == region.positive[0][0] for region in gallery.regions[:12])
    assert agree >= 9  # the student agrees with the teacher where w is large
    unsure = sum(region.negative[0][1] < 0.5 for region in gallery.regions[12:])
    assert unsure >= 9  # the negative space is undecided where w is small


def test_gallery_without_images(output, scripts):
    images = scripts.data / "demo"
    images.rename(scripts.data / "away")
    try:
        (gallery,) = make_galleries(output, read_results(output))
        assert "images do not exist at" in gallery.reason and gallery.regions == []
    finally:
        (scripts.data / "away").rename(images)
