"""The steps of each protocol, its arguments, and the configuration files it takes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdbpl.errors import UserError
from fdbpl.protocols import run
from fdbpl.protocols.checks import check_epoch
from fdbpl.protocols.configs import config_file
from fdbpl.protocols.run import ProtocolRun

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = (
    "DATA", "IMAGES", "TARGET_IMAGES", "SYNTHETIC", "SHOTS", "STUDENT", "CFG", "TARGETS", "LEARN", "NPROC", "SUB",
    "LOADEP", "DETERMINISTIC",
)  # fmt: skip


@pytest.fixture(autouse=True)
def output(monkeypatch, tmp_path) -> Path:
    monkeypatch.chdir(ROOT)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    return tmp_path


def steps(protocol: str, *words: str, monkeypatch, **variables: str):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return [step for cell in ProtocolRun(protocol, words).cells() for step in cell.steps]


def finish(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "done.json").write_text("{}")


def test_the_steps_of_base_to_new(output, monkeypatch):
    """The region bank comes first unless the training is finished; each test names its training."""
    words = ("demo", "1", "FDBPL", "OPTIM.LR", "1")
    name = "demo/shots_16/FDBPL/demo+OPTIM.LR=1/seed1"
    base = f"base2new/train_base/{name}"
    expected = [("bank", "demo", "base", base, ""), ("train", "demo", "base", base, ""),
                ("test", "demo", "new", f"base2new/test_new/{name}", base)]  # fmt: skip
    assert steps("base2new", *words, monkeypatch=monkeypatch) == expected
    finish(output / base)
    assert steps("base2new", *words, monkeypatch=monkeypatch) == expected[1:]


def test_the_steps_of_the_other_protocols(monkeypatch):
    found = steps("base2new", "demo", "1", "CoOp", monkeypatch=monkeypatch, LEARN="all", SHOTS="-1")
    name = "demo/shots_-1/CoOp/demo/seed1"
    assert [step[2:] for step in found] == [
        ("all", f"train_all/{name}", ""), ("base", f"base2new_all/test_base/{name}", f"train_all/{name}"),
        ("new", f"base2new_all/test_new/{name}", f"train_all/{name}"),
    ]  # fmt: skip
    monkeypatch.delenv("LEARN")
    found = steps("cross_dataset", "demo", "1", "CoOp", monkeypatch=monkeypatch, TARGETS="demo_colours dtd", SHOTS="-1")
    assert [(step.dataset, step.folder) for step in found[1:]] == [
        (target, f"evaluation/{target}/{name}") for target in ("demo_colours", "dtd")
    ]
    found = steps("few_shot", "demo", "1", "FDBPL", monkeypatch=monkeypatch, SHOTS="1 -1")
    assert [step.kind for step in found] == ["bank", "train"] * 2
    assert [step.folder.split("/")[2] for step in found] == ["shots_1"] * 2 + ["shots_-1"] * 2
    for shots, folder in (("", "shots_-1"), ("all", "shots_-1"), ("4", "shots_4")):
        (step,) = steps("train", "demo", "1", "CoOp", monkeypatch=monkeypatch, SHOTS=shots)
        assert step == ("train", "demo", "all", f"train_all/demo/{folder}/CoOp/demo/seed1", "")


def test_the_call_of_train_py(monkeypatch):
    """Synthetic data sets have a root of their own; NPROC starts torchrun."""
    calls = []
    monkeypatch.setattr(run, "run_attached", lambda command: calls.append(list(map(str, command))) or 0)
    monkeypatch.setenv("DATA", "/photos")
    monkeypatch.setenv("NPROC", "2")
    demo = ProtocolRun("base2new", ["demo", "2", "CoOp", "OPTIM.LR", "1"])
    demo.cells()
    for dataset in ("demo", "dtd"):
        demo.train_py(dataset, Path("folder"), "base", "16", "--eval-only")
    assert [call[call.index("--root") + 1] for call in calls] == [str(demo.output / "synthetic"), "/photos"]
    assert calls[0][1:6] == ["-m", "fdbpl.torchrun", "--standalone", "--nproc_per_node", "2"]
    assert calls[0][-2:] == ["OPTIM.LR", "1"] and "--eval-only" in calls[0] and "--deterministic" not in calls[0]


@pytest.mark.parametrize(
    ("protocol", "words", "variables", "message"),
    [
        ("base2new", ("dmeo",), {}, "'dmeo' is not a data set.*demo"),
        ("base2new", ("../trainers/CoOp/demo",), {}, "is not a data set"),
        ("base2new", ("demo", "1", "FDPBL"), {}, "'FDPBL' is not a trainer.*FDBPL"),
        ("base2new", ("demo", "one"), {}, "SEED .*whole number.*'one'"),
        ("base2new", ("demo", "01"), {}, "SEED .*leading zeros.*'01'"),
        ("base2new", ("demo", "1", "CoOp", "OPTIM.LR"), {}, "KEY VALUE pairs consist of 1 words"),
        ("base2new", ("demo", "1", "CoOp"), {"CFG": "vit"}, "CFG 'vit'.*demo"),
        ("base2new", ("demo", "1", "CoOp"), {"CFG": "../CoOp/demo"}, "CFG .*not the name"),
        ("base2new", ("demo", "1", "CoOp"), {"STUDENT": "vit_x"}, "STUDENT 'vit_x'"),
        ("base2new", ("demo", "1", "CoOp"), {"SHOTS": "many"}, "SHOTS .*a number.*'many'"),
        ("base2new", ("demo", "1", "CoOp"), {"SHOTS": "0"}, "SHOTS .*'0'"),
        ("base2new", ("demo", "1", "CoOp"), {"SHOTS": "1 2"}, "SHOTS .*'1 2'"),
        ("base2new", ("demo", "1", "CoOp"), {"NPROC": "none"}, "NPROC .*'none'"),
        ("base2new", ("demo", "1", "CoOp"), {"LEARN": "new"}, "LEARN .*base or all.*'new'"),
        ("base2new", ("caltech101",), {"FDBPL_CLIP_CACHE": "/none"}, "missing ./none/ViT-B-32.pt.*STUDENT=demo"),
        ("base2new", ("folder",), {}, "IMAGES does not name your images"),
        ("few_shot", ("demo",), {"SHOTS": "1 many"}, "SHOTS .*numbers.*'1 many'"),
        ("train", ("demo",), {"SHOTS": "1 2"}, "SHOTS .*a number.*'1 2'"),
        ("few_shot", ("demo",), {"LEARN": "all"}, "LEARN .*few_shot"),
        ("cross_dataset", ("caltech101",), {"STUDENT": "demo"}, "TARGETS.*caltech101.*TARGETS='caltech101 dtd'"),
        ("cross_dataset", ("demo",), {"TARGETS": "demo dtf"}, "TARGETS: 'dtf' is not a data set"),
        ("cross_dataset", ("demo",), {"TARGETS": " "}, "Set TARGETS"),
        ("cross_dataset", ("demo",), {"TARGETS": "folder"}, "TARGETS contains folder, .*IMAGES"),
        ("cross_dataset", ("folder",), {"TARGETS": "folder", "IMAGES": "x", "CFG": "demo"}, "the source itself"),
        ("cross_dataset", ("demo",), {"TARGETS": "demo_colours demo"}, "TARGETS contains demo, the data set"),
        ("cross_dataset", ("demo",), {"TARGETS": "dtd eurosat dtd"}, "TARGETS contains dtd twice"),
        ("base2new", ("demo", "1", "CoOp", "DATASET.SUBSAMPLE_CLASSES", "all"), {}, "set by the protocol.*LEARN=all"),
        ("base2new", ("demo", "1", "CoOp", "TRAINER.COOP.CSC", "True"), {}, "CSC True .*serves these classes only"),
    ],
)  # fmt: skip
def test_wrong_arguments(monkeypatch, protocol, words, variables, message):
    with pytest.raises(UserError, match=message):
        steps(protocol, *words, monkeypatch=monkeypatch, **variables)


@pytest.mark.parametrize(
    ("trainer", "protocol", "student", "file"),
    [
        ("CoOp_KDPL", "few_shot", "vit_b32", "CoOp/vit_b32"),
        ("CoOp", "cross_dataset", "rn50", "CoOp/rn50_ep50_ctxv1"),
        ("CoOp_Smoothed", "base2new", "vit_b32", "CoOp/vit_b32_ep50_ctxv1"),  # a supervision of the user's
        ("FDBPL", "few_shot", "vit_b16", "FDBPL/vit_b16_ep50_ctxv1"),
        ("FDBPL_PromptSRC", "few_shot", "vit_b32", "PromptSRC/vit_b32_c2_ep50_batch4_4+4ctx_few_shot"),
        ("FDBPL_PromptSRC", "base2new_all", "vit_b32", "PromptSRC/vit_b32_c2_ep20_batch4_4+4ctx"),
        ("MaPLe", "domain_generalization", "vit_b16", "MaPLe/vit_b16_c2_ep2_batch4_2ctx_cross_datasets"),
        ("MaPLe", "few_shot", "demo", "MaPLe/demo_vit"),
        ("TCP", "few_shot", "demo", "TCP/demo"),
        ("ZeroshotCLIP", "base2new", "rn50", "ZeroshotCLIP/rn50"),
    ],
)
def test_the_configuration_file_of_a_protocol(trainer, protocol, student, file):
    found = config_file(trainer, protocol, student)
    assert found == Path(f"configs/trainers/{file}.yaml") and found.is_file()


def test_the_test_of_an_epoch(output, monkeypatch):
    training = output / "base2new/train_base/demo/shots_16/CoOp/demo/seed1"
    with pytest.raises(UserError, match="There is no training run in .*train_base"):
        run.test_base2new(["demo", "1", "CoOp"])
    (training / "prompt_learner").mkdir(parents=True)
    (training / "run.json").write_text("{}")
    for name in ("checkpoint", "model.pth.tar-3"):
        (training / "prompt_learner" / name).touch()
    with pytest.raises(UserError, match="holds no weights of epoch 2, only of 3"):
        check_epoch(training, "2")
    calls = []
    monkeypatch.setattr(run, "run_attached", lambda command: calls.append(list(map(str, command))) or 0)
    monkeypatch.setenv("LOADEP", "3")
    assert run.test_base2new(["demo", "1", "CoOp"]) == 0
    assert calls[0][calls[0].index("--load-epoch") + 1] == "3" and "test_new_epoch3/demo" in " ".join(calls[0])
    for name, value in (("SUB", "all"), ("LOADEP", "last")):
        monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=name):
            run.test_base2new(["demo", "1", "CoOp"])
        monkeypatch.delenv(name)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_step_ends_with_the_command(tmp_path, kind):
    """Also where the command is killed: train.py gets SIGTERM."""
    child = (
        "import pathlib, signal, sys, time\n"
        f"def end(*_): pathlib.Path({str(tmp_path)!r}, 'ended').touch(); sys.exit(143)\n"
        f"signal.signal(signal.SIGTERM, end); pathlib.Path({str(tmp_path)!r}, 'started').touch(); time.sleep(60)"
    )
    code = (
        "import sys; from fdbpl.errors import cli_error_handler; from fdbpl.protocols.run import run_attached\n"
        f"with cli_error_handler(): sys.exit(run_attached([sys.executable, '-c', {child!r}]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_for(tmp_path / "started")
    os.kill(process.pid, kind)
    assert process.wait(20) == (143 if kind == signal.SIGTERM else -signal.SIGKILL)
    wait_for(tmp_path / "ended")


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
