"""A supervision serves students that it has never seen; a new method is one file that is found by itself."""

import pytest
import torch
from dassl.engine import TRAINER_REGISTRY, build_trainer

from fdbpl.engine.supervision.hard_labels import HardLabels
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.supervision.region_bank import RegionBankSupervision
from fdbpl.errors import UserError

from .methods import learnt, logits
from .one_more_file import put_into_trainers

SUPERVISIONS = {"Adapter": HardLabels, "Adapter_KDPL": OnlineTeacher, "FDBPL_Adapter": RegionBankSupervision}


@pytest.fixture(scope="module", autouse=True)
def one_more_file():
    with put_into_trainers("new_method", "adapter"):
        yield


@pytest.mark.parametrize("name", SUPERVISIONS)
def test_it_trains_under_every_supervision(name, build):
    settings = {"OPTIM.MAX_EPOCH": 2, "OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.LR": 0.01}
    trainer = build(name, **settings)
    assert trainer.supervision_class is SUPERVISIONS[name]
    assert type(trainer.student) is TRAINER_REGISTRY.get("Adapter").student_class
    start, terms = learnt(trainer), []
    given = trainer.compute_losses
    trainer.compute_losses = lambda view: terms.append(given(view)) or terms[-1]
    trainer.train()
    after = learnt(trainer)
    assert after.keys() >= {"prompt_learner.ctx", "adapter.weight", "adapter.bias"}
    assert ("negative_prompt_learner.ctx" in after) == (name == "FDBPL_Adapter")
    assert all(not torch.equal(value, start[key]) for key, value in after.items())
    assert all("decay" in row and len(row) > 1 for row in terms)  # the method's own term beside the supervision's

    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    other = build(name, "other", **settings | {"SEED": 2})
    other.load_model(trainer.output_dir)
    assert torch.equal(logits(other, images), logits(trainer, images))


def test_looked_up_features_pass_through_what_is_learnt_behind_the_tower(build):
    trainer = build("FDBPL_Adapter")
    trainer.build_supervision()
    view = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    assert view.images is None and view.labels is None
    adapted = view.image_features + trainer.student.adapter(view.image_features)
    expected = torch.nn.functional.normalize(adapted, dim=-1)
    torch.testing.assert_close(trainer.student.image_features(view), expected)


def test_its_settings_are_checked_as_everybody_s(make_cfg):
    short = make_cfg("FDBPL_Adapter", **{"TRAINER.ADAPTER.N_CTX": 0})
    with pytest.raises(UserError, match="TRAINER.ADAPTER.N_CTX is 0, but it must be at least 1"):
        build_trainer(short)
    with pytest.raises(UserError, match="TRAINER.ADAPTER.PREC is .fp8."):
        build_trainer(make_cfg("Adapter_KDPL", **{"TRAINER.ADAPTER.PREC": "fp8"}))
