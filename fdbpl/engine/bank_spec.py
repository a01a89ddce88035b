"""Specification of the region bank that a training reads."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fdbpl.backbones import Backbone
from fdbpl.regions.generation import GenerationReport, generate
from fdbpl.regions.metadata import BankMetadata


@dataclass
class BankSpec:
    """Arguments of `fdbpl.regions.generate`.

    Attributes:
        root: data root. images: paths of the training images, relative to it.
        bank: folder of the bank. identity: metadata that the bank has or gets.
        teacher: loads the teacher; called only if outputs of the teacher are missing.
        per_image: regions of each image.
        student: loads the student's backbone, if the bank holds its image features as well.
        prompts: texts whose teacher features the bank holds; with "topk:K", the classes of the probabilities.
        pipeline, device, batch_size, workers, dali_device: how the regions are processed.
        second: bank of a second teacher for the same regions.
    """

    root: Path
    images: list[str]
    bank: Path
    identity: BankMetadata
    teacher: Callable[[], Backbone]
    per_image: int
    student: Callable[[], Backbone] | None
    prompts: list[str]
    pipeline: str
    device: str
    batch_size: int
    workers: int
    dali_device: str
    second: "BankSpec | None" = None


def ensure_bank(spec: BankSpec) -> GenerationReport:
    """Generate the missing regions of a bank, after those of a second teacher; nothing that exists is generated again.

    Raises:
        UserError: another bank in the folder, changed or unreadable images, or another teacher.
        SystemFailure: a file cannot be written.
    """
    arguments = dict(vars(spec))
    second = arguments.pop("second")
    if second is not None:
        print(ensure_bank(second))
    return generate(**arguments)
