"""Training, testing, stopping and going on, as a user of Dassl meets them."""

import re
from pathlib import Path

import pytest
import torch

from fdbpl.engine import checkpoint
from fdbpl.errors import UserError

from .methods import Stop, learnt, same, stop_in_epoch


def test_the_log_says_what_happens(build, capsys):
    trainer = build("CoOp")
    trainer.train()
    assert set(trainer.results) >= {"accuracy", "error_rate", "macro_f1"}
    assert set(trainer.seconds) >= {"prepare", "train", "test"}
    text = capsys.readouterr().out
    assert "Trainable: prompt_learner.ctx [4, 64]" in text
    assert "Finish training" in text and "Evaluate on the *test* set" in text
    assert re.search(r"epoch \[1/4\] batch \[1/2\] .* loss [\d.-]+ \([\d.-]+\) .*lr 1.0000e-05", text)


def test_random_crops_in_worker_processes_resume_too(build):
    settings = {"TRAIN.CHECKPOINT_FREQ": 1, "DATALOADER.NUM_WORKERS": 2, "OPTIM.MAX_EPOCH": 3}
    straight = build("CoOp", "straight", **settings)
    straight.train()
    broken = build("CoOp", "broken", **settings)
    stop_in_epoch(broken, 2)
    with pytest.raises(Stop):
        broken.train()
    resumed = build("CoOp", "broken", **settings)
    resumed.train()
    assert torch.equal(learnt(straight)["prompt_learner.ctx"], learnt(resumed)["prompt_learner.ctx"])


def test_seeds_decide_the_run(build):
    runs = [build("CoOp", f"run{number}", **{"SEED": seed, "TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 4})
            for number, seed in enumerate((1, 1, 2))]  # fmt: skip
    starts = [learnt(run)["prompt_learner.ctx"] for run in runs]
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    for run in runs:
        run.train()
    ends = [learnt(run)["prompt_learner.ctx"] for run in runs]
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_kill_between_two_modules_goes_back_to_their_last_common_epoch(build, damage):
    settings = {"TRAIN.CHECKPOINT_FREQ": 1}
    straight = build("FDBPL", "straight", **settings)
    straight.train()
    broken = build("FDBPL", "broken", **settings)
    stop_in_epoch(broken, 3)
    with pytest.raises(Stop):
        broken.train()
    last = f"{broken.output_dir}/negative_prompt_learner/model.pth.tar-3"
    content = Path(last).read_bytes()
    if damage == "missing":
        Path(last).unlink()
    else:
        Path(last).write_bytes(content[: len(content) // 2])
    resumed = build("FDBPL", "broken", **settings)
    assert resumed.resume_model_if_exist(resumed.output_dir) == 2
    resumed = build("FDBPL", "broken", **settings)
    resumed.train()
    for key, value in learnt(straight).items():
        assert torch.equal(value, learnt(resumed)[key])


def test_the_best_epoch_on_validation_survives_a_restart(build):
    settings = {"TEST.FINAL_MODEL": "best_val", "TRAIN.CHECKPOINT_FREQ": 1}
    straight = build("CoOp", "straight", **settings)
    straight.train()
    broken = build("CoOp", "broken", **settings)
    stop_in_epoch(broken, 3)
    with pytest.raises(Stop):
        broken.train()
    resumed = build("CoOp", "broken", **settings)
    resumed.train()
    assert resumed.best_result == straight.best_result
    assert torch.equal(learnt(straight)["prompt_learner.ctx"], learnt(resumed)["prompt_learner.ctx"])


@pytest.mark.parametrize("frequency", [0, 3])
def test_an_epoch_that_no_checkpoint_was_asked_of_is_not_trained_again(build, monkeypatch, frequency):
    """It is kept until the next one is; in the end there is what was asked for."""
    settings = {"OPTIM.MAX_EPOCH": 5, "TRAIN.CHECKPOINT_FREQ": frequency}
    straight = build("FDBPL", "straight", **settings)
    straight.train()
    monkeypatch.setattr("fdbpl.engine.trainer.SAVE_INTERVAL_S", 0)
    broken = build("FDBPL", "broken", **settings)
    stop_in_epoch(broken, 4)
    with pytest.raises(Stop):
        broken.train()
    folders = {name: Path(broken.output_dir, name) for name in broken._models}
    assert {name: checkpoint.epochs(folder) for name, folder in folders.items()} == dict.fromkeys(
        ("prompt_learner", "negative_prompt_learner"), [3, 4] if frequency else [4])  # fmt: skip
    resumed = build("FDBPL", "broken", **settings)
    assert resumed.resume_model_if_exist(resumed.output_dir) == 4
    resumed = build("FDBPL", "broken", **settings)
    resumed.train()
    for name, folder in folders.items():
        assert checkpoint.epochs(folder) == checkpoint.epochs(Path(straight.output_dir, name))
    for key, value in learnt(straight).items():
        assert torch.equal(value, learnt(resumed)[key])


VALIDATED = (10.0, 30.0, 20.0, 20.0)  # the second epoch is the best


def validating(trainer, results=VALIDATED):
    """The trainer, whose validation gives these results epoch by epoch; its tests are real ones."""
    test = trainer.test
    trainer.test = lambda split=None: results[trainer.epoch] if split == "val" else test(split)
    return trainer


def test_a_kill_between_the_best_of_two_modules_is_mended(build, monkeypatch):
    settings = {"TEST.FINAL_MODEL": "best_val", "TRAIN.CHECKPOINT_FREQ": 1}
    straight = validating(build("FDBPL", "straight", **settings))
    straight.train()
    broken = validating(build("FDBPL", "broken", **settings))
    write = checkpoint.write

    def dying(folder, file_name, content):
        if (file_name, content["epoch"], folder.name) == (checkpoint.BEST, 2, "negative_prompt_learner"):
            raise Stop
        return write(folder, file_name, content)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(checkpoint, "write", dying)
        broken.train()
    resumed = validating(build("FDBPL", "broken", **settings))
    resumed.train()
    assert resumed.best_result == straight.best_result == 30.0
    for name in ("prompt_learner", "negative_prompt_learner"):
        best = [checkpoint.read(Path(run.output_dir, name, checkpoint.BEST)) for run in (straight, resumed)]
        assert best[0]["epoch"] == 2 and same(*best)
    assert same(learnt(resumed), learnt(straight)) and resumed.results == straight.results


def test_the_best_epoch_comes_along_to_another_folder(build):
    settings = {"TEST.FINAL_MODEL": "best_val", "TRAIN.CHECKPOINT_FREQ": 1}
    straight = validating(build("CoOp", "straight", **settings))
    straight.train()
    broken = validating(build("CoOp", "broken", **settings))
    stop_in_epoch(broken, 3)
    with pytest.raises(Stop):
        broken.train()
    elsewhere = validating(build("CoOp", "elsewhere", **settings, RESUME=broken.output_dir))
    elsewhere.train()
    assert same(learnt(elsewhere), learnt(straight)) and elsewhere.results == straight.results


def test_learning_rates_are_dassl_s(build):
    trainer = build("CoOp")
    rates = []
    epoch = trainer.run_epoch
    trainer.run_epoch = lambda: (rates.append(trainer.get_current_lr()), epoch())
    trainer.train()
    cosine = [0.05 * (1 + torch.cos(torch.tensor(torch.pi * step / 4)).item()) / 2 for step in range(4)]
    assert rates == pytest.approx([1e-5, *cosine[:3]], rel=1e-5)  # the cosine starts behind the warm-up


def test_an_explicit_resume_folder_must_hold_something(build, tmp_path):
    trainer = build("CoOp", RESUME=str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="--resume"):
        trainer.train()


def test_resuming_needs_more_than_weights(build):
    """Runs of another optimiser or method, and files that hold weights alone, are refused; a test would take these."""
    short = {"OPTIM.MAX_EPOCH": 1, "TRAINER.IVLP.N_CTX_VISION": 4, "TRAINER.IVLP.N_CTX_TEXT": 4}
    coop, ivlp = build("CoOp", "coop", **short), build("IVLP", "ivlp", **short)
    for run in (coop, ivlp):
        run.train()
    with pytest.raises(UserError, match="model.pth.tar-1 holds the state of another optimiser"):
        build("CoOp", "adam", **{"OPTIM.NAME": "adam", "RESUME": coop.output_dir}).train()
    with pytest.raises(UserError, match="no average of the epochs so far, which PromptSRC needs"):
        build("PromptSRC", "src", RESUME=ivlp.output_dir).train()
    with pytest.raises(UserError, match="no checkpoints of prompt_learner, negative_prompt_learner"):
        build("FDBPL", "fdbpl", RESUME=coop.output_dir).train()
    path = Path(coop.output_dir, "prompt_learner", "model.pth.tar-1")
    torch.save({"state_dict": coop.student.prompt_learner.state_dict()}, path)
    with pytest.raises(UserError, match="no optimiser state"):
        build("CoOp", "weights", RESUME=coop.output_dir).train()
    build("CoOp", "test").load_model(coop.output_dir)


def test_gradients_are_clipped_over_all_learners_together(build):
    trainer = build("FDBPL", **{"OPTIM.CLIP_GRAD_NORM": 1e-3, "TRAINER.FDBPL.NEGATIVE_WEIGHT": 3.0})
    trainer.build_supervision()
    trainer.epoch, trainer.batch_idx = 0, 0
    trainer.forward_backward(next(iter(trainer.train_loader_x)))
    gradients = [module.ctx.grad for module in trainer._models.values()]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)
    assert all(gradient.norm() > 1e-5 for gradient in gradients)


def test_zero_shot_uses_the_data_set_s_template(build, capsys):
    from fdbpl.backbones import load_backbone

    trainer = build("ZeroshotCLIP")
    trainer.train()
    assert "no trainable parameters" in capsys.readouterr().out
    backbone = load_backbone(trainer.cfg.MODEL.BACKBONE.NAME)
    names = [name.replace("_", " ") for name in trainer.dm.dataset.classnames]
    texts = backbone.encode_text([f"a drawing of a {name}." for name in names])
    correct = total = 0
    for batch in trainer.test_loader:
        predicted = (backbone.encode_image(batch["img"]) @ texts.T).argmax(-1)
        correct, total = correct + int((predicted == batch["label"]).sum()), total + len(predicted)
    assert trainer.results["accuracy"] == pytest.approx(100 * correct / total)
    trainer.load_model("")  # nothing to load, nothing to miss


@pytest.mark.parametrize(
    "overrides, said",
    [
        ({"TRAINER.COOP.PREC": "fp16"}, r"PREC fp16 needs a GPU.*set TRAINER.COOP.PREC fp32"),
        ({"TRAINER.COOP.PREC": "fp8"}, "fp32, fp16, amp"),
        ({"TRAINER.COOP.CLASS_TOKEN_POSITION": "top"}, "end, middle, front"),
        ({"TRAINER.COOP.N_CTX": 0}, "N_CTX"),
        ({"OPTIM.CLIP_GRAD_NORM": -1.0}, "CLIP_GRAD_NORM"),
    ],
)
def test_settings_are_refused_before_anything_is_loaded(build, overrides, said):
    with pytest.raises(UserError, match=said):
        build("CoOp", bank=False, **{"DATASET.ROOT": "/nowhere", "MODEL.BACKBONE.NAME": "nothing", **overrides})


@pytest.mark.parametrize(
    "trainer, overrides, said",
    [
        ("FDBPL", {"TRAINER.FDBPL.TEST_LOGITS": "negative"}, "TEST_LOGITS"),
        ("FDBPL", {"TEACHER.TEMPLATE": "a photo"}, "TEACHER.TEMPLATE"),
        ("CoOp_KDPL", {"TEACHER.PREC": "fp16"}, "fp16"),
    ],
)
def test_settings_of_supervisions_are_refused_early_too(build, trainer, overrides, said):
    with pytest.raises(UserError, match=said):
        build(trainer, bank=False, **{"DATASET.ROOT": "/nowhere", **overrides})


def test_the_input_size_must_be_the_backbone_s(build):
    with pytest.raises(UserError, match=r"INPUT.SIZE \(32, 32\)"):
        build("CoOp", **{"INPUT.SIZE": (64, 64)})
