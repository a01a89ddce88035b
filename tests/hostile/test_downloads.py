"""Downloads: all have a published hash, except those listed here."""

from fdbpl.data.prepare.sources import SOURCES

WITHOUT_HASH = {  # no hash is published; the archives are extracted as untrusted and hold images and class names
    "classnames.txt", "caltech-101-promptkd.zip", "oxford_pets.zip", "oxford_flowers.zip", "food101.zip",
    "fgvc_aircraft.zip", "dtd.zip", "EuroSAT_RGB.zip", "eurosat.zip", "UCF-101-midframes.zip", "ImageNet-Sketch.zip",
}  # fmt: skip


def test_downloads_have_their_hashes():
    sources = [source for dataset in SOURCES.values() for part in dataset.parts for source in part.sources]
    assert {source.file_name for source in sources if not source.digest} == WITHOUT_HASH
    assert all(source.url.startswith(("https://", "drive:")) for source in sources if not source.digest)
    lengths = {"md5": 32, "sha256": 64}
    for algorithm, _, digest in (source.digest.partition(":") for source in sources if source.digest):
        assert len(bytes.fromhex(digest)) * 2 == lengths[algorithm]
