"""Whole runs of train.py on the demo data sets, from the command to the result."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fdbpl.errors import SystemFailure
from fdbpl.io.atomic import read_json
from fdbpl.protocols.configs import config_folder
from tools.benchmark.profiles import LINEAR_PROBE, Comparison, WholeRun
from tools.benchmark.synthetic_inputs import SyntheticInputs
from tools.benchmark.timing import summary

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class DemoRuns:
    """Runs in folders below `folder` on the base classes of a demo data set, with seed 1 and 16 shots.

    Attributes:
        data: root of the images, which the first run draws.
        dataset: name of a file in configs/datasets.
        config: name of a file in the folder of a trainer's configurations.
    """

    folder: Path
    data: Path
    dataset: str = "demo"
    config: str = "demo"

    def finish(self, trainer: str, output: str, *flags: str, **keys: object) -> float:
        """Run a trainer to its end and return the seconds."""
        begin = time.perf_counter()
        process = self._start(trainer, output, *flags, **keys)
        printed, _ = process.communicate()
        if process.returncode:
            raise SystemFailure(f"{trainer} failed on {self.dataset}: {printed.strip()[-300:]}")
        return time.perf_counter() - begin

    def first_step(self, output: str) -> float:
        """Start FDBPL, stop it after its first step, and return the seconds until then."""
        begin = time.perf_counter()
        process, printed = self._start("FDBPL", output, TRAIN__PRINT_FREQ=1), []
        try:
            for line in process.stdout or ():
                printed.append(line)
                if "epoch [1/" in line:
                    return time.perf_counter() - begin
        finally:
            process.kill()
            process.wait()
        raise SystemFailure(f"train.py ended before its first step on the demo: {''.join(printed[-3:]).strip()}")

    def accuracy(self, output: str) -> float:
        return read_json(self.folder / output / "metrics.json", "the metrics of a run")["accuracy"]

    def _start(self, trainer: str, output: str, *flags: str, **keys: object) -> subprocess.Popen:
        """Start a process; keys have `__` instead of a dot. Every run computes the features of the test images."""
        program = ["-m", "tools.benchmark.linear_probe"] if trainer == LINEAR_PROBE else ["train.py"]
        trainer = "FDBPL" if trainer == LINEAR_PROBE else trainer
        values = {
            "DATASET__SUBSAMPLE_CLASSES": "base",
            "DATASET__NUM_SHOTS": 16,
            "DATASET__FEWSHOT_DIR": self.folder / "few_shot",
            "REGIONS__ROOT": self.folder / "regions",
            "TEST__FEATURE_CACHE_DIR": self.folder / "features" / output,
            **keys,
        }
        command = [
            sys.executable, *program, "--root", str(self.data), "--seed", "1", "--trainer", trainer,
            "--dataset-config-file", f"configs/datasets/{self.dataset}.yaml",
            "--config-file", str(config_folder(trainer) / f"{self.config}.yaml"),
            "--output-dir", str(self.folder / output), *flags,
            *(word for key, value in values.items() for word in (key.replace("__", "."), str(value))),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


def measure_whole_run(inputs: SyntheticInputs, point: WholeRun) -> dict:
    """Measure the seconds of bank generation, of the start until the first step, and of complete runs on the demo."""
    with tempfile.TemporaryDirectory(dir=inputs.folder) as folder:
        demo = DemoRuns(Path(folder), Path(folder, "data"))
        demo.finish("FDBPL", "images", "--no-train")  # draws the images that all runs read
        generation = demo.finish("FDBPL", "bank", "--generate-regions")
        starts = [demo.first_step(f"start{number}") for number in range(point.starts)]
        seconds = {name: demo.finish(name, name, OPTIM__MAX_EPOCH=point.epochs) for name in point.methods}
        accuracy = {name: demo.accuracy(name) for name in seconds}
    return {"generation": generation, "starts": summary(starts), "seconds": seconds, "accuracy": accuracy}


def measure_comparison(inputs: SyntheticInputs, point: Comparison) -> dict:
    """Measure seconds and accuracy of a method's runs.

    Returns:
        "generation", the seconds of the bank that the method reads (0: none); "runs", each with "epochs", "seconds"
        from the command to the accuracy "base" on the base classes, and "new", that of a later test on the new classes
        (None if the method has no classifier for them).
    """
    with tempfile.TemporaryDirectory(dir=inputs.folder) as folder:
        demo = DemoRuns(Path(folder), inputs.folder / "demo", point.dataset, point.config)
        demo.finish("FDBPL", "images", "--no-train")  # draws the images that all runs read
        generation = demo.finish("FDBPL", "bank", "--generate-regions") if point.reads_bank else 0.0
        runs = []
        for epochs in point.epochs:
            trained = f"{epochs}-epochs"
            seconds = demo.finish(point.method, trained, OPTIM__MAX_EPOCH=epochs)
            run = {"epochs": epochs, "seconds": seconds, "base": demo.accuracy(trained), "new": None}
            if point.method != LINEAR_PROBE:
                weights = ("--eval-only", "--model-dir", str(demo.folder / trained))
                demo.finish(point.method, f"{trained}-new", *weights, DATASET__SUBSAMPLE_CLASSES="new")
                run["new"] = demo.accuracy(f"{trained}-new")
            runs.append(run)
    return {"generation": generation, "runs": runs}
