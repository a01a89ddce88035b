"""The example of a new supervision in CONTRIBUTING.md: tests/trainers/new_supervision/smoothed.py."""

import pytest
import torch
from dassl.engine import TRAINER_REGISTRY, build_trainer

from fdbpl.errors import UserError

from .methods import learned
from .one_more_file import put_into_trainers


@pytest.fixture(scope="module", autouse=True)
def one_more_file():
    with put_into_trainers("new_supervision", "smoothed"):
        yield


@pytest.mark.parametrize("method", ["CoOp", "MaPLe"])
def test_training_of_existing_methods(method, build):
    trainer = build(f"{method}_Smoothed", **{"OPTIM.MAX_EPOCH": 1})
    assert type(trainer.student) is TRAINER_REGISTRY.get(method).student_class
    start = learned(trainer)
    trainer.train()
    assert any(not torch.equal(value, start[key]) for key, value in learned(trainer).items())


def test_the_loss_is_the_cross_entropy_with_the_smoothed_distribution(build):
    """Compare with the definition: minus the sum of q ln p, q = (1 - s) at the label plus s / C everywhere."""
    trainer = build("CoOp_Smoothed", **{"TRAINER.SMOOTHED.SHARE": 0.3})
    trainer.build_supervision()
    view = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    outputs = trainer.student.outputs(view)
    classes = outputs.logits.shape[1]
    q = torch.full_like(outputs.logits, 0.3 / classes)
    q[torch.arange(len(q)), view.labels] += 0.7
    expected = -(q * outputs.logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(trainer.supervision.losses(outputs, view)["cross_entropy"], expected)


def test_invalid_shares(make_cfg):
    with pytest.raises(UserError, match=r"TRAINER.SMOOTHED.SHARE is 1.0, but it must be from 0.0"):
        build_trainer(make_cfg("CoOp_Smoothed", **{"TRAINER.SMOOTHED.SHARE": 1.0}))
