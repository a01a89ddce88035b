"""FDBPL compared with the released code, term by term; our own terms are switched off or derived."""

import pytest

from fdbpl.engine.batch import TrainBatch
from fdbpl.losses import coupling, entropy_weight, kl_forward, kl_reverse, negative_loss

from .official import settings_of


def give_labels(compare) -> TrainBatch:
    """Read teacher logits from the pack; the release reads them from a file."""
    given = compare.arrays["teacher/logits_given"]
    compare.trainer.parse_batch_train = lambda batch: TrainBatch(images=batch["img"], teacher_logits=given)
    return compare.trainer.parse_batch_train(compare.batch)


@pytest.mark.methods("fdbpl_coop_off")
def test_fdbpl(method, compare):
    """The release's PCD term is identically zero, so ours is switched off."""
    arrays = compare.arrays
    count = len(arrays["init/prompt_learner.ctx"])  # the release ignores N_CTX where the context is random
    more = settings_of(compare.settings, "COOP", "FDBPL", PCD_WEIGHT=0.0, N_CTX=count, ALPHA=0.5)
    compare.of("FDBPL", more)
    view = give_labels(compare)
    compare.features(view)
    trainer, student, order = compare.trainer, compare.trainer.student, arrays["fwd/class_indices"].long()
    text, text_negative = student.text_features(trainer.negative_prompt_learner())
    image, given = student.image_features(view), view.teacher_logits
    positive, against = student.logits(image, text), student.logits(image, text_negative)
    agree = compare.agree
    agree("features", text_negative[order], arrays["fwd/text_features_negative"], f"{method} negative")
    agree("logits", against[:, order], arrays["fwd/logits_negative"], f"{method} negative")
    agree("losses", entropy_weight(given, 1e-6), arrays["loss/entropy_weight"], f"{method} weight")
    agree("losses", kl_forward(given, positive), arrays["loss/kl_forward_per_sample"], f"{method} forward")
    agree("losses", kl_reverse(given, positive), arrays["loss/kl_reverse_per_sample"], f"{method} reverse")
    agree("losses", negative_loss(against), arrays["loss/negative_neg_entropy_per_sample"], f"{method} negative")
    agree("losses", coupling(positive, against), arrays["loss/cosine_pos_neg_per_sample"], f"{method} cosine")
    terms = trainer.compute_losses(view)
    agree("losses", terms["positive"], arrays["loss/term_kl_forward"] + arrays["loss/term_kl_reverse"], method)
    compare.losses(view, {"negative": "term_negative", "coupling": "term_cosine", "total": "total"})
    compare.training()
    if "eval/new_logits" in arrays:  # the release evaluates its checkpoints with CoOp, which must be able to read ours
        own = settings_of(compare.settings, "COOP", "COOP", N_CTX=count)
        other = compare.build("CoOp", compare.settings["new_classes"], own)
        other.load_model(trainer.output_dir)
        compare.evaluate(other, compare.pack.inputs["eval_images"], "eval/new_logits")


@pytest.mark.methods("fdbpl_promptsrc_off")
def test_fdbpl_promptsrc(method, compare, monkeypatch):
    """The release weights the batch by mean(w) and has no negative space, so our parts are combined accordingly."""
    if method.endswith("_gpa"):
        pytest.skip("see test_gaussian_average.py")
    arrays = compare.arrays
    monkeypatch.setattr("trainers.promptsrc.PromptSRCStudent.learns_text", False)  # no negative space
    compare.of("FDBPL_PromptSRC", settings_of(compare.settings, "PROMPTSRC", "PROMPTSRC"))
    view, trainer = give_labels(compare), compare.trainer
    compare.features(view)
    compare.losses(view, {"scl_text": "scl_text_weighted", "scl_image": "scl_image_weighted",
                          "scl_logits": "scl_logits_kl"})  # fmt: skip
    weight = entropy_weight(view.teacher_logits, 1e-6).mean()
    compare.agree("losses", weight, arrays["loss/entropy_weight"].mean(), f"{method} weight")

    def released(view):
        outputs = trainer.student.outputs(view)
        forward, reverse = (kl(view.teacher_logits, outputs.logits).mean() for kl in (kl_forward, kl_reverse))
        compare_once("losses", forward, arrays["loss/kl_forward_batchmean"], method)
        compare_once("losses", reverse, arrays["loss/kl_reverse_batchmean"], method)
        return {"kl": weight * (0.5 * forward + 0.5 * reverse), **trainer.student.regularization_losses(view, outputs)}

    compare_once = compare.agree
    compare.agree("losses", sum(released(view).values()), arrays["loss/total"].reshape(()), f"{method} total")
    compare_once = lambda *arguments: None  # noqa: E731 (only the first batch's parts are stored)
    trainer.compute_losses = released
    compare.training()
