"""Trainers on a stand-in for CUDA: no mix of devices or dtypes in any precision, and one host wait per step.

Every trainer runs in fp16, with a float16 student and a float32 teacher. Variants of a student differ only in their
supervision, which has no precision setting, so the other precisions run with one trainer of each student.
"""

import pytest
import torch

from fdbpl.engine.feature_cache import find_cache

from ..trainers.methods import cfg_key_of, learned, one_of_each_student, trained

SETTINGS = {
    "USE_CUDA": True,
    "MODEL.BACKBONE.NAME": "random:tiny",  # built once per process
    "TEACHER.NAME": "random:tiny teacher",
    "TRAINER.PROMPTKD.KD_WEIGHT": 1.0,  # an overflow would cost another wait
}
CASES = [(name, "fp16") for name in trained()]
CASES += [(name, precision) for name in one_of_each_student() for precision in ("fp32", "amp", "bf16")]


@pytest.mark.parametrize("name, precision", CASES)
def test_a_step_and_an_evaluation(name, precision, build_shared, cuda, monkeypatch):
    monkeypatch.setattr("trainers.promptsrc.IMAGENET_TEMPLATES", ("a photo of a {}.", "itap of the {}."))
    settings = SETTINGS | {"TEST.FEATURE_CACHE_DIR": "", f"TRAINER.{cfg_key_of(name)}.PREC": precision}
    trainer = build_shared(name, f"{precision}/{name}", **settings)
    trainer.before_train()
    trainer.epoch = trainer.batch_idx = 0
    trainer.before_epoch()
    trainer.set_model_mode("train")
    batch = next(iter(trainer.train_loader_x))
    cuda.waits.clear()
    trainer.forward_backward(batch)
    assert cuda.waits.total() == 1, cuda.waits
    trainer.test()
    assert cuda.problems == []
    assert all(value.is_cuda and value.dtype == torch.float32 for value in learned(trainer).values())


def test_feature_caches_are_specific_to_a_gpu_model(build_shared, cuda, monkeypatch):
    trainer = build_shared("ZeroshotCLIP", "cache", **SETTINGS)
    files = set()
    for gpu in ("NVIDIA H200", "NVIDIA A100", "NVIDIA H200"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_, gpu=gpu: gpu)
        files.add(find_cache(trainer.cfg, trainer.student, trainer.test_loader).file)
    assert len(files) == 2
