"""The plug-in, installed as a wheel, in a checkout with its own trainers, data sets and clip."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from yacs.config import CfgNode

from fdbpl.engine import registry
from fdbpl.plugin import add_missing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the files that `pip install .` puts into site-packages."""
    source, site = tmp_path_factory.mktemp("source") / "fdbpl", tmp_path_factory.mktemp("site")
    unneeded = shutil.ignore_patterns(".git", "tests", "docs", "data", "output", ".venv", "*.egg-info", "__pycache__")
    at_the_top = lambda folder, names: unneeded(folder, names) if Path(folder) == ROOT else []  # noqa: E731
    shutil.copytree(ROOT, source, ignore=at_the_top)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    return site


@pytest.fixture(scope="module")
def host(tmp_path_factory, installed):
    """Return host(*arguments), which runs the checkout's train.py as a subprocess."""
    import dassl
    from clip.model import CLIP

    folder = tmp_path_factory.mktemp("host")
    shutil.copytree(Path(__file__).with_name("host"), folder / "checkout")
    pets = folder / "data" / "pets"
    pets.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("beagle", "birman", "boxer", "persian"):
        for number in range(3):
            Image.fromarray(random.integers(0, 256, (50, 40, 3), np.uint8)).save(pets / f"{name}_{number}.jpg")
    for seed, name in enumerate(("student", "teacher")):
        torch.manual_seed(seed)
        model = CLIP(16, 32, 2, 64, 16, 77, 49408, 64, 1, 2)
        weights = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(weights, folder / f"{name}.safetensors")
    settings = {
        "INPUT.SIZE": (32, 32), "DATASET.NAME": "OxfordPets", "MODEL.BACKBONE.NAME": folder / "student.safetensors",
        "TEACHER.NAME": folder / "teacher.safetensors", "TRAINER.FDBPL.PREC": "fp32", "TRAINER.MAPLE.PREC": "fp32",
        "TRAINER.MAPLE.PROMPT_DEPTH": 2, "REGIONS.PER_IMAGE": 2, "REGIONS.ROOT": folder / "regions",
        "OPTIM.NAME": "sgd", "OPTIM.MAX_EPOCH": 2, "DATALOADER.TRAIN_X.BATCH_SIZE": 4,
        "DATALOADER.NUM_WORKERS": 0, "USE_CUDA": False,
        "REGIONS.PIPELINE": "torchvision",
    }  # fmt: skip
    words = [str(word) for pair in settings.items() for word in pair]
    path = os.pathsep.join([str(installed), str(Path(dassl.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def run(trainer: str, *arguments: object) -> subprocess.CompletedProcess:
        flags = ["--trainer", trainer, "--root", folder / "data", *arguments]
        command = [sys.executable, "train.py", *map(str, flags), *words]
        return subprocess.run(
            command, cwd=folder / "checkout", env=environment, capture_output=True, text=True, timeout=300
        )

    run.folder = folder
    return run


@pytest.mark.parametrize(("trainer", "learners"), [
    ("FDBPL", ["negative_prompt_learner", "prompt_learner"]),
    ("FDBPL_MaPLe", ["MultiModalPromptLearner", "negative_prompt_learner"]),
])  # fmt: skip
def test_our_trainers_with_a_data_set_of_the_host(host, trainer, learners):
    registry.import_trainers()
    output = host.folder / trainer
    run = host(trainer, "--output-dir", output)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(re.search(r"fdbpl.plugin: (\d+) trainers added", run.stdout)[1]) == len(registry.trainer_names()) - 1
    assert "8 images" in run.stdout and "Region bank" in run.stdout
    assert sorted(file.parent.name for file in output.glob("*/model.pth.tar-2")) == learners
    accuracy = re.search(r"\* accuracy: ([\d.]+)%", run.stdout)[1]
    tested = host(trainer, "--output-dir", f"{output}_test", "--eval-only", "--model-dir", output, "--load-epoch", 2)
    assert tested.returncode == 0, tested.stderr[-2000:]
    assert re.search(r"\* accuracy: ([\d.]+)%", tested.stdout)[1] == accuracy


def test_a_second_run_uses_the_bank_of_the_first(host):
    assert list((host.folder / "regions").rglob("*.safetensors"))  # of the test above
    again = host("FDBPL", "--output-dir", host.folder / "second", "SEED", 2)
    assert "0 regions labelled" in again.stdout


def test_default_templates_of_data_sets():
    from fdbpl.engine.templates import template_of

    def template(name: str, dataset: object) -> str:
        return template_of(CfgNode({"DATASET": {"NAME": name}}), dataset)

    assert template("OxfordPets", object()) == "a photo of a {}, a type of pet."
    assert template("MyPhotos", object()) == "a photo of a {}."
    assert template("OxfordPets", SimpleNamespace(template="a {}.")) == "a {}."


def test_trainers_and_modules_of_the_host_are_kept(host):
    run = host("CoOp", "--output-dir", host.folder / "theirs")
    assert run.returncode == 0, run.stderr[-2000:]
    assert "the host's CoOp" in run.stdout
    own = re.search(r"COOP: (.*)", run.stdout)[1]
    assert "'N_CTX': 7" in own and "'PREC': 'fp32'" in own and "'CSC': False" in own


def test_a_user_mistake_is_a_one_line_error(host):
    run = host("FDBPL", "--output-dir", host.folder / "wrong", "TRAINER.FDBPL.N_CTX", 0)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert "TRAINER.FDBPL.N_CTX is 0, but it must be at least 1" in run.stderr


CALLS = """
import runpy
for command in ("fdbpl.predict run red.png", "fdbpl.export run", "fdbpl.doctor"):
    sys.argv = command.split()
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, (command, end.code)
"""


def test_entry_points_find_the_installed_trainers(installed, tmp_path):
    """Predict with and export a finished run outside of any checkout."""
    import dassl

    make = """
import dassl.engine, pathlib, sys
from dassl.config import get_cfg_default
from fdbpl.engine import registry
from fdbpl.io.atomic import write_json, write_text
cfg = get_cfg_default()
registry.extend_cfg(cfg)
cfg.merge_from_list(["TRAINER.NAME", "ZeroshotCLIP", "MODEL.BACKBONE.NAME", "demo:vit-student",
                     "INPUT.SIZE", (64, 64), "INPUT.TRANSFORMS", ("normalize",)])
write_text("run/config.yaml", cfg.dump())
write_json("run/run.json", {"task": "train", "fingerprint": "0123"})
protocol = {"classnames": ["moon", "tree"], "template": "a {}."}
write_json("run/metrics.json", {"accuracy": 50.0, "dataset": "demo", "protocol": protocol})
write_json("run/done.json", {})
"""
    path = os.pathsep.join([str(installed), str(Path(dassl.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    Image.new("RGB", (70, 50), (200, 30, 30)).save(tmp_path / "red.png")

    def python(*words: str) -> str:
        run = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    printed = python("-c", make + CALLS)
    assert re.match(r"red\.png: (moon|tree) \d+\.\d %, (moon|tree) \d+\.\d %\n", printed)
    assert "2 classes: moon, tree" in printed and printed.endswith("have warnings)\n")


def test_missing_keys_are_added_and_present_ones_kept():
    theirs = CfgNode({"A": {"X": 1}, "B": 2})
    theirs.freeze()
    ours = CfgNode({"A": {"X": 5, "Y": 6}, "B": {"Z": 1}, "C": {"D": 3}})
    for _ in range(2):
        add_missing(theirs, ours)
        assert theirs == CfgNode({"A": {"X": 1, "Y": 6}, "B": 2, "C": {"D": 3}}) and theirs.is_frozen()


FAILURES = {
    "an input of the user's": ("raise UserError('expected a, found\\nb')", 2, r"error: expected a, found\\nb\n"),
    "the machine": ("raise SystemFailure('expected a, found b')", 1, "error: expected a, found b\n"),
    "a full disk": (
        "with open('/dev/full', 'w') as file: file.write('a')", 1, "error: the system .* the disk is full: free .*\n"),
    "no memory": ("bytearray(1 << 46)", 1, "error: out of memory: .*\n"),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", 130, "\ninterrupted: regions generated .*\n"),
    "a closed pipe": ("raise BrokenPipeError", 1, ""),
    "an error of the checkout": ("raise ValueError('theirs')", 1, "Traceback (.|\n)*ValueError: theirs\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_exit_code_and_message_of_a_checkout(name):
    event, code, message = FAILURES[name]
    script = (
        "import os, signal, sys, time\n"
        "from fdbpl.errors import SystemFailure, UserError\n"
        f"from fdbpl.plugin import report_exception\nsys.excepthook = report_exception\n{event}\n"
    )

    def run(**environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
        )

    ended = run()
    assert ended.returncode == code and re.fullmatch(message, ended.stderr), ended.stderr
    if message:
        assert "Traceback" in run(FDBPL_DEBUG="1").stderr
