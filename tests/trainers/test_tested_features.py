"""Image features of test images are computed once, shared by methods and seeds, and never stale."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TEXT_ONLY = ("CoOp", "CoCoOp", "FDBPL", "ZeroshotCLIP")


@pytest.fixture
def kept(tmp_path) -> Path:
    return tmp_path / "features"


def run_test(build, kept, name: str, run: str, **settings):
    """A trainer whose weights are as they start, tested; which forward passes its image tower made."""
    trainer = build(name, run, **{"TEST.FEATURE_CACHE_DIR": str(kept), **settings})
    seen = []
    tower = trainer.student.backbone.model.visual
    handle = tower.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    trainer.test()
    handle.remove()
    return trainer.results, seen


def test_one_method_computes_them_and_all_others_read_them(build, kept):
    without = {"TEST.FEATURE_CACHE_DIR": ""}
    computed = {name: run_test(build, kept, name, f"none/{name}", **without) for name in TEXT_ONLY}
    assert all(sum(seen) == 10 for _, seen in computed.values()) and not kept.exists()
    first, seen = run_test(build, kept, "CoOp", "first")
    (file,) = kept.rglob("*.safetensors")
    assert sum(seen) == 10 and first == computed["CoOp"][0]
    for name in TEXT_ONLY:
        results, seen = run_test(build, kept, name, f"again/{name}", SEED=2 if name == "CoOp" else 1)
        assert not seen, name
        if name != "CoOp":
            assert results == computed[name][0], name
    assert list(kept.rglob("*.safetensors")) == [file]


def test_what_is_kept_is_what_the_tower_says_bit_for_bit(build, kept):
    trainer = build("CoOp", "run", **{"TEST.FEATURE_CACHE_DIR": str(kept)})
    trainer.test()
    (file,) = kept.rglob("*.safetensors")
    expected = torch.cat([trainer.student.backbone.encode_image(batch["img"]) for batch in trainer.test_loader])
    assert torch.equal(load_file(file)["features"], expected)


def test_a_tower_that_learns_keeps_nothing(build, kept):
    results, _ = run_test(build, kept, "MaPLe", "run")
    assert results and not kept.exists()


@pytest.mark.parametrize("change", ["touched", "cut", "transform", "batch"])
def test_stale_ones_are_made_again(build, kept, change):
    before, _ = run_test(build, kept, "CoOp", "before")
    (file,) = kept.rglob("*.safetensors")
    settings = {}
    if change == "touched":
        image = Path(json.loads(_identity(file))[1][0])
        image.touch()
    elif change == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    elif change == "transform":
        settings = {"INPUT.TRANSFORMS": ("normalize",), "INPUT.INTERPOLATION": "nearest"}
    else:
        settings = {"DATALOADER.TEST.BATCH_SIZE": 3}
    after, seen = run_test(build, kept, "CoOp", "after", **settings)
    assert sum(seen) == 10
    assert change == "transform" or after["accuracy"] == before["accuracy"]
    assert len(list(kept.rglob("*.safetensors"))) == (1 if change in ("touched", "cut") else 2)
    assert not run_test(build, kept, "CoOp", "again", **settings)[1]


def _identity(file: Path) -> str:
    from safetensors import safe_open

    with safe_open(file, "pt") as content:
        return content.metadata()["identity"]
