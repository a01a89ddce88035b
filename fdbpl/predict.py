"""Classify images with a trained run: `python -m fdbpl.predict RUN IMAGE|FOLDER|PATTERN ...`.

python -m fdbpl.predict output/train_all/demo/shots_16/FDBPL/demo/seed1 photo.jpg
python -m fdbpl.predict RUN photos --classes 'cat,dog,"horse, from behind"' --output predictions.csv
"""

import argparse
import csv
import json
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fdbpl import class_names
from fdbpl.errors import UserError, cli_error_handler, one_line
from fdbpl.io.atomic import atomic_open

FORMATS = (".csv", ".json")


class Prediction(NamedTuple):
    """The most likely classes of an image as (class name, probability), in descending order."""

    image: str
    classes: list[tuple[str, float]]


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished training run")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image, folder (searched recursively) or pattern")
    class_names.add_arguments(parser)
    parser.add_argument("--top", type=int, default=5, help="classes per image (default: 5)")
    parser.add_argument("--batch-size", type=int, default=0, help="batch size (default: the run's for tests)")
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if available)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="predictions.csv or predictions.json")
    arguments = parser.parse_args(words)
    with cli_error_handler(interrupted="nothing was written; run the command again"):
        check(arguments)
        unreadable, count = predict(arguments)
        from fdbpl.io.image_check import list_unreadable

        if arguments.output:
            print(f"{count - len(unreadable)} of {count} images: {arguments.output}")
        if unreadable:
            listing = arguments.output and arguments.output.with_suffix(".unreadable.txt")
            raise UserError(
                f"{len(unreadable)} of {count} images cannot be read ({list_unreadable(dict(unreadable), listing)}). "
                "The others are classified; replace these"
            )


def check(arguments: argparse.Namespace) -> None:
    if arguments.output and arguments.output.suffix.lower() not in FORMATS:
        raise UserError(f"--output {arguments.output} must end in {' or '.join(FORMATS)}; rename it")
    for flag, value, least in (("--top", arguments.top, 1), ("--batch-size", arguments.batch_size, 0)):
        if value < least:
            raise UserError(f"{flag} is {value}; give at least {max(least, 1)}")


def predict(arguments: argparse.Namespace) -> tuple[list[tuple[str, str]], int]:
    """Write or print all predictions; return (path, reason) of unreadable images, and the number of all images."""
    names = class_names.parse_classnames(arguments)
    from tqdm import tqdm

    from fdbpl.devices import choose_device
    from fdbpl.engine.trained_run import load_run
    from fdbpl.io.image_files import find_images

    (paths, skipped), unreadable = find_images(arguments.images), []
    if skipped:
        print(one_line(f"Skipped: {skipped}"), file=sys.stderr)
    if names and len(names) == 1:
        raise UserError(f"{names[0]!r} is the only class, so its probability is always 100 %. Give at least two.")
    run = load_run(arguments.run, choose_device(arguments.device))
    known = class_names.describe(names) if names else class_names.describe(run.classnames, run.subset, run.dataset)
    print(one_line(known), file=sys.stderr)
    batches = predictions_of(run, paths, names, arguments.top, arguments.batch_size)
    # predictions printed to a terminal show the progress themselves
    quiet = None if arguments.output or not sys.stdout.isatty() else True
    with destination(arguments.output) as put, tqdm(total=len(paths), unit="image", disable=quiet) as progress:
        for done, predictions, failed in batches:
            for prediction in predictions:
                put(prediction)
            unreadable += failed
            progress.update(done)
    return unreadable, len(paths)


def predictions_of(
    run, paths: list[str], names: list[str] | None = None, top: int = 5, batch_size: int = 0
) -> Iterator[tuple[int, list[Prediction], list[tuple[str, str]]]]:
    """Yield the predictions of a `TrainedRun` batch by batch.

    Probabilities are the softmax of the scaled logits in float32.

    Args:
        names: class names that replace those of the run.
        top: number of classes per image.
        batch_size: 0 stands for the batch size of the run's test.

    Yields:
        Number of files in the batch, their predictions, and (path, reason) of unreadable files.

    Raises:
        UserError: the run cannot serve these class names, or a logit is NaN or infinite.
    """
    from fdbpl.io.image_files import decoded

    names = names or run.classnames
    predict = run.predictor(names)
    warnings.filterwarnings("ignore", module="PIL")  # about unusual but readable files
    batch_size = batch_size or run.cfg.DATALOADER.TEST.BATCH_SIZE
    batches = decoded(paths, run.transform, batch_size, side=max(run.cfg.INPUT.SIZE), decoding=run.decoding)

    def likeliest(paths: list[str], images) -> list[Prediction]:
        logits = predict(images).float().cpu()
        if not logits.isfinite().all():
            raise UserError(f"the logits of the run in {run.folder} contain NaN or Inf; train it again")
        order = logits.sort(dim=-1, descending=True, stable=True).indices[:, :top]
        chances = logits.softmax(dim=-1).gather(1, order)
        return [
            Prediction(path, [(names[label], chance) for label, chance in zip(*row, strict=True)])
            for path, *row in zip(paths, order.tolist(), chances.tolist(), strict=True)
        ]

    return (
        (len(paths) + len(unreadable), likeliest(paths, images) if paths else [], unreadable)
        for paths, images, unreadable in batches
    )


@contextmanager
def destination(file: Path | None) -> Iterator[Callable[[Prediction], object]]:
    """A function that writes one prediction: to a CSV or JSON file, which appears at the end, or to stdout."""
    if file is None:
        yield lambda prediction: print(f"{prediction.image}: {', '.join(map(percent, prediction.classes))}")
    elif file.suffix.lower() == ".csv":
        with atomic_open(file, errors="surrogateescape") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(["image", "rank", "class", "probability"])
            yield lambda prediction: table.writerows(
                [prediction.image, rank, name, f"{chance:.8g}"]
                for rank, (name, chance) in enumerate(prediction.classes, start=1)
            )
    else:
        with atomic_open(file, errors="backslashreplace") as stream:  # undecodable file names become JSON escapes
            separators = iter(["\n"])
            stream.write("[")
            yield lambda prediction: stream.write(next(separators, ",\n") + as_json(prediction)) and None
            stream.write("\n]\n")


def percent(pair: tuple[str, float]) -> str:
    name, chance = pair
    return f"{name} {100 * chance:.1f} %"


def as_json(prediction: Prediction) -> str:
    classes = [{"class": name, "probability": float(f"{chance:.8g}")} for name, chance in prediction.classes]
    return json.dumps({"image": prediction.image, "classes": classes}, ensure_ascii=False)


if __name__ == "__main__":
    main()
