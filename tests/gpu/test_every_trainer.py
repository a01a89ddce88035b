"""Every trainer in every precision, on a stand-in for CUDA: no device or dtype mix, one host wait a step."""

import pytest
import torch

from ..trainers.methods import learnt, node_of, trained

PRECISIONS = ("fp32", "fp16", "amp", "bf16")
SETTINGS = {
    "USE_CUDA": True,
    "FEATURES.ROOT": "",
    "MODEL.BACKBONE.NAME": "random:tiny",  # a process builds them once
    "TEACHER.NAME": "random:tiny teacher",
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", trained())
def test_training_and_testing(name, precision, build_shared, cuda, monkeypatch):
    monkeypatch.setattr("trainers.promptsrc.IMAGENET_TEMPLATES", ("a photo of a {}.", "itap of the {}."))
    trainer = build_shared(name, f"{precision}/{name}", **SETTINGS, **{f"TRAINER.{node_of(name)}.PREC": precision})
    trainer.before_train()
    trainer.epoch = 0
    trainer.before_epoch()
    trainer.set_model_mode("train")
    waits = []
    for number, batch in enumerate(trainer.train_loader_x):
        trainer.batch_idx = number
        cuda.waits.clear()
        trainer.forward_backward(batch)
        waits.append(dict(cuda.waits))
    assert [sum(of_step.values()) for of_step in waits] == [1, 1], waits
    trainer.test()
    assert cuda.problems == []
    assert all(value.is_cuda and value.dtype == torch.float32 for value in learnt(trainer).values())
