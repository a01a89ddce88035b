"""Projection of ImageNet with 16 shots to many jobs, from measured parts."""

from dataclasses import dataclass

from tools.benchmark.targets import all_of_kind, median, of_kind, scaled_step

SHOTS, CLASSES, REGIONS, EPOCHS, RUNS = 16, 1000, 50, 50, 3  # RUNS: one training for each of three seeds
ASSUMPTIONS = (
    "All jobs of an array run at once at the speed measured here for one, each on a machine of its own, and none waits "
    "for the queue or for the file system. A job of the bank labels an equal share of the images; a job of training is "
    "one run, so more jobs than runs do not shorten training."
)


@dataclass(frozen=True)
class Parts:
    """Measured seconds: of labelling a region, of a training step, of the start until the first step."""

    region: float
    step: float
    start: float
    batch: int


def measured_parts(record: dict) -> Parts | None:
    """Return the parts that a record of the profile `scale` holds; None if one is missing."""
    sample, banks = of_kind(record, "GenerationSample"), all_of_kind(record, "ImageNetBank")
    bank = next((bank for bank in banks if bank["point"]["per_image"] == REGIONS), None)
    step = scaled_step(record, CLASSES)
    if not (sample and bank and step):
        return None
    region = 1 / sample["rates"]["generation"]["median"]
    return Parts(region, median(step), step["start_seconds"] + bank["open_seconds"], step["point"]["batch"])


def array_hours(parts: Parts, jobs: int) -> tuple[float, float]:
    """Return the hours until the bank and then all trainings are finished by an array of `jobs` jobs (ASSUMPTIONS)."""
    images = SHOTS * CLASSES
    bank = parts.start + -(-images // jobs) * REGIONS * parts.region
    training = -(-RUNS // jobs) * (parts.start + images // parts.batch * EPOCHS * parts.step)
    return bank / 3600, training / 3600
