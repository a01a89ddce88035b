"""`python -m fdbpl.predict RUN IMAGE|FOLDER|PATTERN ...`: what a finished run says of pictures.

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
    """The likeliest classes of an image: (class name, probability), the likeliest first."""

    image: str
    classes: list[tuple[str, float]]


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished training run")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image, folder (with all below) or pattern")
    class_names.add_arguments(parser)
    parser.add_argument("--top", type=int, default=5, help="classes to name for each image (default: 5)")
    parser.add_argument("--batch-size", type=int, default=0, help="images at a time (default: the run's test batch)")
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="predictions.csv or predictions.json")
    arguments = parser.parse_args(words)
    with cli_error_handler(interrupted="nothing was written; start again"):
        check(arguments)
        unreadable, count = predict(arguments)
        from fdbpl.io.image_check import named

        if arguments.output:
            print(f"{count - len(unreadable)} of {count} images: {arguments.output}")
        if unreadable:
            beside = arguments.output and arguments.output.with_suffix(".unreadable.txt")
            raise UserError(
                f"expected {count} readable images, found {len(unreadable)} that are not "
                f"({named(dict(unreadable), beside)}); the others are done, replace these"
            )


def check(arguments: argparse.Namespace) -> None:
    if arguments.output and arguments.output.suffix.lower() not in FORMATS:
        raise UserError(f"expected --output to end in {' or '.join(FORMATS)}, found {arguments.output}; rename it")
    for flag, value, least in (("--top", arguments.top, 1), ("--batch-size", arguments.batch_size, 0)):
        if value < least:
            raise UserError(f"expected {flag} of at least {max(least, 1)}, found {value}; give more")


def predict(arguments: argparse.Namespace) -> tuple[list[tuple[str, str]], int]:
    """Write or print every prediction; returns (path, reason) of unreadable images and how many there are in all."""
    names = class_names.chosen(arguments)
    from tqdm import tqdm

    from fdbpl.devices import choose_device
    from fdbpl.engine.trained_run import load_run
    from fdbpl.io.image_files import find_images

    (paths, skipped), unreadable = find_images(arguments.images), []
    if skipped:
        print(one_line(f"Skipped: {skipped}"), file=sys.stderr)
    if names and len(names) == 1:
        raise UserError(f"{names[0]!r} is the only class, so every image would be it with 100 %. Name at least two.")
    run = load_run(arguments.run, choose_device(arguments.device))
    known = class_names.described(names) if names else class_names.described(run.classnames, run.subset, run.dataset)
    print(one_line(known), file=sys.stderr)
    batches = predictions_of(run, paths, names, arguments.top, arguments.batch_size)
    # where the lines go to the screen they are progress enough
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
    """The predictions of a `TrainedRun`, a batch at a time.

    Probabilities are softmax of the logits at the model's scale, in float32.

    Args:
        names: class names in place of the run's. top: classes to keep. batch_size: 0 = the run's test batch.

    Returns:
        for each batch: its number of files, their predictions, and (path, reason) of those that cannot be read.

    Raises:
        UserError: class names that the run cannot serve; in the iteration, a logit that is no finite number.
    """
    from fdbpl.io.image_files import decoded

    names = names or run.classnames
    predict = run.predictor(names)
    warnings.filterwarnings("ignore", module="PIL")  # of odd but readable files
    batch_size = batch_size or run.cfg.DATALOADER.TEST.BATCH_SIZE
    batches = decoded(paths, run.transform, batch_size, side=max(run.cfg.INPUT.SIZE))

    def likeliest(paths: list[str], images) -> list[Prediction]:
        logits = predict(images).float().cpu()
        if not logits.isfinite().all():
            raise UserError(f"expected finite logits from the run in {run.folder}, found others; train it again")
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
    """Where predictions go one by one: a CSV or JSON file that appears when all are done, or the screen."""
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
        with atomic_open(file, errors="backslashreplace") as stream:  # what is no text becomes a JSON escape
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
