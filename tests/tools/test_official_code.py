"""Official code as variants of the benchmark: small checkouts written here, and real ones where they are given."""

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import trainers
from fdbpl.backbones.openai_package import clip_package
from tools.benchmark.official_code import CODE, describe
from tools.benchmark.profiles import REWRITES, Step
from tools.benchmark.steps import step_variants
from tools.benchmark.synthetic_inputs import SyntheticInputs

POINT = Step("tiny", "tiny teacher", classes=12, batch=6, variants=("a", "a_official", "b", "b_official", "c"))
PACKAGE = "from fdbpl.backbones.openai_package import clip_package\n"
CLIP = """
from fdbpl.backbones.openai_package import clip_package

def CLIP(*architecture):
    *architecture, design = architecture
    assert design["trainer"] == "CoOp"
    return clip_package().model.CLIP(*architecture)
"""
TRAINER = """
import open_clip, pandas, torch
from clip import tokenize
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_optimizer

@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    pass

@TRAINER_REGISTRY.register()
class NAME(CoOp):
    def build_model(self):
        print("Building")
        self.student, self.teacher = load_clip_to_cpu(self.cfg), load_teacher_to_cpu(self.cfg)
        with torch.no_grad():
            texts = self.teacher.encode_text(tokenize(self.dm.dataset.classnames).cuda())
        assert texts.shape[0] == 12 and self.cfg.TRAINER.COOP.PREC == self.cfg.TRAINER.KDPL.PREC == "fp32"
        self.ctx = torch.nn.Linear(self.student.text_projection.shape[1], 1)
        self.register_model("ctx", self.ctx, build_optimizer(self.ctx, self.cfg.OPTIM))

    def forward_backward(self, batch):
        loss = self.ctx(self.student.encode_image(batch["img"])).square().mean()
        self.model_backward_and_update(loss)
        return {"loss symmetric KL": loss.item()}
"""


def write_checkout(folder: Path, name: str) -> Path:
    """Write a checkout with the interface that the benchmark uses."""
    code = CODE[name]
    files = {
        "clip/__init__.py": PACKAGE + "tokenize = clip_package().tokenize\n",
        "clip/model.py": CLIP,
        "trainers/__init__.py": "",
        f"{code.module.replace('.', '/')}.py": TRAINER.replace("NAME", code.trainer),
    }
    for path, content in files.items():
        file = folder / name / code.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder / name


@pytest.fixture
def with_checkouts(inputs, monkeypatch):
    def give(checkouts: dict[str, Path]) -> SyntheticInputs:
        monkeypatch.setattr(inputs, "checkouts", checkouts)
        return inputs

    return give


def test_a_checkout_trains_and_leaves_our_modules_alone(with_checkouts, tmp_path):
    checkouts = {name: write_checkout(tmp_path, name) for name in CODE}
    assert describe(checkouts) == {"kdpl": "unknown", "fdbpl": "unknown"}
    loaded, cuda = dict(sys.modules), Tensor.cuda
    variants = step_variants(with_checkouts(checkouts), POINT)[0]
    assert list(variants) == list(POINT.variants)
    for ours, official in (("a", "a_official"), ("b", "b_official")):
        first, later = variants[official].step(), variants[official].step()
        assert first > later > 0 and float(variants[ours].step())
        weights, theirs = variants[ours].student.model, variants[official].trainer.student
        assert theirs.text_projection.data_ptr() == weights.text_projection.data_ptr()
    assert not [entry for entry in sys.path if str(tmp_path) in entry]
    assert Tensor.cuda is cuda and sys.modules["trainers"] is trainers
    assert all(sys.modules.get(name) is module for name, module in loaded.items())
    from dassl.engine import TRAINER_REGISTRY

    assert TRAINER_REGISTRY.get("CoOp").__module__ == "trainers.coop"
    assert "CoOp_OFF" not in TRAINER_REGISTRY.registered_names() and clip_package().tokenize("a").shape == (1, 77)


def test_variants_without_a_checkout_are_left_out(with_checkouts, tmp_path):
    inputs = with_checkouts({"kdpl": write_checkout(tmp_path, "kdpl")})
    assert list(step_variants(inputs, POINT)[0]) == ["a", "a_official", "b", "c"]


@pytest.mark.parametrize("rewrite", REWRITES)
def test_official_code_has_the_loss_and_gradient_of_our_rewrite(rewrite, with_checkouts):
    folder = os.environ.get(f"FDBPL_OFFICIAL_{REWRITES[rewrite].upper()}")
    if not folder:
        pytest.skip(f"needs a checkout of official code (FDBPL_OFFICIAL_{REWRITES[rewrite].upper()})")
    inputs = with_checkouts({REWRITES[rewrite]: Path(folder)})
    variants = step_variants(inputs, POINT)[0]
    ours, official = variants[rewrite], variants[f"{rewrite}_official"]
    assert float(ours.step()) == pytest.approx(official.step(), rel=1e-4)
    students = official.trainer.student_model
    learners = [students.prompt_learner, getattr(students, "prompt_learner_generic", None)]
    gradients = [learner.ctx.grad for learner in learners if learner is not None]
    for space, gradient in zip(ours.spaces, gradients, strict=True):
        torch.testing.assert_close(space.ctx.grad, gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))
