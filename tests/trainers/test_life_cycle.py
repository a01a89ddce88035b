"""Training, testing, stopping and resuming through Dassl's interface."""

import re
from pathlib import Path

import pytest
import torch

from fdbpl.engine import checkpoint
from fdbpl.errors import UserError

from .methods import Stop, first_batch, learned, same, stopped_in_epoch

EACH_EPOCH = {"TRAIN.CHECKPOINT_FREQ": 1}
MODULES = ("prompt_learner", "negative_prompt_learner")


def test_log_and_results(build, capsys):
    trainer = build("CoOp")
    trainer.train()
    assert set(trainer.results) >= {"accuracy", "error_rate", "macro_f1"}
    assert set(trainer.seconds) >= {"prepare", "train", "test"}
    text = capsys.readouterr().out
    assert "Trainable: prompt_learner.ctx [4, 64]" in text
    assert "Finish training" in text and "Evaluate on the *test* set" in text
    assert re.search(r"epoch \[1/4\] batch \[1/2\] .* loss [\d.-]+ \([\d.-]+\) .*lr 1.0000e-05", text)


def test_learning_rates_equal_those_of_dassl(build):
    trainer = build("CoOp")
    rates, epoch = [], trainer.run_epoch
    trainer.run_epoch = lambda: (rates.append(trainer.get_current_lr()), epoch())
    trainer.train()
    cosine = [0.05 * (1 + torch.cos(torch.tensor(torch.pi * step / 4)).item()) / 2 for step in range(4)]
    assert rates == pytest.approx([1e-5, *cosine[:3]], rel=1e-5)  # the cosine starts after the warm-up


def test_gradients_of_all_modules_are_clipped_together(build):
    trainer = build("FDBPL", **{"OPTIM.CLIP_GRAD_NORM": 1e-3, "TRAINER.FDBPL.NEGATIVE_WEIGHT": 3.0})
    trainer.build_supervision()
    trainer.epoch, trainer.batch_idx = 0, 0
    trainer.forward_backward(next(iter(trainer.train_loader_x)))
    norms = torch.stack([module.ctx.grad.norm() for module in trainer._models.values()])
    assert norms.norm().item() == pytest.approx(1e-3, rel=1e-3) and (norms > 1e-5).all()


def test_zero_shot_uses_the_template_of_the_data_set(build, capsys):
    from fdbpl.backbones import load_backbone

    trainer = build("ZeroshotCLIP")
    trainer.train()
    assert "no trainable parameters" in capsys.readouterr().out
    backbone = load_backbone(trainer.cfg.MODEL.BACKBONE.NAME)
    names = [name.replace("_", " ") for name in trainer.dm.dataset.classnames]
    texts = backbone.encode_text([f"a drawing of a {name}." for name in names])
    correct = [(backbone.encode_image(batch["img"]) @ texts.T).argmax(-1) == batch["label"]
               for batch in trainer.test_loader]  # fmt: skip
    assert trainer.results["accuracy"] == pytest.approx(100 * torch.cat(correct).float().mean().item())
    trainer.load_model("")  # it has no weights


# Stopping and resuming ------------------------------------------------------------------------------------------------


def test_random_crops_of_worker_processes_resume_exactly(build):
    settings = EACH_EPOCH | {"DATALOADER.NUM_WORKERS": 1, "OPTIM.MAX_EPOCH": 2}
    uninterrupted = build("CoOp", "uninterrupted", **settings)
    uninterrupted.train()
    stopped_in_epoch(build("CoOp", "broken", **settings), 1)
    resumed = build("CoOp", "broken", **settings)
    resumed.train()
    assert same(learned(uninterrupted), learned(resumed))


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_kill_between_two_modules_resumes_from_their_last_common_epoch(build_shared, damage):
    uninterrupted = build_shared("FDBPL", f"{damage}/uninterrupted", **EACH_EPOCH)
    uninterrupted.train()
    broken = stopped_in_epoch(build_shared("FDBPL", f"{damage}/broken", **EACH_EPOCH), 3)
    last = Path(broken.output_dir, "negative_prompt_learner/model.pth.tar-3")
    content = last.read_bytes()
    last.unlink()
    if damage == "truncated":
        last.write_bytes(content[: len(content) // 2])
    resumed = build_shared("FDBPL", f"{damage}/broken", **EACH_EPOCH)
    resumed.train()
    assert resumed.start_epoch == 2 and same(learned(uninterrupted), learned(resumed))


@pytest.mark.parametrize("frequency", [0, 3])
def test_the_last_finished_epoch_is_kept_until_the_next_checkpoint(build_shared, monkeypatch, frequency):
    """Resuming repeats no finished epoch; at the end there are only the checkpoints of TRAIN.CHECKPOINT_FREQ."""
    settings = {"OPTIM.MAX_EPOCH": 5, "TRAIN.CHECKPOINT_FREQ": frequency}
    uninterrupted = build_shared("FDBPL", f"every{frequency}/uninterrupted", **settings)
    uninterrupted.train()
    monkeypatch.setattr("fdbpl.engine.trainer.SAVE_INTERVAL_S", 0)
    broken = stopped_in_epoch(build_shared("FDBPL", f"every{frequency}/broken", **settings), 4)
    folders = {name: Path(broken.output_dir, name) for name in MODULES}
    assert all(checkpoint.epochs(folder) == ([3, 4] if frequency else [4]) for folder in folders.values())
    resumed = build_shared("FDBPL", f"every{frequency}/broken", **settings)
    resumed.train()
    assert resumed.start_epoch == 4 and same(learned(uninterrupted), learned(resumed))
    for name, folder in folders.items():
        assert checkpoint.epochs(folder) == checkpoint.epochs(Path(uninterrupted.output_dir, name))


BEST = EACH_EPOCH | {"TEST.FINAL_MODEL": "best_val"}


def validated(trainer):
    """Return a trainer whose second epoch is the best on the validation images."""
    test, results = trainer.test, (10.0, 30.0, 20.0, 20.0)
    trainer.test = lambda split=None: results[trainer.epoch] if split == "val" else test(split)
    return trainer


@pytest.mark.parametrize("output", ["broken", "elsewhere"])
def test_the_best_epoch_survives_a_restart(build, output):
    """Resume in the same folder, and in another one with --resume."""
    uninterrupted = validated(build("CoOp", "uninterrupted", **BEST))
    uninterrupted.train()
    broken = stopped_in_epoch(validated(build("CoOp", "broken", **BEST)), 3)
    resumed = validated(build("CoOp", output, **BEST, RESUME=broken.output_dir))
    resumed.train()
    assert resumed.best_result == uninterrupted.best_result == 30.0
    assert same(learned(resumed), learned(uninterrupted)) and resumed.results == uninterrupted.results


def test_a_kill_between_the_best_models_of_two_modules(build_shared, monkeypatch):
    uninterrupted = validated(build_shared("FDBPL", "best/uninterrupted", **BEST))
    uninterrupted.train()
    broken = validated(build_shared("FDBPL", "best/broken", **BEST))
    write = checkpoint.write

    def killed(folder, file_name, content):
        if (file_name, content["epoch"], folder.name) == (checkpoint.BEST, 2, "negative_prompt_learner"):
            raise Stop
        return write(folder, file_name, content)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(checkpoint, "write", killed)
        broken.train()
    resumed = validated(build_shared("FDBPL", "best/broken", **BEST))
    resumed.train()
    assert resumed.best_result == uninterrupted.best_result == 30.0
    for name in MODULES:
        best = [checkpoint.read(Path(run.output_dir, name, checkpoint.BEST)) for run in (uninterrupted, resumed)]
        assert best[0]["epoch"] == 2 and same(*best)
    assert same(learned(resumed), learned(uninterrupted)) and resumed.results == uninterrupted.results


def test_resuming_needs_the_checkpoints_of_the_same_method(build_shared, tmp_path):
    short = {"OPTIM.MAX_EPOCH": 1, "TRAINER.IVLP.N_CTX_VISION": 4, "TRAINER.IVLP.N_CTX_TEXT": 4}
    coop, ivlp = build_shared("CoOp", "short/coop", **short), build_shared("IVLP", "short/ivlp", **short)
    for run in (coop, ivlp):
        run.train()
    for name, folder, message in (
        ("CoOp", tmp_path / "nothing", "--resume .* has no checkpoints"),
        ("PromptSRC", ivlp.output_dir, "no average of the epochs so far, which PromptSRC needs"),
        ("FDBPL", coop.output_dir, "no checkpoints of prompt_learner, negative_prompt_learner"),
    ):
        with pytest.raises(UserError, match=message):
            build_shared(name, f"short/{name}", RESUME=str(folder)).train()


def test_the_input_size_must_match_the_backbone(build):
    with pytest.raises(UserError, match=r"INPUT.SIZE \(32, 32\)"):
        build("CoOp", **{"INPUT.SIZE": (64, 64)})


def test_labels_are_read_only_by_supervisions_that_use_them(build):
    assert first_batch(build("CoOp")).labels is not None
    assert first_batch(build("FDBPL", "bank")).labels is None
