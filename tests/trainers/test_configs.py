"""Every shipped configuration goes through the real configuration building; every module is found by itself."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "trainers").glob("*/*.yaml"))


def load(file: Path):
    from dassl.config import get_cfg_default

    import datasets
    import trainers
    from fdbpl.configuration import merge, read_yaml

    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    trainers.extend_cfg(cfg)
    merge(cfg, read_yaml(str(file)), str(file))
    return cfg


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_configuration_is_whole(file):
    from dassl.engine import TRAINER_REGISTRY

    cfg = load(file)
    trainer = TRAINER_REGISTRY.get(file.parent.name)
    demo = file.stem.startswith("demo")
    assert tuple(cfg.INPUT.SIZE) == ((64, 64) if demo else (224, 224))
    assert ("fp32" if demo else "fp16") == trainer.settings(cfg).PREC
    assert cfg.MODEL.BACKBONE.NAME.startswith("demo:") == demo
    backbones = {"demo": "demo:rn-student", "demo_vit": "demo:vit-student", "rn50": "RN50", "vit_b32": "ViT-B/32",
                 "vit_b16": "ViT-B/16"}  # fmt: skip
    assert backbones[file.stem.split("_ep")[0]] == cfg.MODEL.BACKBONE.NAME
    if file.parent.name != "ZeroshotCLIP":
        assert cfg.OPTIM.NAME == "sgd" and cfg.OPTIM.LR_SCHEDULER == "cosine" and cfg.OPTIM.WARMUP_EPOCH == 1
        epochs = re.search(r"_ep(\d+)", file.stem)
        assert epochs is None or int(epochs[1]) == cfg.OPTIM.MAX_EPOCH
        assert 0 < cfg.TRAIN.CHECKPOINT_FREQ <= cfg.OPTIM.MAX_EPOCH
    if not demo:
        assert cfg.DATALOADER.NUM_WORKERS == 8


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_key_says_what_it_is(file):
    for line in file.read_text().splitlines():
        key = re.match(r"\s*(\w+):(.*)$", line)
        if key and key[2].split("#")[0].strip() and key[1] != "WARMUP_TYPE" and key[1] != "WARMUP_CONS_LR":
            assert "#" in line, line
    assert isinstance(yaml.safe_load(file.read_text()), dict)


def test_the_trainers_are_found():
    from dassl.engine import TRAINER_REGISTRY

    import trainers

    trainers.modules()
    names = TRAINER_REGISTRY.registered_names()
    assert {"ZeroshotCLIP", "CoOp", "CoOp_KDPL", "FDBPL"} <= set(names)
    folders = {file.parent.name for file in FILES}
    assert folders <= set(names) and len(FILES) >= 20


def test_a_taken_name_is_left_alone():
    from dassl.engine import TRAINER_REGISTRY

    from trainers.prompt_trainer import register

    theirs = TRAINER_REGISTRY.get("CoOp")

    class CoOp:
        pass

    assert register(CoOp) is CoOp
    assert TRAINER_REGISTRY.get("CoOp") is theirs
