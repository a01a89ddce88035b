"""Precisions that a device uses for a setting."""

import pytest

from fdbpl.backbones import choose_precision


@pytest.mark.parametrize(
    ("precision", "device", "instructions", "stored", "chosen", "line"),
    [
        ("fp32", "cpu", "AMX", ["bf16"], "fp32", ""),
        ("fp16", "cpu", "", [], "fp16", ""),  # refused by `resolve_precision`
        ("bf16", "cpu", "AVX512-BF16", [], "bf16", ""),
        ("bf16", "cpu", "", [], "fp32", "KEY bf16: this CPU has neither AMX nor AVX512-BF16, so fp32 is used"),
        ("bf16", "cpu", "", ["bf16"], "bf16", ""),
        ("bf16", "cuda", "", [], "bf16", ""),
        ("auto", "cpu", "AMX", [], "bf16", "KEY auto: bf16 (this CPU has AMX)"),
        ("auto", "cpu", "AVX512-BF16", [], "bf16", "KEY auto: bf16 (this CPU has AVX512-BF16)"),
        ("auto", "cpu", "", [], "fp32", ""),
        ("auto", "cpu", "AMX", ["bf16", "fp32"], "fp32", "KEY auto: fp32 (as in the existing bank)"),
        ("auto", "cpu", "", ["fp16", "bf16"], "bf16", "KEY auto: bf16 (as in the existing bank)"),
        ("auto", "cuda", "AMX", [], "fp32", ""),
        ("auto", "cuda", "", ["fp16", "bf16"], "fp16", "KEY auto: fp16 (as in the existing bank)"),
    ],
)
def test_choice(cpu_with, capsys, precision, device, instructions, stored, chosen, line):
    cpu_with(instructions)
    assert choose_precision(precision, device, stored, "KEY") == chosen
    assert capsys.readouterr().out.strip() == line


def test_demo_models_and_runs_have_no_automatic_precision(cpu_with, capsys):
    cpu_with("AMX")
    for name in ("demo:teacher", "run:output/run"):
        assert choose_precision("auto", "cpu", ["bf16"], name=name) == "fp32"
        assert choose_precision("bf16", "cpu", name=name) == "bf16"
    assert not capsys.readouterr().out
