"""MODEL.TEXT_CHUNK changes no gradient of any method."""

import pytest
import torch
from dassl.engine import TRAINER_REGISTRY, build_trainer

from fdbpl.errors import UserError

from .methods import trained


def learns_text(name: str) -> bool:
    return TRAINER_REGISTRY.get(name).student_class.learns_text


def gradients(trainer) -> dict[str, torch.Tensor]:
    """Of the first batch's loss."""
    trainer.before_train()
    trainer.set_model_mode("train")
    trainer.before_epoch()
    batch = next(iter(trainer.train_loader_x))
    trainer.compute_gradients(trainer.compute_losses(trainer.parse_batch_train(batch)))
    return {f"{name}.{key}": value.grad for name, module in trainer._models.items()
            for key, value in module.named_parameters() if value.grad is not None}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in trained() if learns_text(name)])
def test_every_method_has_the_gradients_it_has_without(build_shared, name):
    whole = gradients(build_shared(name, f"whole/{name}"))
    parts = gradients(build_shared(name, f"parts/{name}", **{"MODEL.TEXT_CHUNK": 2}))
    assert parts.keys() == whole.keys() and any(value.abs().max() > 0 for value in whole.values())
    for key, value in whole.items():
        assert (parts[key] - value).norm() <= 2e-5 * value.norm(), key  # float32 behind a logit scale of 100


def test_a_chunk_is_no_negative_number(make_cfg):
    with pytest.raises(UserError, match="MODEL.TEXT_CHUNK is -1, but it must be at least 0"):
        build_trainer(make_cfg("CoOp", **{"MODEL.TEXT_CHUNK": -1}))
