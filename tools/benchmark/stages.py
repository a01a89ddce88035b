"""What stands beside the step in every run: tests, and pipelines."""

import contextlib
import io
import tempfile
from argparse import Namespace

from tools.benchmark.profiles import Evaluation, Pipeline
from tools.benchmark.synthetic_inputs import FOLDER, World
from tools.measure_pipelines import measure


def measure_evaluation(world: World, point: Evaluation) -> dict:
    """Seconds of each method's test in turn; the first finds no features of the test images."""
    seconds = {}
    with tempfile.TemporaryDirectory(dir=world.folder) as features:
        for method in point.methods:
            cfg = world.config(method, point.student, point.teacher, point.classes, 4, FEATURES__ROOT=features)
            trainer = world.built(cfg)
            with contextlib.redirect_stdout(io.StringIO()):
                trainer.test()
            seconds[method] = trainer.seconds["test"]
    return {"images": len(world.paths), "seconds": seconds}


def measure_pipeline(world: World, point: Pipeline) -> dict:
    """Regions per second of each way to decode that is installed, by how many regions of an image come in a row."""
    root = world.root / FOLDER if (world.root / FOLDER).is_dir() else world.root
    settings = Namespace(
        root=root, images=point.images, size=point.size, batch=64, rounds=point.rounds, device=world.device
    )
    rates = {}
    for count in point.regions:
        with contextlib.redirect_stdout(io.StringIO()):
            rates[str(count)] = measure(settings, count)
    return {"rates": rates}
