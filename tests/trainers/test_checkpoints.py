"""What is loaded, what is refused, and that nothing is loaded in part."""

import pickle
from pathlib import Path

import pytest
import torch

from fdbpl.engine import checkpoint
from fdbpl.errors import UserError


@pytest.fixture
def trained(build):
    trainer = build("CoOp", "trained", **{"OPTIM.MAX_EPOCH": 2, "TRAIN.CHECKPOINT_FREQ": 1})
    trainer.train()
    return trainer


def folder(trainer) -> Path:
    return Path(trainer.output_dir, "prompt_learner")


def test_layout_is_dassl_s(trained):
    assert sorted(path.name for path in folder(trained).iterdir()) == [
        "checkpoint", "model.pth.tar-1", "model.pth.tar-2",
    ]  # fmt: skip
    assert (folder(trained) / "checkpoint").read_text() == "model.pth.tar-2\n"
    content = torch.load(folder(trained) / "model.pth.tar-2", weights_only=True)
    assert set(content) == {"state_dict", "epoch", "optimizer", "scheduler", "val_result", "epoch_means"}
    assert set(content["state_dict"]) == {"ctx", "token_prefix", "token_suffix"} and content["epoch"] == 2


def test_base_weights_serve_new_classes(build, trained):
    other = build("CoOp", "new", **{"DATASET.SUBSAMPLE_CLASSES": "new"})
    names = other.student.prompt_learner.token_suffix.clone()
    other.load_model(trained.output_dir, epoch=1)
    first = torch.load(folder(trained) / "model.pth.tar-1", weights_only=True)["state_dict"]["ctx"]
    assert torch.equal(other.student.prompt_learner.ctx, first)
    assert torch.equal(other.student.prompt_learner.token_suffix, names)
    other.load_model(trained.output_dir)  # without an epoch: the last
    assert torch.equal(other.student.prompt_learner.ctx, trained.student.prompt_learner.ctx)
    other.test()
    assert 0 <= other.results["accuracy"] <= 100


def test_weights_are_needed_for_a_test(build):
    with pytest.raises(UserError, match="--model-dir"):
        build("CoOp").load_model("")


def test_an_epoch_that_is_not_there_is_named_with_those_that_are(build, trained):
    with pytest.raises(UserError, match="epoch 7 .*epochs 1, 2"):
        build("CoOp").load_model(trained.output_dir, epoch=7)


def test_other_methods_and_other_shapes_are_refused(build, trained):
    with pytest.raises(UserError, match=r"ctx has shape \(4, 64\) .* \(7, 64\) here"):
        build("CoOp", **{"TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 7}).load_model(trained.output_dir)
    with pytest.raises(UserError, match="negative_prompt_learner"):
        build("FDBPL").load_model(trained.output_dir)
    path = folder(trained) / "model.pth.tar-2"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["meta_net.linear1.weight"] = torch.zeros(2)
    torch.save(content, path)
    before = trained.student.prompt_learner.ctx.clone()
    with pytest.raises(UserError, match="unexpected meta_net.linear1.weight"):
        trained.load_model(trained.output_dir, epoch=2)
    del content["state_dict"]["meta_net.linear1.weight"], content["state_dict"]["ctx"]
    torch.save(content, path)
    with pytest.raises(UserError, match="lacks ctx"):
        trained.load_model(trained.output_dir, epoch=2)
    assert torch.equal(trained.student.prompt_learner.ctx, before)


def test_class_specific_contexts_serve_their_classes_only(build):
    own = {"TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 2, "TRAINER.COOP.CSC": True, "OPTIM.MAX_EPOCH": 1}
    trainer = build("CoOp", "csc", **own)
    trainer.train()
    again = build("CoOp", "again", **own)
    again.load_model(trainer.output_dir)
    assert torch.equal(again.student.prompt_learner.ctx, trainer.student.prompt_learner.ctx)
    with pytest.raises(UserError, match="another class"):  # as many classes, but others
        build("CoOp", "new", **own, **{"DATASET.SUBSAMPLE_CLASSES": "new"}).load_model(trainer.output_dir)
    with pytest.raises(UserError, match="shape"):
        build("CoOp", "all", **own, **{"DATASET.SUBSAMPLE_CLASSES": "all"}).load_model(trainer.output_dir)


def test_both_spaces_of_fdbpl_are_saved_and_restored(build):
    trainer = build("FDBPL", "trained", **{"OPTIM.MAX_EPOCH": 2})
    trainer.train()
    other = build("FDBPL", "other", bank=False)
    other.load_model(trainer.output_dir, epoch=2)
    for name, module in trainer._models.items():
        assert torch.equal(module.ctx, other._models[name].ctx)
    assert not torch.equal(other._models["prompt_learner"].ctx, other._models["negative_prompt_learner"].ctx)


def test_an_official_checkpoint_with_a_live_scheduler_is_read(build, trained):
    """CoOp's files hold a pickled torch scheduler, 77 positions of tokens, and half precision."""
    from torch.optim.lr_scheduler import CosineAnnealingLR

    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    ctx = torch.randn(4, 64).half()
    content = {
        "state_dict": {"ctx": ctx, "token_prefix": torch.zeros(3, 1, 64), "token_suffix": torch.zeros(3, 72, 64)},
        "epoch": 2,
        "optimizer": optimiser.state_dict(),
        "scheduler": {"successor": CosineAnnealingLR(optimiser, 10), "last_epoch": 2},
        "val_result": None,
    }
    path = folder(trained) / "model.pth.tar-2"
    torch.save(content, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    trained.load_model(trained.output_dir, epoch=2)
    assert torch.equal(trained.student.prompt_learner.ctx, ctx.float())


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil-was-here"),))


def test_nothing_in_a_file_is_run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = folder(trained) / "model.pth.tar-2"
    torch.save({"state_dict": {"ctx": torch.zeros(4, 64)}, "scheduler": Evil()}, path)
    with pytest.raises(UserError, match="cannot be read safely"):
        trained.load_model(trained.output_dir, epoch=2)
    assert not (tmp_path / "evil-was-here").exists()


def test_a_file_that_is_no_checkpoint(tmp_path):
    (tmp_path / "model.pth.tar-1").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be read safely"):
        checkpoint.read(tmp_path / "model.pth.tar-1")
    torch.save([1, 2], tmp_path / "model.pth.tar-2")
    with pytest.raises(UserError, match="state_dict"):
        checkpoint.read(tmp_path / "model.pth.tar-2")
