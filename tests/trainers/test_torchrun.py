"""Several processes give the results of one, up to the order of sums."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fdbpl import distributed
from fdbpl.crops import sample_regions

from .methods import NO_GRADIENT, trained

WORKER = Path(__file__).with_name("torchrun_worker.py")
TRAIN = WORKER.parents[2] / "train.py"
WORDS = ["apple", "bridge", "cloud", "dog", "engine", "flower", "guitar", "house", "island"]
SETTINGS = {
    "CoOp": {"TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.CSC": True, "TRAINER.COOP.N_CTX": 2},  # class-specific
    "CoOp_KDPL": {"TRAINER.KDPL.CLASS_AGNOSTIC": True, "TRAINER.KDPL.K_MAX": 6},  # words of the whole batch
    "TCP": {"OPTIM.NAME": "adam", "OPTIM.LR": 1e-3},
    "FDBPL_KgCoOp": {"REGIONS.CACHE_STUDENT_FEATURES": False},  # the frozen image tower runs in training
    "FDBPL_TCP": {"TRAINER.FDBPL.RANK_WEIGHT": True, "TRAINER.FDBPL.NONE_WEIGHT": 1.0, "TRAINER.FDBPL.GPA": True,
                  "TRAINER.FDBPL.FROZEN_TEXT_WEIGHT": 0.5},
}  # fmt: skip
BATCH_OF_TWO = {"DATALOADER.TRAIN_X.BATCH_SIZE": 2}
# four processes: unequal shares of 5 classes; with a batch of two, two processes have no images
FOUR = {
    "FDBPL": {"TEST.FINAL_MODEL": "best_val", "TEST.COMPUTE_CMAT": True, "MODEL.TEXT_CHUNK": 3},
    "FDBPL_PromptSRC": {"MODEL.TEXT_CHUNK": 1},
    "FDBPL_MaPLe": BATCH_OF_TWO,
    "PromptKD": {},
    "ProGrad": BATCH_OF_TWO,
    "CoCoOp": BATCH_OF_TWO,
}
TOLERANCE = 3e-5  # relative to the distance that a parameter moved; measured: at most 4e-6
AMPLIFIED = 3e-4  # PromptKD's batch norm amplifies rounding; measured: 8e-5 (start moved by one rounding error: 6e-5)


def torchrun(processes: int, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def state_of(trainer) -> dict[str, torch.Tensor]:
    return {f"{part}.{key}": value.clone() for part, module in trainer._models.items()
            for key, value in module.state_dict().items()}  # fmt: skip


@pytest.mark.parametrize("processes", [2, 4])
def test_results_of_several_processes_equal_those_of_one(build, make_cfg, tmp_path, processes):
    words, jobs, expected = tmp_path / "words.txt", tmp_path / "jobs", {}
    words.write_text("\n".join(WORDS))
    jobs.mkdir()
    cases = {name: SETTINGS.get(name, {}) for name in trained()} if processes == 2 else FOUR
    for name, own in cases.items():
        settings = {"OPTIM.MAX_EPOCH": 2, "TRAINER.KDPL.VOCABULARY": str(words), **own}
        trainer = build(name, f"one/{name}", **settings)
        begin = state_of(trainer)
        trainer.train()
        expected[name] = (begin, state_of(trainer), trainer.results)
        if name == "FDBPL":  # the processes generate their bank together
            bank = trainer.supervision.folder
            settings |= {"REGIONS.GENERATE": True, "REGIONS.ROOT": str(tmp_path / "generated")}
        (jobs / f"{name}.yaml").write_text(make_cfg(name, f"several/{name}", **settings).dump())

    run = torchrun(processes, WORKER, jobs)
    assert run.returncode == 0, run.stderr[-3000:]
    for name, (begin, state, results) in expected.items():
        found = load_file(jobs / f"{name}.safetensors")
        assert found.keys() == state.keys()
        tolerance = AMPLIFIED if name.endswith("PromptKD") else TOLERANCE
        for key, value in state.items():
            if key.endswith(NO_GRADIENT):
                continue  # only rounding errors
            moved = (value.float() - begin[key].float()).norm()
            assert (found[key].float() - value.float()).norm() <= tolerance * moved, f"{name} {key}"
        scores = json.loads((jobs / f"{name}.json").read_text())
        assert scores.keys() == results.keys()
        for key in ("accuracy", "error_rate", "macro_f1", "per_class_accuracy"):
            assert scores[key] == pytest.approx(results[key]), f"{name} {key}"
        assert scores["nll"] == pytest.approx(results["nll"], rel=1e-3), name  # continuous, as are the parameters
        assert run.stdout.count(f"Loading trainer: {name}\n") == 1, name  # only the main process prints
    assert "10 images, 0 of them labelled before; 30 regions labelled, 30 student features" in run.stdout
    (manifest,) = (tmp_path / "generated").rglob("manifest.json")
    shards = {file.relative_to(manifest.parent): file for file in manifest.parent.rglob("*regions-*.safetensors")}
    assert {len(name.parts) for name in shards} == {1, 3}  # regions, features
    for name, file in shards.items():
        assert file.read_bytes() == (bank / name).read_bytes(), name


def test_an_error_of_all_processes_is_printed_once(tmp_path):
    files = ["--dataset-config-file", TRAIN.parent / "configs/datasets/caltech101.yaml", "--trainer", "FDBPL"]
    files += ["--config-file", TRAIN.parent / "configs/trainers/FDBPL/demo.yaml"]
    run = torchrun(2, TRAIN, *files, "--root", tmp_path / "absent", "--output-dir", tmp_path / "run")
    assert run.returncode and run.stderr.count("error: ") == 1 and "the data root" in run.stderr, run.stderr
    assert "terminate called" not in run.stderr and not (tmp_path / "run" / "done.json").exists()


def test_an_error_of_one_process_stops_all(build, make_cfg, data_root, tmp_path):
    """After the generation of the bank, an image breaks in the second process's share of the first batch."""
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    images = [item.impath for item in build("FDBPL_MaPLe", "one").dm.dataset.train_x]
    (jobs / "job.yaml").write_text(make_cfg("FDBPL_MaPLe", "several").dump())
    order, _ = sample_regions(len(images), 3, 0, 1)
    broken = Path(images[order[2]])
    content = broken.read_bytes()
    broken.write_bytes(content[:40])
    try:
        run = torchrun(2, WORKER, jobs)
    finally:
        broken.write_bytes(content)
    assert run.returncode and run.stderr.count("error: ") == 1 and broken.name in run.stderr, run.stderr
    assert "RuntimeError" not in run.stderr and "terminate called" not in run.stderr


@pytest.mark.gpu
def test_more_processes_than_gpus(tmp_path):
    run = torchrun(torch.cuda.device_count() + 1, TRAIN, "--trainer", "ZeroshotCLIP", "--output-dir", tmp_path / "run",
                   "--dataset-config-file", TRAIN.parent / "configs/datasets/demo.yaml")  # fmt: skip
    assert run.returncode and run.stderr.count("error: ") == 1 and "GPU" in run.stderr, run.stderr


def test_a_process_that_never_starts_is_an_error_after_the_timeout(tmp_path):
    """Uses a timeout of a second instead of a week."""
    code = (
        "from fdbpl import distributed, errors\n"
        "assert distributed.TIMEOUT.days >= 1\n"
        "distributed.TIMEOUT /= 7 * 24 * 3600\n"
        "with errors.cli_error_handler():\n"
        "    distributed.start(use_gpu=False)\n"
    )
    begin = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=TRAIN.parent, capture_output=True, text=True, timeout=100,
        env={**os.environ, "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"},
    )  # fmt: skip
    assert run.returncode == 1 and time.monotonic() - begin < 60, run.stderr
    assert "error: The processes of torchrun cannot connect to each other" in run.stderr, run.stderr


def test_one_process_without_torchrun():
    rows = torch.ones(5, 2, requires_grad=True)
    assert distributed.shard(rows) is rows and distributed.gather(rows, 5) is rows
    assert distributed.is_main_process() and distributed.world_size() == 1 and distributed.broadcast_from_main(3) == 3
    distributed.average_gradients([rows])
    distributed.stop()
