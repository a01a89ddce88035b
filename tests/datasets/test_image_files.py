"""Training, prediction, bank generation and doctor use the same images of a folder."""

from pathlib import Path

import pytest
from PIL import Image

from fdbpl.data.custom.dataset import read_custom_data
from fdbpl.doctor import own_images
from fdbpl.io.image_files import find_images, is_image
from fdbpl.regions.__main__ import list_images

NAMES = ["a.jfif", "b.jpe", "c.JPG", "f.webp", "h.tga", "i.ico", "real/d.png"]


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two class folders with unusual image formats, links, thumbnails and files that are not images."""
    for label in ("cat", "dog"):
        for name in NAMES:
            file = tmp_path / "photos" / label / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), "red").save(file)
    cat = tmp_path / "photos" / "cat"
    for hidden in ("@eaDir/x.jpg/S.jpg", "__MACOSX/e.jpg", ".cache/f.jpg"):
        (cat / hidden).parent.mkdir(parents=True)
        (cat / hidden).write_bytes((cat / "c.JPG").read_bytes())
    (cat / "linked").symlink_to(cat / "real")
    for name in ("film.mpg", "data.h5", "drawing.eps", "notes.txt", "photo.heic"):
        (cat / name).write_bytes(b"something else")
    outside = tmp_path / "outside"
    outside.mkdir()
    (cat / "c.JPG").rename(outside / "c.JPG")
    (cat / "elsewhere").symlink_to(outside)
    return tmp_path / "photos"


def test_all_commands_list_the_same_images(photos):
    rows = read_custom_data(str(photos)).rows
    trained = {path for part in rows.values() for path, *_ in part}
    assert "cat/elsewhere/c.JPG" in trained and len(trained) == 2 * len(NAMES)
    paths, skipped = find_images([str(photos)])
    assert {str(Path(path).relative_to(photos)) for path in paths} == trained
    assert set(list_images(photos, photos)) == trained
    assert own_images(photos).startswith("14 images in 2 folders (skipped: 3 hidden, 5 that are not images")
    assert skipped.hidden == 3 and skipped.linked == 1
    assert [Path(path).name for path in skipped.others] == [
        "data.h5", "drawing.eps", "film.mpg", "notes.txt", "photo.heic",
    ]  # fmt: skip


def test_patterns_skip_hidden_folders_unless_they_name_them(photos):
    (photos / "cat" / "x.jpg").write_bytes(b"")
    assert find_images([str(photos / "cat" / "**" / "*.jpg")])[0] == [str(photos / "cat" / "x.jpg")]
    assert find_images([str(photos / "cat" / "__MACOSX" / "*.jpg")])[0] == [str(photos / "cat" / "__MACOSX" / "e.jpg")]


@pytest.mark.parametrize("name", ["a.jpg", "B.JPEG", "c.jfif", "d.avif", "e.gif", "f.tif"])
def test_images_by_name(name):
    assert is_image(name) and not is_image("." + name) and not is_image(name + ".txt")
