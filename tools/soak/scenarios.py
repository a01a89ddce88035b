"""Commands to disturb: scripts with small settings on the demo data, and a local mirror in place of the network."""

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.data.faulty_server import Server
from tests.data.small_caltech101 import packed, small_caltech101
from tools.soak.killing import Command

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("DATALOADER.TRAIN_X.BATCH_SIZE", 8, "TRAIN.CHECKPOINT_FREQ", 1, "TRAIN.PRINT_FREQ", 1)
FEW = {"SHOTS": "1"}


class Place:
    """The folder of a command (OUTPUT, or the root of data sets) and its environment variables."""

    def __init__(self, folder: Path, data: Path, mirror: str = ""):
        self.folder, self.output, self.data, self.mirror = folder, folder / "output", data, mirror
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        dead = "http://127.0.0.1:9"  # no other machine is reachable
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("FDBPL_", "PYTEST"))},
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), dead),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
            "FDBPL_VENV": sys.prefix,
            "FDBPL_MIRROR": self.mirror,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATA": str(self.data),
            "SYNTHETIC": str(self.data),
            "OUTPUT": str(self.output),
            "OMP_NUM_THREADS": "1",
        }


@dataclass(frozen=True)
class Scenario:
    """A command to disturb.

    Attributes:
        part: kind of work: bank, training, testing, preparation or grid.
        script: file in scripts/.
        arguments, settings: its arguments and environment variables.
        after: a scenario that includes this one; its undisturbed output is the starting point and the expected result.
        draws: starts without the images of the demo.
    """

    part: str
    name: str
    script: str
    arguments: tuple = ()
    settings: dict[str, str] = field(default_factory=dict)
    after: "Scenario | None" = None
    draws: bool = False

    def start(self, place: Place, **settings: str) -> Command:
        arguments = [place.output if word == "OUTPUT" else word for word in self.arguments]
        script = ROOT / "scripts" / self.script
        return Command(["bash", script, *arguments], {**place.environment, **self.settings, **settings}, ROOT)

    def run_undisturbed(self, place: Place) -> None:
        """Run without disturbance."""
        (self.after or self).start(place).succeed()

    def prepare(self, place: Place, undisturbed: Path) -> None:
        """Write what the command needs before it starts.

        Args:
            undisturbed: the output of the undisturbed run.
        """
        if self.after is not None:
            shutil.copytree(undisturbed, place.output)
            shutil.rmtree(place.output / "base2new" / "test_new")
            features = (place.output / "features").rglob("*.safetensors")
            max(features, key=lambda file: file.stat().st_mtime_ns).unlink()  # the features of the last test


def training(
    trainer: str, epochs: int, *overrides: object, name: str = "", script: str = "few_shot.sh", **settings: str
) -> Scenario:
    arguments = ("demo", 1, trainer, "OPTIM.MAX_EPOCH", epochs, *STEPS, "REGIONS.PER_IMAGE", 8, *overrides)
    return Scenario("training", name or trainer, script, arguments, {**FEW, **settings})


BANK = Scenario("bank", "region bank", "generate_regions.sh", ("demo", 1, "FDBPL", "REGIONS.PER_IMAGE", 100), FEW)
FDBPL = training("FDBPL", 30, script="base2new_train.sh")
LABELS = training("CoOp", 10)
ONLINE = training("CoOp_KDPL", 6)
VISUAL = training("FDBPL_MaPLe", 6, STUDENT="demo_vit")
BEST = training("FDBPL", 10, "TEST.FINAL_MODEL", "best_val", name="FDBPL, best epoch")
WORKERS = training("CoOp", 5, "DATALOADER.NUM_WORKERS", 2, name="CoOp, data loaders")
TESTING = Scenario("testing", "FDBPL's test", "base2new_test.sh", FDBPL.arguments, FEW, after=FDBPL)
DRAWING = Scenario(  # no feature cache, because its file names depend on the paths of the images, which differ here
    "preparation", "demo images", "base2new_train.sh", ("demo", 1, "ZeroshotCLIP", "TEST.FEATURE_CACHE_DIR", ""), FEW,
    draws=True,
)  # fmt: skip
CALTECH101 = Scenario("preparation", "Caltech101", "prepare_data.sh", ("caltech101", "--root", "OUTPUT"))
GRID = Scenario(
    "grid", "grid", "compare.sh",
    ("demo", "1", "ZeroshotCLIP CoOp FDBPL", "OPTIM.MAX_EPOCH", 4, "REGIONS.PER_IMAGE", 8),
    {**FEW, "STUDENT": "demo", "JOBS": "2"},
)  # fmt: skip
RANKS = training("FDBPL_MaPLe", 12, name="two processes", STUDENT="demo_vit", NPROC="2")

SCENARIOS = [BANK, FDBPL, LABELS, ONLINE, VISUAL, BEST, WORKERS, TESTING, DRAWING, CALTECH101, GRID, RANKS]


def mirror(pause: float = 0.0) -> tuple[Server, Callable[[], None]]:
    """Serve a small Caltech101 at /mirror with `pause` seconds per 16 KiB; return it and a function to stop it."""
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    images, split = small_caltech101()
    files = {"caltech-101.zip": packed(images), "split_zhou_Caltech101.json": split}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    for name, content in {**files, "SHA256SUMS": sums.encode()}.items():
        server.add(f"/mirror/caltech101/{name}", content, f"slow:{pause}" if pause else "")

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return server, stop
