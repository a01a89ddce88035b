"""What a profile measures: points, in order. A point has a name of its own and is measured and kept by itself."""

from dataclasses import dataclass
from functools import partial
from itertools import product

ARMS = {
    "a": "KDPL: online teacher, 77 text positions",
    "a_half": "KDPL, teacher in half precision",
    "a_star": "KDPL with our exact text shortcuts (CoOp_KDPL)",
    "b": "the release's recipe: stored labels, image tower, two spaces of 77 positions, loop over pairs",
    "c": "FDBPL, image tower in the step",
    "d": "FDBPL, features looked up",
    "e": "the limit: text work alone",
}


@dataclass(frozen=True)
class Step:
    """One training step of several arms on the same batch. `seconds`: of all arms together, a share for each."""

    student: str = "ViT-B/32"
    teacher: str = "ViT-L/14"
    classes: int = 50
    context: int = 4
    batch: int = 32
    arms: tuple[str, ...] = tuple(ARMS)
    seconds: float = 60.0
    most: int = 7

    @property
    def name(self) -> str:
        return f"step {self.student} {self.teacher} {self.classes} classes context {self.context} batch {self.batch}"


@dataclass(frozen=True)
class Visual:
    """Steps of methods with visual prompts: the region bank (FDBPL_X) beside the online twin (X_KDPL)."""

    student: str = "ViT-B/32"
    teacher: str = "ViT-L/14"
    methods: tuple[str, ...] = ("VPT", "MaPLe", "PromptSRC")
    classes: int = 50
    batch: int = 4
    seconds: float = 12.0
    most: int = 3
    depth: int = 0  # of the prompts; 0 = the method's own
    name = "visual prompts"


@dataclass(frozen=True)
class Evaluation:
    """The test of a first text-only method and of a second one on the same images."""

    student: str = "ViT-B/32"
    teacher: str = "ViT-L/14"
    methods: tuple[str, ...] = ("CoOp", "KgCoOp", "FDBPL")
    classes: int = 50
    name = "evaluation"


@dataclass(frozen=True)
class BankBytes:
    """Bytes of a region in the shards of a bank: embeddings and topk:10."""

    images: int = 40
    regions: int = 50
    classes: int = 50
    name = "bank bytes"


@dataclass(frozen=True)
class Rounding:
    """What float16 embeddings change in teacher logits and region weights."""

    images: int = 64
    classes: int = 50
    name = "rounding"


@dataclass(frozen=True)
class Lookup:
    """Lookups in a bank of random numbers of ImageNet's size: 8 million regions."""

    images: int = 160_000
    per_image: int = 50
    width: int = 64
    batch: int = 32
    lookups: int = 4000
    name = "lookup"


@dataclass(frozen=True)
class Generation:
    """Whole generation beside its teacher alone, which is quick here: the harder case."""

    labelling: str = "ViT-B/32"
    images: int = 2
    per_image: int = 50
    batch: int = 100
    rounds: int = 2
    name = "generation"


@dataclass(frozen=True)
class Pipeline:
    """Regions per second of the pipelines beside the plain DataLoader."""

    regions: tuple[int, ...] = (1, 8)
    size: int = 224
    images: int = 100
    rounds: int = 4
    name = "pipeline"


@dataclass(frozen=True)
class WholeRun:
    """`train.py` on the demo world: to its first step (`starts` times), and FDBPL and its online twin to the end."""

    methods: tuple[str, ...] = ("FDBPL", "CoOp_KDPL")
    epochs: int = 30
    starts: int = 2
    name = "whole run"


@dataclass(frozen=True)
class Profile:
    """`pictures` and `classes`: how many of them there are for all points."""

    points: tuple
    pictures: int
    classes: int


def _full() -> tuple:
    long = partial(Step, seconds=420.0, most=5)
    steps = [long(classes=c, context=m) for m, c in product((4, 16), (10, 50, 100, 500, 1000))]
    towers = product(("RN50", "ViT-B/32", "ViT-B/16"), ("ViT-L/14", "ViT-H/14"))
    steps += [long(student=student, teacher=teacher) for student, teacher in towers]
    steps += [long(batch=batch) for batch in (4, 128)]
    return tuple(dict.fromkeys(steps))  # the reference point is in two sweeps


SMALL = (
    Visual(), Evaluation(), BankBytes(), Rounding(), Lookup(), Generation(), Pipeline(), WholeRun(),
)  # fmt: skip
PROFILES = {
    "quick": Profile(
        (
            Step(arms=tuple(arm for arm in ARMS if arm != "a_half"), seconds=60.0, most=5),
            Step(classes=500, arms=("a", "b", "d"), seconds=60.0, most=2),
            Step(classes=1000, arms=("c", "d"), seconds=30.0, most=2),
            *SMALL,
        ),
        pictures=120,
        classes=1000,
    ),
    "full": Profile((*_full(), *SMALL), pictures=400, classes=1000),
    "tiny": Profile(
        (
            Step("tiny", "tiny teacher", 50, batch=8, seconds=1.0, most=3),
            Step("tiny", "tiny teacher", 500, batch=8, arms=("a", "b", "c", "d", "e"), seconds=1.0, most=2),
            Visual("tiny", "tiny teacher", ("VPT", "MaPLe"), classes=20, seconds=1.0, most=2, depth=2),
            Evaluation("tiny", "tiny teacher", ("CoOp", "KgCoOp"), classes=20),
            BankBytes(images=6, regions=20, classes=20),
            Rounding(images=8, classes=20),
            Lookup(images=200, lookups=50),
            Generation("tiny teacher", images=4, per_image=10, rounds=1),
            Pipeline(regions=(2,), size=32, images=8, rounds=1),
        ),
        pictures=16,
        classes=500,
    ),
}
