"""Several processes give the numbers of one, up to the order of sums."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).with_name("torchrun_worker.py")
CASES = {
    "FDBPL": {},  # looked-up features
    "FDBPL_PromptSRC": {},  # both towers, regions cut from the files
    "PromptKD": {},  # batch norm
    "ProGrad": {},  # a gradient that is no sum over images
    "FDBPL_MaPLe": {},
    "CoOp_KDPL": {"TRAINER.KDPL.CLASS_AGNOSTIC": True, "TRAINER.KDPL.K_MAX": 6},  # words of the whole batch
    "TCP": {"OPTIM.NAME": "adam", "OPTIM.LR": 1e-3},  # vectors of each class
    "FDBPL_CoCoOp": {},  # a context for each image
    "CoOp": {"TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.CSC": True, "TRAINER.COOP.N_CTX": 2},
}


def torchrun(processes: int, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_train_and_test_as_one(build, make_cfg, tmp_path, processes):
    """Batches of 4 and 5 classes: with three processes the shares differ."""
    words = tmp_path / "words.txt"
    words.write_text("\n".join(["apple", "bridge", "cloud", "dog", "engine", "flower", "guitar", "house", "island"]))
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    expected = {}
    for name, own in CASES.items() if processes == 2 else list(CASES.items())[:4]:
        settings = {"OPTIM.MAX_EPOCH": 3, "TRAINER.KDPL.VOCABULARY": str(words), **own}
        trainer = build(name, f"one/{name}", **settings)
        begin = {f"{part}.{key}": value.clone() for part, module in trainer._models.items()
                 for key, value in module.state_dict().items()}  # fmt: skip
        trainer.train()
        state = {f"{part}.{key}": value for part, module in trainer._models.items()
                 for key, value in module.state_dict().items()}  # fmt: skip
        expected[name] = (begin, state, trainer.results)
        (jobs / f"{name}.yaml").write_text(make_cfg(name, f"several/{name}", **settings).dump())

    run = torchrun(processes, WORKER, jobs)
    assert run.returncode == 0, run.stderr[-3000:]
    for name, (begin, state, results) in expected.items():
        found = load_file(jobs / f"{name}.safetensors")
        assert found.keys() == state.keys()
        for key, value in state.items():
            if key.endswith("VPT_image_trans.conv1.0.bias"):
                continue  # in front of batch norm: its gradient is rounding and nothing else
            moved = (value.float() - begin[key].float()).norm()
            assert (found[key].float() - value.float()).norm() <= 1e-3 * moved + 1e-6, f"{name} {key}"
        assert json.loads((jobs / f"{name}.json").read_text()) == pytest.approx(results), name
        assert run.stdout.count(f"Loading trainer: {name}\n") == 1, name  # one process speaks


def test_a_mistake_ends_every_process_with_its_sentence(tmp_path):
    train = Path(__file__).parents[2] / "train.py"
    configs = train.parent / "configs"
    files = ["--dataset-config-file", configs / "datasets/demo.yaml", "--trainer", "FDBPL"]
    files += ["--config-file", configs / "trainers/FDBPL/demo.yaml"]
    run = torchrun(2, train, *files, "--root", tmp_path, "--output-dir", tmp_path / "run")
    assert run.returncode and "--seed 1" in run.stderr
    assert not (tmp_path / "run" / "done.json").exists()


def test_a_share_of_nothing_is_everything():
    from fdbpl import distributed

    rows = torch.ones(5, 2, requires_grad=True)
    assert distributed.share(rows) is rows and distributed.gather(rows, 5) is rows
    assert distributed.is_first() and distributed.world_size() == 1
    distributed.average_gradients([rows])
    distributed.stop()
