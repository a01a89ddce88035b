"""Profiles: lists of points. A point has a unique name and is measured and stored independently of the others."""

from dataclasses import dataclass
from itertools import product

VARIANTS = {
    "a": "KDPL: online teacher, 77 text positions",
    "a_official": "KDPL's own code (miccunifi/KDPL), as (a)",
    "a_half": "KDPL, teacher in half precision",
    "a_star": "CoOp_KDPL: KDPL with our exact text encoder",
    "b": "recipe of FDBPL's release: stored labels, image encoder, two spaces of 77 positions, loop over pairs",
    "b_official": "the own code of FDBPL's release (negan7879/FDBPL), as (b)",
    "c": "FDBPL, image encoder in the step",
    "d": "FDBPL, stored image features",
    "e": "lower bound: text encoding alone",
}
REWRITES = {"a": "kdpl", "b": "fdbpl"}  # our rewrite of `<name>_official`: the checkout with that official code
OURS = tuple(name for name in VARIANTS if not name.endswith("_official"))


@dataclass(frozen=True)
class Step:
    """Training steps of several variants on the same batch, without those whose checkout is not given."""

    student: str = "ViT-B/32"
    teacher: str = "ViT-L/14"
    classes: int = 50
    context: int = 4
    batch: int = 32
    variants: tuple[str, ...] = OURS
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

    @property
    def name(self) -> str:
        return f"lookup of {self.per_image} regions of {self.images} images"


@dataclass(frozen=True)
class ImageNetBank(Lookup):
    """A bank of random numbers of the size of 16 shots of ImageNet with the embeddings of ViT-L/14."""

    images: int = 16_000
    width: int = 768
    lookups: int = 1000


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
class GenerationSample(Generation):
    """Generation of a few regions with a large teacher."""

    teacher: str = "ViT-L/14"
    per_image: int = 8
    batch: int = 16
    rounds: int = 1
    name = "generation sample"


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


LINEAR_PROBE = "linear probe"
_EPOCHS = (2, 5, 10, 20, 30)  # not 1: the first epoch is the warm-up
COMPARED = {  # method: epochs of its runs; the last is that of its configuration
    LINEAR_PROBE: (1, 10, 50),
    "CoOp": _EPOCHS,
    "KgCoOp": _EPOCHS,
    "PromptSRC": (2, 5, 10),
    "CoOp_KDPL": _EPOCHS,
    "FDBPL": _EPOCHS,
}


@dataclass(frozen=True)
class Comparison:
    """Runs of a method on a demo data set with schedules of several lengths, from the command to the accuracy.

    Attributes:
        epochs: of each run; of a linear probe: regions of each image.
    """

    method: str
    dataset: str = "demo"
    epochs: tuple[int, ...] = _EPOCHS
    config: str = "demo_vit"

    @property
    def name(self) -> str:
        return f"runs of {self.method} on {self.dataset}"

    @property
    def reads_bank(self) -> bool:
        return self.method.startswith("FDBPL") or self.method == LINEAR_PROBE


@dataclass(frozen=True)
class ScaledStep:
    """Training steps of FDBPL with stored image features in processes of their own.

    Attributes:
        chunk: prompts that pass the text encoder at a time (MODEL.TEXT_CHUNK), 0: all.
    """

    classes: int = 200
    context: int = 4
    batch: int = 32
    chunk: int = 0
    processes: int = 1
    student: str = "ViT-B/32"
    rounds: int = 3

    @property
    def name(self) -> str:
        return (
            f"scaled step {self.classes} classes context {self.context} batch {self.batch} chunk {self.chunk} "
            f"processes {self.processes}"
        )


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
    "runs": Profile(
        tuple(
            Comparison(method, dataset, epochs)
            for dataset in ("demo", "demo_hard")
            for method, epochs in COMPARED.items()
        ),
        images=1,
        classes=1,
    ),
    "scale": Profile(
        (
            *(ScaledStep(classes) for classes in (50, 100, 200, 500, 1000)),
            ScaledStep(1000, chunk=250),
            *(ScaledStep(context=context) for context in (8, 16)),
            *(ScaledStep(batch=batch) for batch in (8, 128)),
            *(ScaledStep(500, processes=processes) for processes in (2, 4)),
            *(ImageNetBank(per_image=regions) for regions in (10, 25, 50)),
            GenerationSample(),
        ),
        images=128,
        classes=1000,
    ),
    "official": Profile(
        (
            Step(variants=("a", "a_official", "b", "b_official")),
            Step(teacher="ViT-B/32", classes=10, batch=4, variants=("a", "a_official", "b", "b_official"), rounds=5),
        ),
        images=120,
        classes=50,
    ),
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
            *(ScaledStep(20, chunk=chunk, batch=4, student="tiny", rounds=1) for chunk in (0, 8)),
            ScaledStep(20, batch=4, processes=2, student="tiny", rounds=1),
            ImageNetBank(images=20, lookups=50),
            GenerationSample("tiny teacher"),
        ),
        images=16,
        classes=500,
    ),
}
