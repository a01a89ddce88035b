"""MODEL.TEXT_CHUNK does not change gradients, for each student and for the two prompt sets of FDBPL."""

import pytest
import torch
from dassl.engine import TRAINER_REGISTRY

from .methods import first_batch, one_of_each_student, trained

NAMES = [name for name in trained() if (name in one_of_each_student() or name.startswith("FDBPL"))
         and TRAINER_REGISTRY.get(name).student_class.learns_text]  # fmt: skip


def gradients(trainer) -> dict[str, torch.Tensor]:
    """Return the gradients of the first batch."""
    batch = first_batch(trainer)
    trainer.set_model_mode("train")
    trainer.compute_gradients(trainer.compute_losses(batch))
    return {f"{name}.{key}": value.grad for name, module in trainer._models.items()
            for key, value in module.named_parameters() if value.grad is not None}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_those_without_chunks(name, build_shared, monkeypatch):
    monkeypatch.setattr("trainers.promptsrc.IMAGENET_TEMPLATES", ("a photo of a {}.", "itap of the {}."))
    deterministic = {"INPUT.TRANSFORMS": ("normalize",), "DATALOADER.TRAIN_X.SAMPLER": "SequentialSampler"}
    whole = gradients(build_shared(name, f"whole/{name}", **deterministic))
    parts = gradients(build_shared(name, f"parts/{name}", **deterministic, **{"MODEL.TEXT_CHUNK": 2}))
    assert parts.keys() == whole.keys() and any(value.abs().max() > 0 for value in whole.values())
    for key, value in whole.items():
        assert (parts[key] - value).norm() <= 2e-5 * value.norm(), key  # float32 with a logit scale of 100
