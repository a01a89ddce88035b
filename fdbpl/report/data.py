"""Data sets of the runs: classes, prompts and images."""

from collections import defaultdict
from dataclasses import dataclass

from fdbpl.report.protocols import sort_datasets
from fdbpl.report.runs import Run, printable
from fdbpl.runs.environment import part_of


@dataclass(frozen=True)
class DataSet:
    """The classes and images of a data set that some runs have in common.

    Attributes:
        half: of the classes: all, base or new.
        train_images: numbers of training images by shots; -1 shots = all images.
        test_images: None where it was not recorded.
        digest: first digits of the SHA-256 of the tested images' paths and labels.
        left_out: reasons by path of unreadable images that DATASET.SKIP_UNREADABLE left out.
        skipped: counts of the files of custom data that are not used, by reason.
    """

    name: str
    half: str
    classnames: list[str]
    template: str
    train_images: dict[int, list[int]]
    test_images: int | None
    digest: str
    left_out: dict[str, str]
    skipped: str


def datasets_of(runs: list[Run]) -> list[DataSet]:
    """Data sets of the finished runs; several of one name where their classes, template or test images differ."""
    groups = defaultdict(list)
    for run in runs:
        if run.finished and run.exact:
            facts = run.facts
            template = str(part_of(run.metrics, "protocol").get("template") or "")
            key = (tuple(map(str, run.classnames)), template, facts["test images"], facts["digest of test images"])
            groups[run.dataset, run.classes, key].append(run)
    names = sort_datasets(name for name, _, _ in groups)
    ordered = sorted(groups.items(), key=lambda item: (names.index(item[0][0]), item[0][1], str(item[0][2][1:])))
    return [_describe(*key, members) for key, members in ordered]


def _describe(name: str, half: str, facts: tuple, runs: list[Run]) -> DataSet:
    classnames, template, images, digest = facts
    train: dict[int, set[int]] = defaultdict(set)
    left_out: dict[str, str] = {}
    for run in runs:
        if not run.tested and (count := run.numbers.get("protocol.train_images")):
            train[run.shots].add(int(count))
        found = part_of(run.metrics, "left_out").get("images")
        if isinstance(found, dict):
            left_out |= {printable(str(path)): printable(str(reason)) for path, reason in found.items()}
    logs = (log for run in runs if run.config.get("DATASET.NAME") == "Folder" for log in run.logs())
    return DataSet(
        name,
        half,
        [printable(one) for one in classnames],
        printable(template),
        {shots: sorted(counts) for shots, counts in sorted(train.items())},
        int(images) if images else None,
        digest or "",
        left_out,
        next((printable(log.skipped) for log in logs if log.skipped), ""),
    )
