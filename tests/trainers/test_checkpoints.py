"""Loading of checkpoints: other classes, other methods, class-specific contexts, official files.

tests/bad_input/files/test_checkpoints.py has damaged files, tests/hostile has unsafe ones.
"""

import pickle
from pathlib import Path

import pytest
import torch

from fdbpl.errors import UserError


@pytest.fixture(scope="module")
def trained(build_shared):
    """CoOp on the base classes: two epochs, each with a checkpoint."""
    trainer = build_shared("CoOp", "trained", **{"OPTIM.MAX_EPOCH": 2, "TRAIN.CHECKPOINT_FREQ": 1})
    trainer.train()
    return trainer


def file_of(trainer, epoch: int) -> Path:
    return Path(trainer.output_dir, "prompt_learner", f"model.pth.tar-{epoch}")


def write_file(folder: Path, content: object) -> str:
    """Write a checkpoint of one epoch into a run folder."""
    path = folder / "prompt_learner" / "model.pth.tar-2"
    path.parent.mkdir()
    torch.save(content, path)
    return str(folder)


def test_layout_of_dassl(trained):
    folder = file_of(trained, 1).parent
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint", "model.pth.tar-1", "model.pth.tar-2"]
    assert (folder / "checkpoint").read_text() == "model.pth.tar-2\n"
    content = torch.load(folder / "model.pth.tar-2", weights_only=True)
    assert set(content) == {"state_dict", "epoch", "optimizer", "scheduler", "val_result", "epoch_means"}
    assert set(content["state_dict"]) == {"ctx", "token_prefix", "token_suffix"} and content["epoch"] == 2


def test_weights_of_base_classes_with_new_classes(build_shared, trained):
    other = build_shared("CoOp", "new", **{"DATASET.SUBSAMPLE_CLASSES": "new"})
    names = other.student.prompt_learner.token_suffix.clone()
    other.load_model(trained.output_dir, epoch=1)
    first = torch.load(file_of(trained, 1), weights_only=True)["state_dict"]["ctx"]
    assert torch.equal(other.student.prompt_learner.ctx, first)
    assert torch.equal(other.student.prompt_learner.token_suffix, names)
    other.load_model(trained.output_dir)  # without an epoch: the last
    assert torch.equal(other.student.prompt_learner.ctx, trained.student.prompt_learner.ctx)
    other.test()
    assert 0 <= other.results["accuracy"] <= 100


@pytest.mark.parametrize(
    ("name", "settings", "folder", "epoch", "message"),
    [
        ("CoOp", {}, "", None, "--model-dir"),
        ("CoOp", {}, None, 7, "epoch 7 .*epochs 1, 2"),
        ("CoOp", {"TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 7}, None, None,
         r"ctx has shape \(4, 64\) .* \(7, 64\) here"),
        ("FDBPL", {}, None, None, "no checkpoint in .*negative_prompt_learner"),
    ],
)  # fmt: skip
def test_weights_of_other_models_are_refused(build_shared, trained, name, settings, folder, epoch, message):
    trainer = build_shared(name, "other", bank=False, **settings)
    with pytest.raises(UserError, match=message):
        trainer.load_model(trained.output_dir if folder is None else folder, epoch=epoch)


def test_class_specific_contexts_are_limited_to_their_classes(build_shared):
    csc = {"TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 2, "TRAINER.COOP.CSC": True, "OPTIM.MAX_EPOCH": 1}
    trainer = build_shared("CoOp", "csc", **csc)
    trainer.train()
    again = build_shared("CoOp", "again", **csc)
    again.load_model(trainer.output_dir)
    assert torch.equal(again.student.prompt_learner.ctx, trainer.student.prompt_learner.ctx)
    for classes, message in (("new", "another class list"), ("all", "shape")):  # as many classes, and more
        with pytest.raises(UserError, match=message):
            build_shared("CoOp", classes, **csc, **{"DATASET.SUBSAMPLE_CLASSES": classes}).load_model(
                trainer.output_dir
            )


def test_an_official_checkpoint_with_a_pickled_scheduler_is_read(build_shared, tmp_path):
    """CoOp's files contain a pickled torch scheduler, 77 positions of tokens, and half precision."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    ctx = torch.randn(4, 64).half()
    folder = write_file(tmp_path, {
        "state_dict": {"ctx": ctx, "token_prefix": torch.zeros(3, 1, 64), "token_suffix": torch.zeros(3, 72, 64)},
        "epoch": 2,
        "optimizer": optimizer.state_dict(),
        "scheduler": {"successor": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10), "last_epoch": 2},
        "val_result": None,
    })  # fmt: skip
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "prompt_learner/model.pth.tar-2", weights_only=True)
    trainer = build_shared("CoOp", "official")
    trainer.load_model(folder, epoch=2)
    assert torch.equal(trainer.student.prompt_learner.ctx, ctx.float())
