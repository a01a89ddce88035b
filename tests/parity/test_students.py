"""Students trained from labels: every method compared with its official code."""

import pytest

from fdbpl.engine.batch import TrainBatch

from .official import settings_of

CROSS_ENTROPY = {"cross_entropy": "total"}
KNOWLEDGE = {"cross_entropy": "cross_entropy", "total": "total"}
SCL = {"cross_entropy": "cross_entropy", "scl_text": "scl_text_weighted", "scl_image": "scl_image_weighted",
       "scl_logits": "scl_logits_kl", "total": "total"}  # fmt: skip
WORDS = "a photo of a"  # the context of any non-empty CTX_INIT in KgCoOp's and TCP's code

# name in the pack: (our trainer, official section, our section, official names of the losses)
METHODS = {
    "coop": ("CoOp", "COOP", "COOP", CROSS_ENTROPY),
    "cocoop": ("CoCoOp", "COCOOP", "COCOOP", CROSS_ENTROPY),
    "vpt": ("VPT", "VPT", "VPT", CROSS_ENTROPY),
    "ivlp": ("IVLP", "IVLP", "IVLP", CROSS_ENTROPY),
    "maple": ("MaPLe", "MAPLE", "MAPLE", CROSS_ENTROPY),
    "promptsrc": ("PromptSRC", "PROMPTSRC", "PROMPTSRC", SCL),
    "kgcoop": ("KgCoOp", "COOP", "KGCOOP", KNOWLEDGE),
    "tcp": ("TCP", "COOP", "TCP", KNOWLEDGE),
}


def overrides_of(method: str, settings: dict) -> dict:
    """Return overrides with the settings of the official run."""
    _, official, own, _ = METHODS[method.split("_")[0]]
    more = {}
    if own in ("KGCOOP", "TCP"):
        more["CTX_INIT"] = WORDS if settings["config"][f"TRAINER.{official}"]["CTX_INIT"] else ""
    if own == "TCP":
        more["W"] = 8.0  # fixed in the official code, which ignores its W
    return settings_of(settings, official, own, **more)


@pytest.mark.methods("coop_", "cocoop", "vpt", "ivlp", "maple", "promptsrc", "kgcoop", "tcp")
def test_student(method, compare):
    if method.endswith("_gpa"):
        pytest.skip("see test_gaussian_average.py")
    trainer, _, _, losses = METHODS[method.split("_")[0]]
    compare.of(trainer, overrides_of(method, compare.settings))
    view = compare.trainer.parse_batch_train(compare.batch)
    compare.features(view)
    compare.losses(view, losses)
    if "tok/base" in compare.arrays and hasattr(compare.trainer.student, "prompt_learner"):
        ends = compare.arrays["tok/base"].long().argmax(-1)
        assert compare.trainer.student.prompt_learner.eot.tolist() == ends.tolist()
    compare.training()


@pytest.mark.methods("kgcoop", "tcp")
def test_distance_to_the_frozen_features(method, compare):
    compare.of(METHODS[method][0], overrides_of(method, compare.settings))
    frozen = compare.trainer.student.frozen_text
    compare.agree("features", frozen, compare.arrays["fwd/frozen_text_features"], f"{method} frozen")
    terms = compare.trainer.compute_losses(compare.trainer.parse_batch_train(compare.batch))
    score = terms["knowledge"] / compare.trainer.settings(compare.trainer.cfg).W
    compare.agree("losses", score, compare.arrays["loss/knowledge_score"].reshape(()), method)


@pytest.mark.methods("prograd")
def test_prograd(method, compare):
    """The official step does not minimize a sum, so both losses and the resulting gradient are compared."""
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
    arrays, settings = compare.arrays, compare.settings
    template = settings["template"] if method == "zeroshot" else settings["templates_used"][-1]
    for half, classes in (("base", compare.settings["classes"]), ("new", compare.settings["new_classes"])):
        trainer = compare.build(name, classes, {}, template)
        where = f"{method} {half}"
        compare.agree("features", trainer.student.text_features()[0], arrays[f"{half}/text_features"], where)
        predict = trainer.predictor()
        compare.agree("logits", predict(compare.batch["img"]), arrays[f"{half}/logits_batch"], where)
        compare.agree("logits", predict(compare.pack.inputs["eval_images"]), arrays[f"{half}/logits_eval"], where)
    image = trainer.student.image_features(TrainBatch(images=compare.batch["img"]))
    compare.agree("features", image, arrays["image_features"], method)
