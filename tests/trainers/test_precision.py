"""Every trainer in every precision: what is learnt and what is minimised stay in float32."""

import pytest
import torch

from fdbpl.errors import UserError

from .methods import NO_GRADIENT, learnt, logits, node_of, one_of_each_student, same, student_of, trained

GPU = pytest.mark.gpu


def settings_of(name: str, precision: str) -> dict:
    adam = {"OPTIM.NAME": "adam", "OPTIM.LR": 0.002} if student_of(name) == "TCP" else {}
    return {"OPTIM.MAX_EPOCH": 2, "OPTIM.WEIGHT_DECAY": 0.0, f"TRAINER.{node_of(name)}.PREC": precision} | adam


def train(trainer) -> None:
    """Train, looking at every loss term; then at what was learnt."""
    terms, seen, start = trainer.compute_losses, [], learnt(trainer)
    trainer.compute_losses = lambda view: seen.append(terms(view)) or seen[-1]
    trainer.train()
    assert len(seen) == 4
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for row in seen for term in row.values())
    for name, module in trainer._models.items():
        for key, value in module.named_parameters():
            assert value.dtype == torch.float32 and value.grad.dtype == torch.float32, key
            assert torch.isfinite(value).all() and torch.isfinite(value.grad).all(), key
            assert key.endswith(NO_GRADIENT) or not torch.equal(value, start[f"{name}.{key}"]), key


@pytest.mark.parametrize("name", trained())
def test_bfloat16_trains_and_is_near_float32(name, build_shared):
    exact, half = (build_shared(name, f"{precision}/{name}", **settings_of(name, precision))
                   for precision in ("fp32", "bf16"))  # fmt: skip
    assert same(learnt(exact), learnt(half))
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected, found = logits(exact, images), logits(half, images)
    deviation = (expected - found).abs().max() / exact.student.backbone.logit_scale
    assert found.dtype == torch.float32
    assert 0 < deviation < 0.01  # of a cosine; bf16 rounds a number by up to 0.004 of it
    train(half)


@pytest.mark.parametrize("precision", ["fp16", "amp"])
@pytest.mark.parametrize("name", one_of_each_student())
def test_a_cpu_is_told_what_it_can_do(name, precision, make_cfg):
    from dassl.engine import build_trainer

    with pytest.raises(UserError, match=f"TRAINER.{node_of(name)}.PREC {precision} needs a GPU.*PREC fp32"):
        build_trainer(make_cfg(name, **settings_of(name, precision), **{"DATASET.ROOT": "/nowhere"}))


@pytest.mark.parametrize("name", ["CoOp_KDPL", "PromptKD"])
def test_a_teacher_that_needs_a_gpu_is_named(name, make_cfg):
    from dassl.engine import build_trainer

    with pytest.raises(UserError, match="^TEACHER.PREC fp16 needs a GPU.*Set TEACHER.PREC to fp32 or bf16"):
        build_trainer(make_cfg(name, **{"TEACHER.PREC": "fp16", "DATASET.ROOT": "/nowhere"}))


@pytest.mark.parametrize("name", one_of_each_student())
def test_a_wrong_precision_is_told_the_others(name, make_cfg):
    from dassl.engine import build_trainer

    with pytest.raises(UserError, match=f"TRAINER.{node_of(name)}.PREC is 'fp8', .* fp32, fp16, amp, bf16"):
        build_trainer(make_cfg(name, **settings_of(name, "fp8"), **{"DATASET.ROOT": "/nowhere"}))


@GPU
@pytest.mark.parametrize("precision", ["fp32", "fp16", "amp", "bf16"])
@pytest.mark.parametrize("name", trained())
def test_precisions_on_a_gpu(name, precision, build_shared):
    settings = settings_of(name, precision) | {"USE_CUDA": True, "TRAINER.PROMPTKD.KD_WEIGHT": 10.0}  # no overflow
    trainer = build_shared(name, f"cuda-{precision}/{name}", **settings)
    train(trainer)
    assert all(value.is_cuda for value in learnt(trainer).values())
