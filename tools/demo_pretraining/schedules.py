"""Schedules and data of the pre-training of the demo's CLIP models."""

from dataclasses import dataclass

from tools.demo_pretraining.captions import CaptionStyle


@dataclass(frozen=True)
class Phase:
    """A training phase with a cosine schedule.

    Attributes:
        workshop_share: fraction of the scenes with an object that show its workshop form.
        noise: standard deviation of the noise on token embeddings.
        no_weight: weight of the `no X` loss.
    """

    steps: int
    rate: float
    style: CaptionStyle
    workshop_share: float
    seed: int
    noise: float = 0.0
    no_weight: float = 0.0
    batch: int = 40
    pool: int = 20_000
    warmup: int = 80


STUDENT_PHASES = [
    Phase(steps=3000, rate=2.5e-3, style=CaptionStyle(generic=0.5), workshop_share=0.14, seed=1),
    Phase(
        steps=900,
        rate=1.2e-3,
        style=CaptionStyle(generic=0.1, graded=(0.25, 0.16)),
        workshop_share=0.14,
        seed=2,
        noise=0.03,
        no_weight=0.3,
    ),
]
TEACHER_PHASES = [
    Phase(steps=4000, rate=2.5e-3, style=CaptionStyle(generic=0.25), workshop_share=0.40, seed=3, pool=40_000)
]
VIT_PHASE = Phase(
    steps=5000, rate=1e-3, style=CaptionStyle(0.5), workshop_share=0.30, seed=4, batch=64, pool=60_000, warmup=200
)
