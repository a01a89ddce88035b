"""Consistency of the table of sources with the data sets, with torchvision's checksums and with the split files."""

import json
import re
import tarfile
from pathlib import Path, PurePosixPath

import pytest
import torchvision

from fdbpl.data.download import file_digest
from fdbpl.data.prepare.check import dataset_class
from fdbpl.data.prepare.commands import CONFIGS
from fdbpl.data.prepare.sources import SOURCES

DOWNLOADS = [source for dataset in SOURCES.values() for part in dataset.parts for source in part.sources]


def test_all_published_data_sets_have_sources():
    own = {"folder", *(file.stem for file in CONFIGS.glob("demo*.yaml"))}
    assert set(SOURCES) == {file.stem for file in CONFIGS.glob("*.yaml")} - own and len(SOURCES) == 15


@pytest.mark.parametrize("name", SOURCES)
def test_targets_are_where_the_data_set_reads(name):
    dataset = dataset_class(name)
    targets = [target for part in SOURCES[name].parts for target in part.targets]
    assert dataset.dataset_dir == SOURCES[name].folder and len(set(targets)) == len(targets)
    assert not dataset.split_file or dataset.split_file in targets
    assert any(PurePosixPath(target).is_relative_to(dataset.image_dir) for target in targets)
    for part in SOURCES[name].parts:
        assert bool(part.sources) != bool(part.manual)
        assert part.unpack or len(part.targets) == 1
        assert set(part.aliases) <= set(part.targets)


@pytest.mark.parametrize("source", DOWNLOADS, ids=lambda source: source.url)
def test_form_of_addresses(source):
    assert re.fullmatch(r"(https?://[\w.-]+/[\w./~%-]+|drive:[\w-]{33})", source.url)
    assert re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?", source.digest)
    assert re.fullmatch(r"[\w.-]+", source.file_name)


def test_checksums_equal_torchvision():
    code = "".join(file.read_text() for file in Path(torchvision.__file__).parent.glob("datasets/*.py"))
    common = [source for source in DOWNLOADS if source.digest.startswith("md5:") and source.url in code]
    common = [source for source in common if "fgvc" not in source.url]  # torchvision has no checksum for it
    assert len(common) >= 4 and all(source.digest.removeprefix("md5:") in code for source in common)
    from torchvision.datasets.imagenet import ARCHIVE_META

    steps = SOURCES["imagenet"].parts[1].manual
    assert all(archive in steps and md5 in steps for archive, md5 in ARCHIVE_META.values())


def test_checksums_of_split_files(shared, tmp_path):
    digests = {source.file_name: source.digest for source in DOWNLOADS if source.file_name.startswith("split_zhou_")}
    with tarfile.open(shared / "data" / "coop_splits.tar.xz") as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive if member.name in digests}
    assert len(members) == 7 and len(digests) == 9
    for name, content in members.items():
        (tmp_path / name).write_bytes(content)
        assert file_digest(tmp_path / name, "sha256") == digests[name]
        assert json.loads(content).keys() == {"train", "val", "test"}
