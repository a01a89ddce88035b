"""What is learnt, from labels: every method against the numbers of its official code."""

import pytest

from trainers.supervision.view import View

from .official import settings_of

CROSS_ENTROPY = {"cross_entropy": "total"}
KNOWLEDGE = {"cross_entropy": "cross_entropy", "total": "total"}
SCL = {"cross_entropy": "cross_entropy", "scl_text": "scl_text_weighted", "scl_image": "scl_image_weighted",
       "scl_logits": "scl_logits_kl", "total": "total"}  # fmt: skip
WORDS = {"CTX_INIT": "a photo of a"}  # what any true CTX_INIT means in KgCoOp's and TCP's code

# pack's name -> our trainer, official and own node of the settings, official names of the loss terms, more settings
METHODS = {
    "coop": ("CoOp", "COOP", "COOP", CROSS_ENTROPY, {}),
    "cocoop": ("CoCoOp", "COCOOP", "COCOOP", CROSS_ENTROPY, {}),
    "vpt": ("VPT", "VPT", "VPT", CROSS_ENTROPY, {}),
    "ivlp": ("IVLP", "IVLP", "IVLP", CROSS_ENTROPY, {}),
    "maple": ("MaPLe", "MAPLE", "MAPLE", CROSS_ENTROPY, {}),
    "promptsrc": ("PromptSRC", "PROMPTSRC", "PROMPTSRC", SCL, {}),
    "kgcoop": ("KgCoOp", "COOP", "KGCOOP", KNOWLEDGE, WORDS),
    "tcp": ("TCP", "COOP", "TCP", KNOWLEDGE, {**WORDS, "W": 8.0}),  # the official code ignores its W
}


@pytest.mark.methods("coop_", "cocoop", "vpt", "ivlp", "maple", "promptsrc", "kgcoop", "tcp")
def test_student(method, compare):
    if method.endswith("_gpa"):
        pytest.skip("see test_gaussian_average.py")
    trainer, official, own, losses, more = METHODS[method.split("_")[0]]
    overrides = settings_of(compare.settings, official, own, **more)
    compare.of(trainer, overrides, clip="deep_text_clip" if method == "tcp" else "student_clip")
    view = compare.trainer.parse_batch_train(compare.batch)
    compare.features(view)
    compare.losses(view, losses)
    if "tok/base" in compare.arrays and hasattr(compare.trainer.student, "prompt_learner"):
        ends = compare.arrays["tok/base"].long().argmax(-1)
        assert compare.trainer.student.prompt_learner.eot.tolist() == ends.tolist()
    compare.training()


@pytest.mark.methods("kgcoop", "tcp")
def test_distance_to_the_frozen_features(method, compare):
    trainer, official, own, _, more = METHODS[method]
    clip = "deep_text_clip" if method == "tcp" else "student_clip"
    compare.of(trainer, settings_of(compare.settings, official, own, **more), clip=clip)
    frozen = compare.trainer.student.frozen_text
    compare.agree("features", frozen, compare.arrays["fwd/frozen_text_features"], f"{method} frozen")
    terms = compare.trainer.loss_terms(compare.trainer.parse_batch_train(compare.batch))
    # KgCoOp's score is 1 - mean cosine already; the weight is 8 in both
    compare.agree("losses", terms["knowledge"] / 8.0, compare.arrays["loss/knowledge_score"].reshape(()), method)


@pytest.mark.methods("prograd")
def test_prograd(method, compare):
    """The official step minimises no sum: both losses and the gradient that is left are compared."""
    node = compare.settings["config"]
    more = {"TEMPLATE_INIT": bool(node["TRAINER.COOP"]["CTX_INIT"]), "LAMBDA": node["LOSS"]["LAMBDA"]}
    compare.of("ProGrad", settings_of(compare.settings, "COOP", "PROGRAD", **more))
    view = compare.trainer.parse_batch_train(compare.batch)
    compare.features(view)
    compare.losses(view, {"cross_entropy": "cross_entropy", "kl": "kl"})
    compare.training()


@pytest.mark.methods("zeroshot")
def test_zeroshot(method, compare):
    name = {"zeroshot": "ZeroshotCLIP", "zeroshot2": "ZeroshotCLIP2"}[method]
    arrays, template = compare.arrays, compare.settings.get("template", "a centered satellite photo of {}.")
    for half, classes in (("base", compare.settings["classes"]), ("new", compare.settings["new_classes"])):
        trainer = compare.build(name, classes, {}, template)
        where = f"{method} {half}"
        compare.agree("features", trainer.student.text_features()[0], arrays[f"{half}/text_features"], where)
        predict = trainer.predictor()
        compare.agree("logits", predict(compare.batch["img"]), arrays[f"{half}/logits_batch"], where)
        compare.agree("logits", predict(compare.pack.inputs["eval_images"]), arrays[f"{half}/logits_eval"], where)
    image = trainer.student.image_features(View(images=compare.batch["img"]))
    compare.agree("features", image, arrays["image_features"], method)
