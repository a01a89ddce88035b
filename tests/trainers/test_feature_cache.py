"""The cache of test image features: computed once, shared by methods and seeds, and never stale."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

TEXT_ONLY = ("CoOp", "CoCoOp", "FDBPL", "ZeroshotCLIP")


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "features"


@pytest.fixture
def tested(build, cache):
    """Return tested(trainer, output, **settings), which returns test results and the number of encoded images."""

    def test(name: str, output: str, **settings):
        trainer = build(name, output, bank=False, **{"TEST.FEATURE_CACHE_DIR": str(cache), **settings})
        encoded = []
        tower = trainer.student.backbone.model.visual
        handle = tower.register_forward_hook(lambda module, inputs, output: encoded.append(len(inputs[0])))
        trainer.test()
        handle.remove()
        return trainer.results, sum(encoded)

    return test


def test_features_are_computed_once_for_all_methods(tested, cache):
    without = {"TEST.FEATURE_CACHE_DIR": ""}
    computed = {name: tested(name, f"none/{name}", **without) for name in TEXT_ONLY}
    assert all(encoded == 10 for _, encoded in computed.values()) and not cache.exists()
    assert tested("CoOp", "first") == computed["CoOp"]
    (file,) = cache.rglob("*.safetensors")
    for name in TEXT_ONLY:
        assert tested(name, f"again/{name}") == (computed[name][0], 0), name
    assert tested("CoOp", "seed", SEED=2)[1] == 0
    assert list(cache.rglob("*.safetensors")) == [file]


def test_cached_features_equal_those_of_the_tower_bit_for_bit(build, cache):
    trainer = build("CoOp", "run", **{"TEST.FEATURE_CACHE_DIR": str(cache)})
    trainer.test()
    (file,) = cache.rglob("*.safetensors")
    expected = torch.cat([trainer.student.backbone.encode_image(batch["img"]) for batch in trainer.test_loader])
    assert torch.equal(load_file(file)["features"], expected)


def test_features_of_a_trained_tower_are_not_cached(tested, cache):
    results, _ = tested("MaPLe", "run")
    assert results and not cache.exists()


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        ("touched image", {}),
        ("transform", {"INPUT.TRANSFORMS": ("normalize",), "INPUT.INTERPOLATION": "nearest"}),
        ("batch size", {"DATALOADER.TEST.BATCH_SIZE": 3}),
    ],
)
def test_stale_features_are_computed_again(tested, cache, change, settings):
    before, _ = tested("CoOp", "before")
    (file,) = cache.rglob("*.safetensors")
    if change == "touched image":
        with safe_open(file, "pt") as content:
            Path(json.loads(content.metadata()["identity"])[1][0]).touch()
    after, encoded = tested("CoOp", "after", **settings)
    assert encoded == 10
    assert change == "transform" or after["accuracy"] == before["accuracy"]
    assert len(list(cache.rglob("*.safetensors"))) == (2 if settings else 1)
    assert tested("CoOp", "again", **settings)[1] == 0
