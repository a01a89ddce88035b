"""Every trainer in every precision: trained parameters and losses stay in float32."""

import json

import pytest
import torch
from dassl.engine import build_trainer

from fdbpl.engine.bank_spec import ensure_bank
from fdbpl.engine.registry import region_bank_spec
from fdbpl.errors import UserError

from .methods import NO_GRADIENT, cfg_key_of, learned, logits, one_of_each_student, same, student_of, trained

IMAGES = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def settings_of(name: str, precision: str) -> dict:
    adam = {"OPTIM.NAME": "adam", "OPTIM.LR": 0.002} if student_of(name) == "TCP" else {}
    return {"OPTIM.MAX_EPOCH": 2, "OPTIM.WEIGHT_DECAY": 0.0, f"TRAINER.{cfg_key_of(name)}.PREC": precision} | adam


def train(trainer) -> None:
    """Train; check every loss, then the trained parameters."""
    compute, batches, start = trainer.compute_losses, [], learned(trainer)
    trainer.compute_losses = lambda batch: batches.append(compute(batch)) or batches[-1]
    trainer.train()
    assert len(batches) == 4
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for losses in batches for loss in losses.values())
    for name, module in trainer._models.items():
        for key, value in module.named_parameters():
            assert value.dtype == torch.float32 and value.grad.dtype == torch.float32, key
            assert torch.isfinite(value).all() and torch.isfinite(value.grad).all(), key
            assert key.endswith(NO_GRADIENT) or not torch.equal(value, start[f"{name}.{key}"]), key


@pytest.mark.parametrize("name", trained())
def test_bfloat16_trains_and_is_close_to_float32(name, build_shared, cpu_with):
    cpu_with("AVX512-BF16")
    exact, half = (build_shared(name, f"{precision}/{name}", **settings_of(name, precision))
                   for precision in ("fp32", "bf16"))  # fmt: skip
    assert same(learned(exact), learned(half))
    expected, found = logits(exact, IMAGES), logits(half, IMAGES)
    deviation = (expected - found).abs().max() / exact.student.backbone.logit_scale
    assert found.dtype == torch.float32
    assert 0 < deviation < 0.01  # of a cosine; bf16 has a relative rounding error of 0.004
    train(half)


@pytest.mark.parametrize(
    ("precision", "message"),
    [("fp16", "needs a GPU.*PREC fp32"), ("amp", "needs a GPU.*PREC fp32"), ("fp8", "fp32, fp16, amp, bf16")],
)
@pytest.mark.parametrize("name", one_of_each_student())
def test_precisions_without_cpu_support_are_refused(name, precision, message, make_cfg):
    with pytest.raises(UserError, match=f"TRAINER.{cfg_key_of(name)}.PREC .*{precision}.*{message}"):
        build_trainer(make_cfg(name, **settings_of(name, precision), **{"DATASET.ROOT": "/nowhere"}))


@pytest.mark.parametrize("name", ["CoOp_KDPL", "PromptKD"])
def test_a_teacher_in_float16_needs_a_gpu(name, make_cfg):
    with pytest.raises(UserError, match="^TEACHER.PREC fp16 needs a GPU.*Set TEACHER.PREC to fp32 or bf16"):
        build_trainer(make_cfg(name, **{"TEACHER.PREC": "fp16", "DATASET.ROOT": "/nowhere"}))


def test_bfloat16_falls_back_to_float32_and_the_run_records_it(train_py, cpu_with, capsys):
    cpu_with("")
    folder = train_py("CoOp", "run", **{"TRAINER.COOP.PREC": "bf16", "TEACHER.PREC": "auto"})
    assert (
        "TRAINER.COOP.PREC bf16: this CPU has neither AMX nor AVX512-BF16, so fp32 is used\n" in capsys.readouterr().out
    )
    config = json.loads((folder / "run.json").read_text())["config"]
    assert config["TRAINER"]["COOP"]["PREC"] == "fp32" and config["TEACHER"]["PREC"] == "fp32"
    train_py("CoOp", "run")  # the same run
    assert "is finished" in capsys.readouterr().out


def test_the_automatic_precision_of_a_teacher(make_cfg, cpu_with):
    def spec(precision: str):
        return region_bank_spec(make_cfg("FDBPL", **{"TEACHER.PREC": precision}))

    cpu_with("AMX")
    half = spec("auto")
    ensure_bank(half)
    assert half.identity.precision == "bf16"
    cpu_with("")  # other CPUs read that bank
    assert spec("auto").bank == spec("bf16").bank == half.bank
    exact = spec("fp32")
    ensure_bank(exact)
    cpu_with("AMX")
    assert spec("auto").bank == exact.bank != half.bank


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "amp", "bf16"])
@pytest.mark.parametrize("name", trained())
def test_precisions_on_a_gpu(name, precision, build_shared):
    settings = settings_of(name, precision) | {"USE_CUDA": True, "TRAINER.PROMPTKD.KD_WEIGHT": 10.0}  # no overflow
    trainer = build_shared(name, f"cuda-{precision}/{name}", **settings)
    train(trainer)
    assert all(value.is_cuda for value in learned(trainer).values())
