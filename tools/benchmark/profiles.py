"""Profiles: lists of points. A point has a unique name and is measured and stored independently of the others."""

from dataclasses import dataclass
from itertools import product

VARIANTS = {
    "a": "KDPL: online teacher, 77 text positions",
    "a_half": "KDPL, teacher in half precision",
    "a_star": "CoOp_KDPL: KDPL with our exact text encoder",
    "b": "recipe of FDBPL's release: stored labels, image encoder, two spaces of 77 positions, loop over pairs",
    "c": "FDBPL, image encoder in the step",
    "d": "FDBPL, stored image features",
    "e": "lower bound: text encoding alone",
}


@dataclass(frozen=True)
class Step:
    """Training steps of several variants on the same batch."""

    student: str = "ViT-B/32"
    teacher: str = "ViT-L/14"
    classes: int = 50
    context: int = 4
    batch: int = 32
    variants: tuple[str, ...] = tuple(VARIANTS)
    rounds: int = 3

    @property
    def name(self) -> str:
        return f"step {self.student} {self.teacher} {self.classes} classes context {self.context} batch {self.batch}"


@dataclass(frozen=True)
class Visual:
    """Training steps of methods with visual prompts: the FDBPL variant and the KDPL variant (online teacher)."""

    student: str = "ViT-B/32"
    teacher: str = "ViT-L/14"
    methods: tuple[str, ...] = ("VPT", "MaPLe", "PromptSRC")
    classes: int = 50
    batch: int = 4
    rounds: int = 3
    depth: int = 0  # of the prompts; 0: the default of the method
    name = "visual prompts"


@dataclass(frozen=True)
class Evaluation:
    """Tests of several text-only methods on the same images."""

    student: str = "ViT-B/32"
    teacher: str = "ViT-L/14"
    methods: tuple[str, ...] = ("CoOp", "KgCoOp", "FDBPL")
    classes: int = 50
    name = "evaluation"


@dataclass(frozen=True)
class BankBytes:
    """Bytes per region of a bank: embeddings and topk:10."""

    images: int = 40
    regions: int = 50
    classes: int = 50
    name = "bank bytes"


@dataclass(frozen=True)
class Rounding:
    """Error of float16 embeddings in teacher logits and region weights."""

    images: int = 64
    classes: int = 50
    name = "rounding"


@dataclass(frozen=True)
class Lookup:
    """Lookups in a bank of random numbers of the size of ImageNet: 8 million regions."""

    images: int = 160_000
    per_image: int = 50
    width: int = 64
    batch: int = 32
    lookups: int = 4000
    name = "lookup"


@dataclass(frozen=True)
class Generation:
    """Generation of a bank compared with its teacher alone, which is harder for fast teachers."""

    teacher: str = "ViT-B/32"
    images: int = 2
    per_image: int = 50
    batch: int = 100
    rounds: int = 2
    name = "generation"


@dataclass(frozen=True)
class Pipeline:
    """Regions per second of the pipelines, compared with the plain DataLoader."""

    regions: tuple[int, ...] = (1, 8)
    size: int = 224
    images: int = 100
    rounds: int = 4
    name = "pipeline"


@dataclass(frozen=True)
class WholeRun:
    """train.py on the demo: `starts` starts until the first step, and complete runs of FDBPL and its KDPL variant."""

    methods: tuple[str, ...] = ("FDBPL", "CoOp_KDPL")
    epochs: int = 30
    starts: int = 2
    name = "whole run"


@dataclass(frozen=True)
class Profile:
    """A list of points, and the number of images and class names that they share."""

    points: tuple
    images: int
    classes: int


def _full() -> tuple:
    steps = [Step(classes=c, context=m) for m, c in product((4, 16), (10, 50, 100, 500, 1000))]
    towers = product(("RN50", "ViT-B/32", "ViT-B/16"), ("ViT-L/14", "ViT-H/14"))
    steps += [Step(student=student, teacher=teacher) for student, teacher in towers]
    steps += [Step(batch=batch) for batch in (4, 128)]
    return tuple(dict.fromkeys(steps))  # some points occur in two sweeps


SMALL = (
    Visual(), Evaluation(), BankBytes(), Rounding(), Lookup(), Generation(), Pipeline(), WholeRun(),
)  # fmt: skip
PROFILES = {
    "quick": Profile(
        (
            Step(variants=tuple(name for name in VARIANTS if name != "a_half")),
            Step(classes=500, variants=("a", "b", "d", "e")),
            Step(classes=1000, variants=("c", "d")),
            *SMALL,
        ),
        images=120,
        classes=1000,
    ),
    "full": Profile((*_full(), *SMALL), images=400, classes=1000),
    "tiny": Profile(
        (
            Step("tiny", "tiny teacher", 50, batch=8, rounds=2),
            Step("tiny", "tiny teacher", 500, batch=8, variants=("a", "b", "c", "d", "e"), rounds=1),
            Visual("tiny", "tiny teacher", ("VPT", "MaPLe"), classes=20, rounds=1, depth=2),
            Evaluation("tiny", "tiny teacher", ("CoOp", "KgCoOp"), classes=20),
            BankBytes(images=6, regions=20, classes=20),
            Rounding(images=8, classes=20),
            Lookup(images=200, lookups=50),
            Generation("tiny teacher", images=4, per_image=10, rounds=1),
            Pipeline(regions=(2,), size=32, images=8, rounds=1),
        ),
        images=16,
        classes=500,
    ),
}
