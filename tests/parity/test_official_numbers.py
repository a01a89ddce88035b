"""Our trainers against numbers that the official code gave: features, losses, gradients, steps, new classes."""

import pytest
import torch
import torch.nn.functional as F

from fdbpl.losses import coupling, entropy_weight, kl_forward, kl_reverse, negative_loss
from fdbpl.prompts import PromptLearner, Prompts, encode_prompts
from trainers.supervision.view import View

OFFICIAL = {"prompt_learner": "prompt_learner", "negative_prompt_learner": "prompt_learner_generic"}


@pytest.fixture
def case(request, pack, method):
    """Arrays, settings and batch of one method of the pack."""
    arrays = pack.arrays(method)
    settings = pack.settings(method)
    return arrays, settings, pack.batch(settings.get("batch_size", len(pack.inputs["images"])))


def coop_settings(settings: dict, node: str) -> dict:
    official = settings["config"]["TRAINER.COOP"]
    keys = ("N_CTX", "CSC", "CTX_INIT", "CLASS_TOKEN_POSITION")
    return {f"TRAINER.{node}.{key}": official[key] for key in keys} | {f"TRAINER.{node}.PREC": "fp32"}


def load_start(trainer, arrays: dict, agree, method: str) -> None:
    """Start where the official run started; words must give that start by themselves."""
    for name, module in trainer._models.items():
        start = arrays[f"init/{OFFICIAL[name]}.ctx"]
        if trainer.settings(trainer.cfg).CTX_INIT or name.startswith("negative"):
            agree("init", module.ctx, start, method)
        assert module.ctx.shape == start.shape
        module.ctx.data.copy_(start)


def compare_training(trainer, arrays, batch, agree, pack, method) -> None:
    """Gradients, parameters after 1 and 3 steps, evaluation before and after."""
    images = pack.inputs["eval_images"]
    with torch.no_grad():
        agree("logits", trainer.predictor()(images), arrays["eval/base_logits_init"], f"{method} eval init")
    for step in (1, 2, 3):
        trainer.epoch, trainer.batch_idx = 0, step - 1
        trainer.forward_backward(batch)
        for name, module in trainer._models.items():
            key = f"{OFFICIAL[name]}.ctx"
            if step == 1:
                agree("gradients", module.ctx.grad, arrays[f"grad/{key}"], f"{method} {key}")
            if f"step{step}/{key}" in arrays:
                agree("parameters", module.ctx, arrays[f"step{step}/{key}"], f"{method} step {step} {key}")
    with torch.no_grad():
        agree("logits", trainer.predictor()(images), arrays["eval/base_logits"], f"{method} eval")


def compare_new_classes(trainer, build, name, settings, overrides, arrays, agree, pack, method, key="eval/new_logits"):
    """The checkpoint of the trained run, read by a model of other classes."""
    if key not in arrays:
        return
    trainer.save_model(2, trainer.output_dir)
    other = build(name, settings["new_classes"], overrides)
    other.load_model(trainer.output_dir, epoch=3)
    with torch.no_grad():
        agree("logits", other.predictor()(pack.inputs["eval_images"]), arrays[key], f"{method} new classes")


@pytest.mark.methods("coop_")
def test_coop(method, case, build, agree, pack):
    arrays, settings, batch = case
    overrides = coop_settings(settings, "COOP")
    trainer = build("CoOp", settings["classes"], overrides)
    load_start(trainer, arrays, agree, method)
    student = trainer.student
    assert torch.equal(student.prompt_learner.eot, arrays["tok/base"].long().argmax(-1))
    text, image = student.text_features()[0], student.image_features(View(images=batch["img"]))
    agree("features", text, arrays["fwd/text_features"], method)
    agree("features", image, arrays["fwd/image_features"], method)
    agree("logits", student.logits(image, text), arrays["fwd/logits"], method)
    view = trainer.parse_batch_train(batch)
    agree("losses", trainer.loss_terms(view)["cross_entropy"], arrays["loss/total"], method)
    compare_training(trainer, arrays, batch, agree, pack, method)
    compare_new_classes(trainer, build, "CoOp", settings, overrides, arrays, agree, pack, method)


@pytest.mark.methods("zeroshot")
def test_zeroshot(method, case, build, agree, pack):
    arrays, settings, batch = case
    if "template" not in settings:
        pytest.skip("an ensemble of templates is another method (ZeroshotCLIP2)")
    for half, classes in (("base", settings["classes"]), ("new", settings["new_classes"])):
        trainer = build("ZeroshotCLIP", classes, {}, settings["template"])
        agree("features", trainer.student.text_features()[0], arrays[f"{half}/text_features"], f"{method} {half}")
        predict = trainer.predictor()
        agree("logits", predict(batch["img"]), arrays[f"{half}/logits_batch"], f"{method} {half}")
        agree("logits", predict(pack.inputs["eval_images"]), arrays[f"{half}/logits_eval"], f"{method} {half}")
    image = trainer.student.image_features(View(images=batch["img"]))
    agree("features", image, arrays["image_features"], method)


@pytest.mark.methods("kdpl_coop")
def test_coop_kdpl(method, case, build, agree, pack):
    arrays, settings, batch = case
    if settings["config"]["TRAINER.KDPL"]["CLASS_AGNOSTIC"]:
        pytest.skip("see test_class_agnostic_distillation")
    overrides = coop_settings(settings, "COOP") | {"TEACHER.NAME": pack.clip_file("teacher_clip")}
    trainer = build("CoOp_KDPL", settings["classes"], overrides, settings["teacher_template"])
    load_start(trainer, arrays, agree, method)
    trainer.supervision.prepare(trainer.student)
    view = trainer.parse_batch_train(batch)
    agree("logits", view.teacher_logits, arrays["teacher/logits"], f"{method} teacher")
    text, image = trainer.student.text_features()[0], trainer.student.image_features(view)
    order = arrays["fwd/class_indices"].long()
    agree("features", text[order], arrays["fwd/text_features"], method)
    agree("logits", trainer.student.logits(image, text), arrays["fwd/logits_class_order"], method)
    terms = trainer.loss_terms(view)
    agree("losses", terms["kl_forward"] / 0.5, arrays["loss/kl_forward_batchmean"], method)
    agree("losses", terms["kl_reverse"] / 0.5, arrays["loss/kl_reverse_batchmean"], method)
    agree("losses", sum(terms.values()), arrays["loss/total"], method)
    compare_training(trainer, arrays, batch, agree, pack, method)
    compare_new_classes(trainer, build, "CoOp_KDPL", settings, overrides, arrays, agree, pack, method)


@pytest.mark.methods("kdpl_coop_ca")
def test_class_agnostic_distillation(method, case, agree, pack):
    """KDPL-CA from our parts: a vocabulary's best K classes of the batch. No trainer of it here."""
    from fdbpl.backbones import load_backbone

    arrays, settings, batch = case
    backbone = load_backbone(pack.clip_file("student_clip"))
    learner = PromptLearner(backbone.model, settings["vocabulary"], ctx_init="a photo of a")
    agree("init", learner.ctx, arrays["init/prompt_learner.ctx"], method)
    teacher_logits = arrays["teacher/logits"]
    count = settings["config"]["TRAINER.KDPL"]["K_MAX"]
    kept = teacher_logits.softmax(-1).mean(0).topk(count).indices
    assert set(kept.tolist()) == set(arrays["fwd/class_indices"].tolist())
    image = backbone.encode_image(batch["img"])
    optimiser = torch.optim.SGD(learner.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4)
    for step in (1, 2, 3):
        prompts = learner()
        chosen = Prompts(prompts.embeddings[kept], prompts.eot[kept], prompts.shared)
        text = F.normalize(encode_prompts(backbone.model, chosen), dim=-1)
        logits = backbone.logit_scale * image @ text.T
        forward, reverse = (kl(teacher_logits[:, kept], logits).mean() for kl in (kl_forward, kl_reverse))
        optimiser.zero_grad()
        (0.5 * forward + 0.5 * reverse).backward()
        if step == 1:
            agree("losses", forward, arrays["loss/kl_forward_batchmean"], method)
            agree("losses", reverse, arrays["loss/kl_reverse_batchmean"], method)
            agree("gradients", learner.ctx.grad, arrays["grad/prompt_learner.ctx"], method)
        optimiser.step()
        if step in (1, 3):
            agree("parameters", learner.ctx, arrays[f"step{step}/prompt_learner.ctx"], f"{method} step {step}")


@pytest.mark.methods("fdbpl_coop_off")
def test_fdbpl(method, case, build, agree, pack):
    """Against the released terms; its PCD term is identically zero, so ours is switched off."""
    arrays, settings, batch = case
    overrides = coop_settings(settings, "FDBPL") | {
        "TRAINER.FDBPL.PCD_WEIGHT": 0.0,
        "TRAINER.FDBPL.N_CTX": len(arrays["init/prompt_learner.ctx"]),  # the release ignores N_CTX
    }
    trainer = build("FDBPL", settings["classes"], overrides)
    load_start(trainer, arrays, agree, method)
    given = arrays["teacher/logits_given"]
    trainer.supervision.read = lambda batch: View(images=batch["img"], teacher_logits=given)
    view = trainer.parse_batch_train(batch)
    order = arrays["fwd/class_indices"].long()
    student, negative = trainer.student, trainer.negative_prompt_learner
    text, text_negative = student.text_features(negative())
    image = student.image_features(view)
    agree("features", image, arrays["fwd/image_features"], method)
    agree("features", text[order], arrays["fwd/text_features"], method)
    agree("features", text_negative[order], arrays["fwd/text_features_negative"], f"{method} negative")
    positive, against = student.logits(image, text), student.logits(image, text_negative)
    agree("logits", positive, arrays["fwd/logits_class_order"], method)
    agree("logits", against[:, order], arrays["fwd/logits_negative"], f"{method} negative")
    agree("losses", entropy_weight(given, 1e-6), arrays["loss/entropy_weight"], f"{method} weight")
    agree("losses", kl_forward(given, positive), arrays["loss/kl_forward_per_sample"], f"{method} forward")
    agree("losses", kl_reverse(given, positive), arrays["loss/kl_reverse_per_sample"], f"{method} reverse")
    agree("losses", negative_loss(against), arrays["loss/negative_neg_entropy_per_sample"], f"{method} negative")
    agree("losses", coupling(positive, against), arrays["loss/cosine_pos_neg_per_sample"], f"{method} cosine")
    terms = trainer.loss_terms(view)
    agree("losses", terms["positive"], arrays["loss/term_kl_forward"] + arrays["loss/term_kl_reverse"], method)
    agree("losses", terms["negative"], arrays["loss/term_negative"], method)
    agree("losses", terms["coupling"], arrays["loss/term_cosine"], method)
    agree("losses", sum(terms.values()), arrays["loss/total"], f"{method} total")
    compare_training(trainer, arrays, batch, agree, pack, method)
    compare_new_classes(trainer, build, "FDBPL", settings, overrides, arrays, agree, pack, method)
    if "eval/new_logits" in arrays:  # the release tests its checkpoints as CoOp's: ours must be readable there too
        other = build("CoOp", settings["new_classes"], coop_settings(settings, "COOP") | {
            "TRAINER.COOP.N_CTX": overrides["TRAINER.FDBPL.N_CTX"]})  # fmt: skip
        other.load_model(trainer.output_dir, epoch=3)
        agree("logits", other.predictor()(pack.inputs["eval_images"]), arrays["eval/new_logits"], f"{method} as CoOp")
