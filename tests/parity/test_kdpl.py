"""KDPL's online teacher with every student of its repository, and its class-agnostic variant."""

import pytest

from .official import settings_of

STUDENTS = {"coop": ("CoOp", "COOP"), "cocoop": ("CoCoOp", "COCOOP"), "vpt": ("VPT", "VPT"),
            "maple": ("MaPLe", "MAPLE"), "promptsrc": ("PromptSRC", "PROMPTSRC")}  # fmt: skip


def overrides_of(compare, node: str) -> dict:
    return settings_of(compare.settings, node, node) | {"TEACHER.NAME": compare.pack.clip_file("teacher_clip")}


@pytest.mark.methods("kdpl")
def test_online_teacher(method, compare):
    if method == "kdpl_coop_ca":
        pytest.skip("see test_class_agnostic")
    name, node = STUDENTS[method.split("_")[1]]
    compare.of(f"{name}_KDPL", overrides_of(compare, node))
    trainer, arrays = compare.trainer, compare.arrays
    trainer.build_supervision()
    view = trainer.parse_batch_train(compare.batch)
    compare.agree("logits", view.teacher_logits, arrays["teacher/logits"], f"{method} teacher")
    compare.features(view)
    terms = trainer.compute_losses(view)
    weights = trainer.cfg.TRAINER.KDPL
    compare.agree("losses", terms["kl_forward"] / weights.ALPHA, arrays["loss/kl_forward_batchmean"], method)
    compare.agree("losses", terms["kl_reverse"] / weights.BETA, arrays["loss/kl_reverse_batchmean"], method)
    compare.losses(view, {"total": "total"})
    if name == "PromptSRC":
        compare.losses(view, {"scl_text": "scl_text_weighted", "scl_image": "scl_image_weighted",
                              "scl_logits": "scl_logits_kl"})  # fmt: skip
    compare.training()


@pytest.mark.methods("kdpl_coop_ca")
def test_class_agnostic(method, compare, tmp_path):
    """Use the most likely words of a vocabulary file in the batch; evaluate on the classes.

    The templates of the teacher and of the data set differ.
    """
    words = tmp_path / "words.csv"
    words.write_text("ClassName\n" + "".join(f"{word}\n" for word in compare.settings["vocabulary"]))
    node = compare.settings["config"]["TRAINER.KDPL"]
    compare.of("CoOp_KDPL", overrides_of(compare, "COOP") | {
        "TRAINER.KDPL.CLASS_AGNOSTIC": True, "TRAINER.KDPL.K_MAX": node["K_MAX"], "TRAINER.KDPL.VOCABULARY": str(words),
    }, template=compare.pack.settings("zeroshot")["template"])  # fmt: skip
    trainer, arrays = compare.trainer, compare.arrays
    trainer.build_supervision()
    view = trainer.parse_batch_train(compare.batch)
    compare.agree("logits", view.teacher_logits, arrays["teacher/logits"], f"{method} teacher")
    kept = trainer.supervision.classes(view)
    assert set(kept.tolist()) == set(arrays["fwd/class_indices"].tolist())
    order = [kept.tolist().index(word) for word in arrays["fwd/class_indices"].tolist()]
    outputs = trainer.train_student.outputs(view, kept)
    compare.agree("features", outputs.text_features[order], arrays["fwd/text_features"], method)
    compare.agree("logits", outputs.logits[:, order], arrays["fwd/logits"], method)
    compare.losses(view, {"total": "total"})
    images = compare.pack.inputs["eval_images"]
    for step in compare.steps():
        context = trainer.student.prompt_learner.ctx
        if step == 1:
            compare.agree("gradients", context.grad, arrays["grad/prompt_learner.ctx"], method)
        if f"step{step}/prompt_learner.ctx" in arrays:
            compare.agree("parameters", context, arrays[f"step{step}/prompt_learner.ctx"], f"{method} step {step}")
    for half, classes in (("base", "classes"), ("new", "new_classes")):
        compare.evaluate(compare.reloaded(compare.settings[classes]), images, f"eval/{half}_classes_logits")
