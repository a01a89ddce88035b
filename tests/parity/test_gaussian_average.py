"""PromptSRC's average over epochs: weights, and epochs of one batch with the official schedule."""

import pytest
import torch

from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.gaussian_average import GaussianAverage

from .official import settings_of


@pytest.mark.methods("promptsrc_gpa")
def test_weights(method, compare):
    for key, theirs in compare.arrays.items():
        if key.startswith("gauss/mean"):
            mean, std, epochs = (float("".join(filter(str.isdigit, part))) for part in key[6:].split("_"))
            ours = GaussianAverage(int(epochs), mean, std).weights
            compare.agree("gauss", torch.tensor(ours, dtype=torch.float64), theirs, key)


@pytest.mark.methods("promptsrc_gpa", "fdbpl_promptsrc_off_gpa")
def test_epochs(method, compare, monkeypatch):
    rates = compare.arrays["lr_per_epoch"]
    warmup = {"OPTIM.WARMUP_TYPE": "constant", "OPTIM.WARMUP_CONS_LR": round(float(rates[0]), 12)}
    released = method.startswith("fdbpl")
    if released:
        monkeypatch.setattr("trainers.promptsrc.PromptSRCStudent.learns_text", False)
    overrides = settings_of(compare.settings, "PROMPTSRC", "PROMPTSRC") | warmup
    compare.of("FDBPL_PromptSRC" if released else "PromptSRC", overrides)
    trainer, arrays = compare.trainer, compare.arrays
    if released:
        follow_the_release(trainer, compare)
    trainer.max_epoch, trainer.start_epoch, trainer.num_batches = trainer.cfg.OPTIM.MAX_EPOCH, 0, 1
    trainer.test = lambda: None  # there is no data
    for epoch in range(trainer.max_epoch):
        trainer.epoch, trainer.batch_idx = epoch, 0
        assert trainer.get_current_lr() == pytest.approx(float(rates[epoch]), abs=1e-9)
        trainer.set_model_mode("train")
        trainer.forward_backward(compare.batch)
        for name, parameter in compare.parameters().items():
            compare.agree("parameters", parameter, arrays[f"epoch{epoch + 1}/{name}"], f"{method} epoch {epoch + 1}")
        trainer.after_epoch()
    for name, parameter in compare.parameters().items():
        compare.agree("parameters", parameter, arrays[f"aggregated/{name}"], f"{method} aggregated")
    compare.evaluate(trainer, compare.pack.inputs["eval_images"], "eval/base_logits_aggregated")


def follow_the_release(trainer, compare) -> None:
    """Combine our parts as in the release (see test_fdbpl.py). The pack stores its teacher logits in another file."""
    from fdbpl.losses import entropy_weight, symmetric_kl

    given = compare.pack.arrays("fdbpl_promptsrc_off")["teacher/logits_given"]
    trainer.parse_batch_train = lambda batch: TrainBatch(images=batch["img"], teacher_logits=given)

    def released(view):
        outputs = trainer.student.outputs(view)
        kl = entropy_weight(given, 1e-6).mean() * symmetric_kl(given, outputs.logits).mean()
        return {"kl": kl, **trainer.student.regularization_losses(view, outputs)}

    trainer.compute_losses = released
