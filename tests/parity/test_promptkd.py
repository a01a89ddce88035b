"""PromptKD compared with its official code. The teacher is a run of ours with the official teacher's prompts."""

import pytest
import torch

from fdbpl.engine import checkpoint
from fdbpl.io.atomic import write_json, write_text

from .official import settings_of

LOOSE = 5e-4  # the projector's batch norm over four samples amplifies rounding


@pytest.fixture
def teacher_run(compare, pack, tmp_path) -> str:
    """A finished run of PromptSRC on the teacher's CLIP with the parameters of the pack."""
    given = {key.removeprefix("teacher/params/"): value for key, value in compare.arrays.items()
             if key.startswith("teacher/params/")}  # fmt: skip
    depth = max(int(key.split("resblocks.")[1].split(".")[0]) for key in given if "resblocks" in key) + 1
    node = "TRAINER.PROMPTSRC."
    overrides = {f"{node}{key}": value for key, value in {
        "N_CTX_VISION": len(given["image_encoder.VPT"]), "N_CTX_TEXT": len(given["prompt_learner.ctx"]),
        "PROMPT_DEPTH_VISION": depth, "PROMPT_DEPTH_TEXT": depth, "PREC": "fp32",
    }.items()}  # fmt: skip
    run = compare.build("PromptSRC", compare.settings["classes"], overrides, clip="teacher_clip")
    learner = run.student.trainable_modules()["VLPromptLearner"]
    assert dict(learner.named_parameters()).keys() == given.keys()
    learner.load_state_dict({**learner.state_dict(), **given})
    folder = tmp_path / "teacher"
    checkpoint.write(folder / "VLPromptLearner", "model.pth.tar-20", {"state_dict": learner.state_dict(), "epoch": 20})
    write_text(folder / "config.yaml", run.cfg.dump())
    write_json(folder / "done.json", {})
    return f"run:{folder}"


@pytest.mark.methods("promptkd")
def test_promptkd(method, compare, teacher_run):
    arrays = compare.arrays
    overrides = settings_of(compare.settings, "PROMPTKD", "PROMPTKD") | {"TEACHER.NAME": teacher_run}
    compare.of("PromptKD", overrides)
    trainer = compare.trainer
    trainer.build_supervision()
    view = trainer.parse_batch_train(compare.batch)
    compare.agree("features", trainer.student.class_features, arrays["teacher/text_features"], f"{method} teacher")
    compare.agree("logits", view.teacher_logits, arrays["teacher/logits"], f"{method} teacher")
    compare.features(view)
    kl = trainer.compute_losses(view)["kl"] / compare.settings["config"]["TRAINER.PROMPTKD"]["KD_WEIGHT"]
    compare.agree("losses", kl, arrays["loss/kl"].reshape(()), f"{method} kl")
    compare.losses(view, {"total": "total"})
    trainer.student.learner.VPT_image_trans.conv1[1].reset_running_stats()  # the forward passes above moved them
    if method == "promptkd_base2novel":  # evaluates the second half of the training classes
        compare_half(compare, trainer)
    else:
        compare.training(gradients=LOOSE, logits=5e-5)
    norm = trainer.student.learner.VPT_image_trans.conv1[1]
    for name in ("running_mean", "running_var"):
        theirs = arrays[f"bn_step3/VPT_image_trans.conv1.1.{name}"]
        compare.agree("batch norm", getattr(norm, name), theirs, f"{method} {name}")


def compare_half(compare, trainer) -> None:
    classes, images = compare.settings["classes"], compare.pack.inputs["eval_images"]
    half = -(-len(classes) // 2)
    for step in compare.steps():
        for name, parameter in compare.parameters().items():
            if f"step{step}/{name}" in compare.arrays:
                where = f"{compare.method} {name} step {step}"
                compare.agree("parameters", parameter, compare.arrays[f"step{step}/{name}"], where)
    for some, key in ((classes[:half], "val_logits_first_half"), (classes[half:], "test_logits_second_half")):
        other = compare.reloaded(some)
        with torch.no_grad():
            other.set_model_mode("eval")
            logits = other.predictor()(images)
        compare.agree("logits", logits, compare.arrays[f"eval/{key}"], f"{compare.method} {key}", 5e-5)
