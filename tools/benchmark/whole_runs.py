"""`train.py` as users start it, on the demo world: the way to its first step, and whole runs."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fdbpl.engine.registry import CHECKOUT
from fdbpl.errors import SystemFailure
from fdbpl.io.atomic import read_json
from tools.benchmark.profiles import WholeRun
from tools.benchmark.synthetic_inputs import World

CONFIGS = {"FDBPL": "FDBPL", "CoOp_KDPL": "CoOp"}  # folder of a trainer's configurations


def measure_whole_run(world: World, point: WholeRun) -> dict:
    """Seconds of making the bank, of the way to a first step, and of each trainer's run from its call to its end."""
    if not (CHECKOUT / "train.py").is_file():
        return {"error": "not measured: the benchmark was not run from a checkout"}
    with tempfile.TemporaryDirectory(dir=world.folder) as folder:
        train_py = TrainPy(folder)
        train_py.finish("FDBPL", "drawn", "--no-train")  # the demo world's pictures, which all read
        generation = train_py.finish("FDBPL", "made", "--generate-regions")
        starts = [train_py.first_step(f"start{number}") for number in range(point.starts)]
        seconds = {name: train_py.finish(name, name, "OPTIM.MAX_EPOCH", str(point.epochs)) for name in point.methods}
        accuracy = {
            name: read_json(Path(folder, name, "metrics.json"), "the metrics of a run")["accuracy"]
            for name in point.methods
        }
    return {"generation": generation, "starts": starts, "seconds": seconds, "accuracy": accuracy}


class TrainPy:
    """`train.py` on the base classes of the demo world, everything that it writes below `folder`."""

    def __init__(self, folder: str):
        self.folder = folder

    def finish(self, trainer: str, output: str, *more: str) -> float:
        """Seconds of a whole call."""
        begin = time.perf_counter()
        process = self._start(trainer, output, *more)
        said, _ = process.communicate()
        if process.returncode:
            raise SystemFailure(f"expected train.py to end well on the demo world, found: {said.strip()[-300:]}")
        return time.perf_counter() - begin

    def first_step(self, output: str) -> float:
        """Seconds to the line of the first step; the call is ended there."""
        begin = time.perf_counter()
        process, said = self._start("FDBPL", output, "TRAIN.PRINT_FREQ", "1"), []
        try:
            for line in process.stdout or ():
                said.append(line)
                if "epoch [1/" in line:
                    return time.perf_counter() - begin
        finally:
            process.kill()
            process.wait()
        raise SystemFailure(f"expected train.py to reach a step on the demo world, found: {''.join(said[-3:]).strip()}")

    def _start(self, trainer: str, output: str, *more: str) -> subprocess.Popen:
        flags = [flag for flag in more if flag.startswith("--")]
        keys = [key for key in more if not key.startswith("--")]
        at = self.folder
        command = [
            sys.executable, "train.py", "--root", f"{at}/data", "--seed", "1", "--trainer", trainer,
            "--dataset-config-file", "configs/datasets/demo.yaml",
            "--config-file", f"configs/trainers/{CONFIGS[trainer]}/demo.yaml",
            "--output-dir", f"{at}/{output}", *flags, "REGIONS.ROOT", f"{at}/regions",
            "DATASET.FEWSHOT_DIR", f"{at}/few_shot", "DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", "base",
            "TEST.FEATURE_CACHE_DIR", f"{at}/features/{output}", *keys,
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
