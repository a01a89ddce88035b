"""The example of a new method in CONTRIBUTING.md: one file and one YAML, trained under every supervision."""

from pathlib import Path

import pytest
import torch
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY, build_trainer

import datasets
from fdbpl.config import merge, read_yaml, split_per_dataset
from fdbpl.engine import registry
from fdbpl.engine.supervision.hard_labels import HardLabels
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.supervision.region_bank import RegionBankSupervision
from fdbpl.errors import UserError

from .methods import learned, logits
from .one_more_file import put_into_trainers

SUPERVISIONS = {"Adapter": HardLabels, "Adapter_KDPL": OnlineTeacher, "FDBPL_Adapter": RegionBankSupervision}


@pytest.fixture(scope="module", autouse=True)
def one_more_file():
    with put_into_trainers("new_method", "adapter"):
        yield


@pytest.mark.parametrize("name", SUPERVISIONS)
def test_training_under_every_supervision(name, build):
    settings = {"OPTIM.MAX_EPOCH": 2, "OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.LR": 0.01}
    trainer = build(name, **settings)
    assert trainer.supervision_class is SUPERVISIONS[name]
    assert type(trainer.student) is TRAINER_REGISTRY.get("Adapter").student_class
    start, terms = learned(trainer), []
    given = trainer.compute_losses
    trainer.compute_losses = lambda view: terms.append(given(view)) or terms[-1]
    trainer.train()
    after = learned(trainer)
    assert after.keys() >= {"prompt_learner.ctx", "adapter.weight", "adapter.bias"}
    assert ("negative_prompt_learner.ctx" in after) == (name == "FDBPL_Adapter")
    assert all(not torch.equal(value, start[key]) for key, value in after.items())
    assert all("decay" in row and len(row) > 1 for row in terms)  # its own loss and that of the supervision

    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    other = build(name, "other", **settings | {"SEED": 2})
    other.load_model(trainer.output_dir)
    assert torch.equal(logits(other, images), logits(trainer, images))


def test_looked_up_features_pass_through_the_trained_layer_after_the_tower(build):
    trainer = build("FDBPL_Adapter")
    trainer.build_supervision()
    view = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    assert view.images is None and view.labels is None
    adapted = view.image_features + trainer.student.adapter(view.image_features)
    expected = torch.nn.functional.normalize(adapted, dim=-1)
    torch.testing.assert_close(trainer.student.image_features(view), expected)


def test_settings_of_the_new_method_are_checked(make_cfg):
    short = make_cfg("FDBPL_Adapter", **{"TRAINER.ADAPTER.N_CTX": 0})
    with pytest.raises(UserError, match="TRAINER.ADAPTER.N_CTX is 0, but it must be at least 1"):
        build_trainer(short)
    with pytest.raises(UserError, match="TRAINER.ADAPTER.PREC is .fp8."):
        build_trainer(make_cfg("Adapter_KDPL", **{"TRAINER.ADAPTER.PREC": "fp8"}))


def test_the_yaml_has_known_keys(tmp_path):
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "_base_").symlink_to(root / "configs/_base_")
    file = tmp_path / "trainers/Adapter/demo.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes((root / "tests/trainers/new_method/demo.yaml").read_bytes())
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    registry.extend_cfg(cfg)
    merge(cfg, split_per_dataset(read_yaml(file))[0], str(file))
    assert cfg.MODEL.BACKBONE.NAME == "demo:rn-student" and cfg.OPTIM.MAX_EPOCH == 10
    assert cfg.TEACHER.NAME == "demo:teacher" and cfg.TRAINER.ADAPTER.PREC == "fp32"
