"""Hugging Face's layouts: images with metadata files, Parquet files, and data sets of the hub."""

import json
import sys

import pytest

from fdbpl.data.custom import hub, parquet
from fdbpl.data.custom.dataset import read_custom_data
from fdbpl.data.custom.formats import image_root
from fdbpl.errors import SystemFailure, UserError

from .files import (
    CLASSES,
    NAMES,
    all_paths,
    has_guess,
    image_bytes,
    labels,
    paths,
    refusal,
    sizes,
    write_csv,
    write_flat,
)

arrow = pytest.importorskip("pyarrow")
from pyarrow import parquet as arrow_parquet  # noqa: E402

CLASS_LABEL = {"_type": "ClassLabel", "names": list(CLASSES)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FDBPL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_json_lines(file, rows, path="file_name", label="label"):
    file.write_text("".join(json.dumps({path: name, label: one, "text": "a caption"}) + "\n" for name, one in rows))


def write_parquet(file, columns, **features):
    """A Parquet file with Hugging Face's description of the columns in its metadata."""
    table = arrow.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    arrow_parquet.write_table(table, file, row_group_size=3)


def write_embedded(file, count=4, split="train", classes=CLASSES, names=True):
    """A Parquet file with `count` embedded images per class."""
    pixels = [{"bytes": image_bytes((split, k, name)), "path": None} for name in classes for k in range(count)]
    numbers = [CLASSES.index(name) for name in classes for _ in range(count)]
    write_parquet(file, {"image": pixels, "label": numbers}, **(
        {"image": {"_type": "Image"}, "label": CLASS_LABEL} if names else {}))  # fmt: skip


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
@pytest.mark.parametrize("place", ["split folders", "root"])
def test_metadata(tmp_path, name, place):
    root_rows = []
    for part, count in (("train", 4), ("validation", 2), ("test", 2)):
        rows = write_flat(tmp_path / "data" / part, count=count)
        root_rows += [(f"{part}/{file}", label) for file, label in rows]
        if place == "split folders":
            write_metadata(tmp_path / "data" / part / name, rows)
    if place == "root":
        write_metadata(tmp_path / "data" / name, root_rows)
    data = read_custom_data(str(tmp_path / "data"))
    assert data.format == "Hugging Face metadata" and sizes(data) == (16, 8, 8)
    assert sorted(data.classnames) == sorted(NAMES) and data.folder == tmp_path / "data"
    assert labels(data)["test/1_dog-10.png"] == "dog 10"
    assert all(path.startswith("train/") for path in paths(data)["train"])
    assert not (tmp_path / "cache").exists()  # images stay where they are


def write_metadata(file, rows):
    if file.suffix == ".csv":
        write_csv(file, rows, ("file_name", "label"))
    elif file.suffix == ".jsonl":
        write_json_lines(file, rows)
    else:
        numbers = [CLASSES.index(name) for _, name in rows]
        write_parquet(file, {"file_name": [name for name, _ in rows], "label": numbers}, label=CLASS_LABEL)


def test_metadata_without_splits_and_with_a_split_column(tmp_path):
    rows = write_flat(tmp_path / "a")
    write_json_lines(tmp_path / "a" / "metadata.jsonl", rows, label="category")
    assert sizes(read_custom_data(str(tmp_path / "a"))) == (12, 4, 8)
    table = [(file, label, "test" if file[0] == "0" else "train") for file, label in rows]
    (tmp_path / "a" / "metadata.jsonl").unlink()
    write_csv(tmp_path / "a" / "metadata.csv", table, ("file_name", "label", "split"))
    assert sizes(read_custom_data(str(tmp_path / "a"))) == (20, 0, 4)
    (tmp_path / "a" / "metadata.jsonl").write_text("")
    assert "keep one of them" in refusal(tmp_path / "a")


@pytest.mark.parametrize(("line", "words"), [
    ("{", "line 1 of"), ("[1]", "not a JSON object"), ('{"file_name": "0_dog-9.png"}', "recognised as the classes"),
    ('{"file_name": "0_dog-9.png", "label": ["a", "b"]}', "Multi-label data are not supported"),
    ('{"file_name": "0_dog-9.png", "label": null}', "has no class"),
])  # fmt: skip
def test_refused_metadata(tmp_path, line, words):
    write_flat(tmp_path)
    (tmp_path / "metadata.jsonl").write_text(line + "\n")
    assert words in refusal(tmp_path)


@pytest.mark.parametrize("names", [
    ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"),
    ("train.parquet", "validation.parquet", "test.parquet"), ("train/0.parquet", "val/0.parquet", "test/0.parquet"),
])  # fmt: skip
def test_parquet_with_embedded_images(tmp_path, cache, names):
    for name in names:
        write_embedded(tmp_path / "pets" / name, count=3, split=name)
    data = read_custom_data(str(tmp_path / "pets"))
    assert data.format == "Parquet" and data.classnames == ["red fox", "grey wolf", "dog 10", "dog 9"]
    assert sizes(data) == ((24, 0, 12) if "data/" in names[0] else (12, 12, 12))
    assert data.folder.parent == cache / "custom" and has_guess(data, "were extracted to", str(cache))
    for path, label in labels(data).items():
        assert (data.folder / path).read_bytes() in {
            image_bytes((name, k, CLASSES[data.classnames.index(label)])) for name in names for k in range(3)
        }
    assert image_root(str(tmp_path / "pets")) == data.folder
    assert read_custom_data(str(tmp_path / "pets")).digest == data.digest


def test_an_extraction_is_resumed_and_repeated_for_a_changed_file(tmp_path, cache, monkeypatch):
    file = tmp_path / "pets.parquet"
    write_embedded(file, count=4)
    written = []
    original = parquet._write_image

    def interrupted(*args):
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(original(*args))
        return written[-1]

    monkeypatch.setattr(parquet, "_write_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_custom_data(str(file))
    assert not list(cache.rglob("index.json"))
    (first,) = [path for path in cache.rglob("*.png") if path.name.startswith("00000000")]
    first.write_bytes(bytes(first.stat().st_size))  # as after a power failure
    times = {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")}
    monkeypatch.setattr(parquet, "_write_image", original)
    data = read_custom_data(str(file))
    assert len(all_paths(data)) == 16 and all(any((data.folder / path).read_bytes()) for path in all_paths(data))
    changed = [path for path, before in times.items() if path.stat().st_mtime_ns != before]
    assert changed == [first]
    monkeypatch.setattr(parquet, "_write_image", interrupted)  # not called again
    assert read_custom_data(str(file)).digest == data.digest
    monkeypatch.setattr(parquet, "_write_image", original)
    write_embedded(file, count=5, split="other")
    assert len(all_paths(read_custom_data(str(file)))) == 20


def test_parquet_with_paths(tmp_path):
    rows = write_flat(tmp_path / "images")
    pixels = [{"bytes": None, "path": f"images/{file}"} for file, _ in rows]
    write_parquet(
        tmp_path / "labels.parquet", {"image": pixels, "label": [name for _, name in rows]}, image={"_type": "Image"}
    )
    data = read_custom_data(str(tmp_path / "labels.parquet"))
    assert data.folder == tmp_path and all(path.startswith("images/") for path in all_paths(data))
    write_parquet(
        tmp_path / "labels.parquet",
        {"path": [f"images/{file}" for file, _ in rows], "label": [name for _, name in rows]},
    )
    assert labels(read_custom_data(str(tmp_path / "labels.parquet"))) == labels(data)


def test_parquet_without_metadata_and_with_unlabelled_test_images(tmp_path):
    write_embedded(tmp_path / "a" / "train.parquet", names=False)
    assert read_custom_data(str(tmp_path / "a")).classnames == ["0", "1", "2", "3"]
    write_embedded(tmp_path / "b" / "train.parquet")
    pixels = [{"bytes": image_bytes(k), "path": None} for k in range(3)]
    features = {"image": {"_type": "Image"}, "label": CLASS_LABEL}
    write_parquet(tmp_path / "b" / "test.parquet", {"image": pixels, "label": [-1, -1, -1]}, **features)
    data = read_custom_data(str(tmp_path / "b"))
    assert sizes(data) == (8, 4, 4) and has_guess(data, "images of test.parquet have no class")


@pytest.mark.parametrize(("columns", "features", "words"), [
    ({"image": [b"x"], "other": [b"y"], "label": [0]}, {}, "several image columns (image, other)"),
    ({"image": [b"x"], "a": ["b"], "c": ["d"]}, {}, "recognised as the classes"),
    ({"image": [b"x"], "label": [[0, 1]]}, {}, "Multi-label data are not supported"),
    ({"image": [b"x"], "label": [7]}, {"label": CLASS_LABEL, "image": {"_type": "Image"}}, "row 0 of"),
    ({"image": [None], "label": [0]}, {"image": {"_type": "Image"}}, "row 0 of"),
])  # fmt: skip
def test_refused_parquet_files(tmp_path, columns, features, words):
    write_parquet(tmp_path / "x.parquet", columns, **features)
    assert words in refusal(tmp_path / "x.parquet")


def test_broken_parquet_files(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 but not really")
    assert "is not a readable Parquet file" in refusal(tmp_path / "x.parquet")
    write_embedded(tmp_path / "a" / "train.parquet")
    write_parquet(tmp_path / "a" / "test.parquet", {"image": [b"x"], "other": [0]})
    assert "different columns or classes" in refusal(tmp_path / "a")


def test_pyarrow_is_optional(tmp_path, monkeypatch):
    write_embedded(tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "Run: pip install pyarrow" in refusal(tmp_path / "x.parquet")


def test_data_sets_of_the_hub(tmp_path, cache, monkeypatch):
    """A download is complete or continued; later calls need no network."""
    import huggingface_hub

    calls = []

    def snapshot_download(name, repo_type, local_dir):
        calls.append((name, repo_type))
        write_embedded(local_dir / "data" / "train-00000-of-00001.parquet")
        if len(calls) == 1:
            raise OSError("connection lost")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(SystemFailure, match="hf://me/pets cannot be downloaded .connection lost.; check the network"):
        read_custom_data("hf://me/pets")
    for place in ("hf://me/pets", "hf://datasets/me/pets", "hf://me/pets/data"):
        data = read_custom_data(place)
        assert sum(sizes(data)) == 16 and data.place == hub.local_path(place)
    assert calls == [("me/pets", "dataset")] * 2
    assert hub.local_path("hf://me/pets") == cache / "hub" / "me--pets"


def test_the_hub_without_network(offline, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
    with pytest.raises(SystemFailure) as caught:
        read_custom_data("hf://nobody/nothing")
    assert "hf://nobody/nothing" in str(caught.value) and "\n" not in str(caught.value)
    for name in ("hf://x", "hf://a/../b", "hf://"):
        with pytest.raises(UserError, match="is not a data set of the hub"):
            read_custom_data(name)
    with pytest.raises(UserError, match="write hf://me/pets"):
        read_custom_data("me/pets")
