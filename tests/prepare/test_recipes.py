"""The recipes themselves: nothing to fetch, so what can be wrong in them is how they fit the rest."""

import json
import re
import tarfile
from pathlib import Path, PurePosixPath

import pytest
import torchvision
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY

import datasets
from fdbpl.config import read_yaml
from fdbpl.data.download import file_digest
from fdbpl.data.prepare.recipes import RECIPES

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "datasets"
SOURCES = [source for recipe in RECIPES.values() for part in recipe.parts for source in part.sources]


def test_every_data_set_of_the_paper():
    assert list(RECIPES) == [
        "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101", "fgvc_aircraft",
        "sun397", "dtd", "eurosat", "ucf101", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r",
    ]  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_fits_the_class(name):
    """Where the class looks is where the recipe puts things."""
    datasets.extend_cfg(get_cfg_default())
    dataset = DATASET_REGISTRY.get(read_yaml(str(CONFIGS / f"{name}.yaml"))["DATASET.NAME"])
    targets = [target for part in RECIPES[name].parts for target in part.targets]
    assert dataset.dataset_dir == RECIPES[name].folder
    assert not dataset.split_file or dataset.split_file in targets
    image_dir = PurePosixPath(dataset.image_dir)
    assert any(PurePosixPath(target).is_relative_to(image_dir) for target in targets), "the images"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.url)
def test_sources(source):
    assert re.fullmatch(r"(https?://[\w.-]+/[\w./~%-]+|drive:[\w-]{33})", source.url)
    assert re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?", source.digest)
    assert re.fullmatch(r"[\w.-]+", source.file_name)


def test_parts_can_be_had():
    for recipe in RECIPES.values():
        targets = [target for part in recipe.parts for target in part.targets]
        assert len(set(targets)) == len(targets)
        for part in recipe.parts:
            assert bool(part.sources) != bool(part.manual)
            assert part.unpack or len(part.targets) == 1
            assert set(part.found_as) <= set(part.targets)


def test_hashes_are_torchvisions():
    """Where torchvision knows the same address, its hash is ours."""
    code = "".join(file.read_text() for file in Path(torchvision.__file__).parent.glob("datasets/*.py"))
    known = [source for source in SOURCES if source.digest.startswith("md5:") and source.url in code]
    known = [source for source in known if "fgvc" not in source.url]  # of that torchvision has the address only
    assert len(known) >= 4
    for source in known:
        assert source.digest.removeprefix("md5:") in code
    from torchvision.datasets.imagenet import ARCHIVE_META

    steps = RECIPES["imagenet"].parts[1].manual
    for archive, md5 in ARCHIVE_META.values():
        assert archive in steps and md5 in steps


def test_hashes_of_split_files(shared, tmp_path):
    splits = {
        target: source
        for recipe in RECIPES.values()
        for part in recipe.parts
        for target in part.targets
        for source in part.sources
        if target.startswith("split_zhou_")
    }
    with tarfile.open(shared / "data" / "coop_splits.tar.xz") as archive:
        members = [member for member in archive if member.name in splits]
        for member in members:
            (tmp_path / member.name).write_bytes(archive.extractfile(member).read())
    assert len(members) == 7 and len(splits) == 9
    for member in members:
        source = splits[member.name]
        assert file_digest(tmp_path / member.name, source.digest) == source.digest
        assert json.loads((tmp_path / member.name).read_text()).keys() == {"train", "val", "test"}
