"""Names that prompt learners of the CoOp family import, defaults that their YAML files rely on, and helpers."""

import importlib
import json
import re
import sys

import numpy as np
import pytest
import torch
from dassl.config import clean_cfg, get_cfg_default
from dassl.utils import (
    Registry,
    collect_env_info,
    count_num_param,
    listdir_nohidden,
    load_pretrained_weights,
    read_image,
    read_json,
    set_random_seed,
    write_json,
)
from PIL import Image

NAMES = {
    "dassl.engine": "TRAINER_REGISTRY TrainerX TrainerBase SimpleTrainer build_trainer",
    "dassl.config": "get_cfg_default clean_cfg",
    "dassl.optim": "build_optimizer build_lr_scheduler",
    "dassl.utils": "load_pretrained_weights load_checkpoint setup_logger set_random_seed collect_env_info check_isfile "
    "listdir_nohidden read_json write_json mkdir_if_missing MetricMeter AverageMeter Registry save_checkpoint "
    "resume_from_checkpoint count_num_param tolist_if_not read_image check_availability",
    "dassl.metrics": "compute_accuracy",
    "dassl.data": "DataManager DatasetWrapper",
    "dassl.data.datasets": "DATASET_REGISTRY Datum DatasetBase build_dataset",
    "dassl.data.transforms": "INTERPOLATION_MODES build_transform",
    "dassl.data.samplers": "build_sampler",
    "dassl.data.data_manager": "build_data_loader",
    "dassl.evaluation": "EVALUATOR_REGISTRY build_evaluator",
}


@pytest.mark.parametrize("module", NAMES)
def test_names(module):
    loaded = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(loaded, name)] == []


DEFAULTS = {
    "OUTPUT_DIR": "./output", "RESUME": "", "SEED": -1, "USE_CUDA": True, "VERBOSE": True,
    "INPUT.SIZE": (224, 224), "INPUT.INTERPOLATION": "bilinear", "INPUT.TRANSFORMS": (), "INPUT.NO_TRANSFORM": False,
    "INPUT.PIXEL_MEAN": [0.485, 0.456, 0.406], "INPUT.PIXEL_STD": [0.229, 0.224, 0.225],
    "INPUT.RRCROP_SCALE": (0.08, 1.0), "INPUT.CROP_PADDING": 4, "DATASET.NUM_SHOTS": -1, "DATASET.NUM_LABELED": -1,
    "DATASET.SOURCE_DOMAINS": (), "DATASET.VAL_PERCENT": 0.1, "DATALOADER.NUM_WORKERS": 4, "DATALOADER.K_TRANSFORMS": 1,
    "DATALOADER.TRAIN_X.SAMPLER": "RandomSampler", "DATALOADER.TRAIN_X.BATCH_SIZE": 32,
    "DATALOADER.TRAIN_X.N_INS": 16, "DATALOADER.TRAIN_U.SAME_AS_X": True,
    "DATALOADER.TEST.SAMPLER": "SequentialSampler", "DATALOADER.TEST.BATCH_SIZE": 32, "MODEL.INIT_WEIGHTS": "",
    "MODEL.BACKBONE.NAME": "", "MODEL.BACKBONE.PRETRAINED": True, "MODEL.HEAD.NAME": "", "OPTIM.NAME": "adam",
    "OPTIM.LR": 3e-4, "OPTIM.WEIGHT_DECAY": 5e-4, "OPTIM.MOMENTUM": 0.9, "OPTIM.SGD_DAMPNING": 0,
    "OPTIM.SGD_NESTEROV": False, "OPTIM.ADAM_BETA2": 0.999, "OPTIM.LR_SCHEDULER": "single_step",
    "OPTIM.STEPSIZE": (-1,), "OPTIM.GAMMA": 0.1, "OPTIM.MAX_EPOCH": 10, "OPTIM.WARMUP_EPOCH": -1,
    "OPTIM.WARMUP_TYPE": "linear", "OPTIM.WARMUP_CONS_LR": 1e-5, "OPTIM.WARMUP_MIN_LR": 1e-5,
    "OPTIM.WARMUP_RECOUNT": True, "TRAIN.CHECKPOINT_FREQ": 0, "TRAIN.PRINT_FREQ": 10, "TRAIN.COUNT_ITER": "train_x",
    "TEST.EVALUATOR": "Classification", "TEST.PER_CLASS_RESULT": False, "TEST.NO_TEST": False, "TEST.SPLIT": "test",
    "TEST.FINAL_MODEL": "last_step", "TRAINER.NAME": "",
}  # fmt: skip


def test_defaults():
    cfg = get_cfg_default()
    found = {}
    for key in DEFAULTS:
        node = cfg
        for part in key.split("."):
            node = node[part]
        found[key] = node
    assert found == DEFAULTS
    cfg.OPTIM.LR = 1.0
    assert get_cfg_default().OPTIM.LR == 3e-4  # each call returns a new copy


def test_clean_cfg():
    cfg = get_cfg_default()
    for name in ("COOP", "FDBPL"):
        cfg.TRAINER[name] = type(cfg)({"N_CTX": 4})
    clean_cfg(cfg, "CoOp")
    assert set(cfg.TRAINER) == {"NAME", "COOP"}


def test_set_random_seed():
    import random

    def numbers():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    set_random_seed(3)
    first = numbers()
    set_random_seed(3)
    assert numbers() == first != numbers()


def test_registry():
    registry = Registry("THING")

    @registry.register()
    class First:
        pass

    def second():
        pass

    registry.register(second)
    assert registry.get("First") is First and registry.get("second") is second
    assert registry.registered_names() == ["First", "second"]
    for call in (lambda: registry.register(second), lambda: registry.get("third")):
        with pytest.raises(KeyError):
            call()
    registry.register(second, force=True)


def test_files(tmp_path):
    write_json({"a": [1, 2]}, str(tmp_path / "new" / "a.json"))
    assert read_json(str(tmp_path / "new" / "a.json")) == json.loads('{"a": [1, 2]}')
    (tmp_path / ".hidden").touch()
    (tmp_path / "b").touch()
    assert listdir_nohidden(str(tmp_path), sort=True) == ["b", "new"]
    Image.new("L", (3, 2), 7).save(tmp_path / "grey.png")
    assert read_image(str(tmp_path / "grey.png")).getpixel((0, 0)) == (7, 7, 7)
    with pytest.raises(OSError):
        read_image(str(tmp_path / "none.png"))


def test_load_pretrained_weights(tmp_path):
    torch.manual_seed(0)
    source, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    weights = {"module.weight": source.weight.detach(), "bias": torch.zeros(5), "other": torch.zeros(1)}
    torch.save({"state_dict": weights}, tmp_path / "weights")
    bias = target.bias.detach().clone()
    load_pretrained_weights(target, str(tmp_path / "weights"))
    assert torch.equal(target.weight, source.weight) and torch.equal(target.bias, bias)
    assert count_num_param(target) == 8
    torch.save({"other": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.warns(UserWarning):
        load_pretrained_weights(target, str(tmp_path / "foreign"))


def test_collect_env_info():
    info = collect_env_info()
    assert re.search(rf"(?i)pytorch version: {re.escape(torch.__version__)}", info)
    assert re.search(r"(?i)pillow", info)


def test_logger(tmp_path, monkeypatch):
    from dassl.utils import Logger

    class Screen(list):
        def write(self, text):
            self.append(text)

        def flush(self):
            pass

        def close(self):
            pass

    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    logger = Logger(str(tmp_path / "deep" / "own.log"))
    logger.write("hello\n")
    logger.flush()
    assert "".join(screen) == (tmp_path / "deep" / "own.log").read_text() == "hello\n"
