"""Classify images with a trained run: `python -m fdbpl.predict RUN IMAGE|FOLDER|PATTERN ...`.

python -m fdbpl.predict output/train_all/demo/shots_16/FDBPL/demo/seed1 photo.jpg
python -m fdbpl.predict RUN photos --classes 'cat,dog,"horse, from behind"' --output predictions.csv
python -m fdbpl.predict RUN photos --labels photos.csv --output predictions.parquet   # compare with known classes
"""

import argparse
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

from fdbpl import class_names
from fdbpl.errors import RESUME_HINT, UserError, cli_error_handler, enumerated, one_line
from fdbpl.prediction_files import FORMATS, Prediction, UnfinishedPredictions, check_format, write_predictions


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished training run")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image, folder (searched recursively) or pattern")
    class_names.add_arguments(parser)
    parser.add_argument("--labels", metavar="DATA", help="compare with the classes in a class folder, CSV or JSON")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes per image (default: 5)")
    add_device_arguments(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"file of the predictions ({', '.join(FORMATS)}); resumable"
    )
    arguments = parser.parse_args(words)
    with cli_error_handler(interrupted=RESUME_HINT if arguments.output else "run the command again"):
        if arguments.output:
            check_format(arguments.output)
        if arguments.top < 1:
            raise UserError(f"--top is {arguments.top}; give at least 1")
        check_batch_size(arguments.batch_size)
        predict(arguments)


def add_device_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, default=0, metavar="N", help="batch size (default: the run's)")
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if available)")


def check_batch_size(size: int) -> None:
    if size < 0:
        raise UserError(f"--batch-size is {size}; give at least 1")


def predict(arguments: argparse.Namespace) -> None:
    """Predict all images, print or write the predictions, and compare them with known labels.

    Raises:
        UserError: an argument is invalid, or some images cannot be read; the others are predicted.
    """
    names = class_names.parse_classnames(arguments)
    from tqdm import tqdm

    from fdbpl.devices import choose_device
    from fdbpl.engine.trained_run import load_run
    from fdbpl.io.image_files import find_images

    paths, skipped = find_images(arguments.images)
    if skipped:
        print(one_line(f"Skipped: {skipped}"), file=sys.stderr)
    if names and len(names) == 1:
        raise UserError(f"{names[0]!r} is the only class, so its probability is always 100 %. Give at least two.")
    run = load_run(arguments.run, choose_device(arguments.device))
    known = class_names.describe(names) if names else class_names.describe(run.classnames, run.subset, run.dataset)
    print(one_line(known), file=sys.stderr)
    names = names or run.classnames
    labels = known_labels(arguments.labels, paths, names) if arguments.labels else None
    batch_size = arguments.batch_size or run.cfg.DATALOADER.TEST.BATCH_SIZE
    tally = Tally(labels or {})
    with open_unfinished(arguments, run, names, paths, batch_size) if arguments.output else nullcontext() as saved:
        done = saved.done if saved else 0
        # predictions printed to a terminal show the progress themselves
        quiet = None if saved or not sys.stdout.isatty() else True
        with tqdm(total=len(paths), initial=done, unit="image", disable=quiet) as progress:
            for batch in predict_images(run, paths[done:], names, arguments.top, batch_size):
                if saved:
                    saved.add(batch)
                else:
                    print("".join(f"{describe(one)}\n" for one in batch if not one.unreadable), end="")
                    tally.add(batch)
                progress.update(len(batch))
        if saved:
            tally.add(saved)
            write_predictions(arguments.output, saved, labels, run.rejects)
            saved.delete()
            print(f"{len(paths) - len(tally.unreadable)} of {len(paths)} images: {arguments.output}")
    if labels is not None:
        unlabelled = len(paths) - len(labels)
        more = f"; {unlabelled} images have no label" if unlabelled else ""
        print(one_line(f"Compared with {arguments.labels}: {tally.summary(names)}{more}"))
    check_readable(tally.unreadable, len(paths), arguments.output)


def predict_images(run, paths: list[str], names: list[str], top: int, batch_size: int) -> Iterator[list[Prediction]]:
    """Yield the predictions of a `TrainedRun` batch by batch, in the order of `paths`.

    Probabilities are the softmax of the scaled logits in float32.

    Args:
        names: class names, those of the run or others.
        top: number of classes per image.

    Raises:
        UserError: the run cannot serve these class names, or a logit is NaN or infinite.
    """
    start = 0
    for readable, logits, unreadable, none in run.classify(paths, names, batch_size):
        order = logits.sort(dim=-1, descending=True, stable=True).indices[:, :top]
        probabilities = logits.softmax(dim=-1).gather(1, order)
        predicted = {path: Prediction(path, [], reason) for path, reason in unreadable}
        rows = zip(readable, order.tolist(), probabilities.tolist(), none or [None] * len(readable), strict=True)
        for path, labels, row, p_none in rows:
            classes = [(names[label], p) for label, p in zip(labels, row, strict=True)]
            predicted[path] = Prediction(path, classes, none=p_none)
        yield [predicted[path] for path in paths[start : start + len(predicted)]]
        start += len(predicted)


def open_unfinished(
    arguments: argparse.Namespace, run, names: list[str], paths: list[str], batch_size: int
) -> UnfinishedPredictions:
    """Open the file of predictions that the same command may have left unfinished, and print how many it holds."""
    identity = {
        "run": str(run.folder.resolve()),
        "finished": (run.folder / "done.json").stat().st_mtime_ns,
        "device": str(run.device),
        "classes": names,
        "top": arguments.top,
        "batch_size": batch_size,
    }
    saved = UnfinishedPredictions(arguments.output, identity, paths, batch_size)
    if saved.done:
        print(f"{saved.done} of {len(paths)} images were predicted before", file=sys.stderr)
    return saved


def describe(prediction: Prediction) -> str:
    none = "" if prediction.none is None else f" (none of these {100 * prediction.none:.1f} %)"
    return f"{prediction.image}: {', '.join(f'{name} {100 * p:.1f} %' for name, p in prediction.classes)}{none}"


class Tally:
    """Unreadable images, and predictions to compare with known labels.

    Args:
        labels: {path: class name} of images whose class is known.
    """

    def __init__(self, labels: dict[str, str]):
        self.labels = labels
        self.pairs: list[tuple[str, str]] = []  # known and predicted class
        self.unreadable: dict[str, str] = {}

    def add(self, predictions: Iterable[Prediction]) -> None:
        for image, classes, unreadable, _ in predictions:
            if unreadable:
                self.unreadable[image] = unreadable
            elif image in self.labels:
                self.pairs.append((self.labels[image], classes[0][0]))

    def summary(self, names: list[str]) -> str:
        """Return the accuracy and macro-F1 among the classes `names`."""
        if not self.pairs:
            return "no image with a label can be read"
        from fdbpl import scores

        label_of = {name: label for label, name in enumerate(names)}
        labels, predictions = ([label_of[name] for name in column] for column in zip(*self.pairs, strict=True))
        confusion = scores.confusion_matrix(labels, predictions, len(names))
        return (
            f"accuracy {scores.accuracy(confusion):.2f} %, macro-F1 {scores.macro_f1(confusion):.2f} % "
            f"({len(labels)} images)"
        )


def check_readable(unreadable: dict[str, str], count: int, output: Path | None) -> None:
    """Check that all images could be read.

    Args:
        output: file of the predictions; a long list of images is written to a file next to it.

    Raises:
        UserError: names the images that could not be read.
    """
    if unreadable:
        from fdbpl.io.image_check import list_unreadable

        listing = output and output.with_suffix(".unreadable.txt")
        raise UserError(
            f"{len(unreadable)} of {count} images cannot be read ({list_unreadable(unreadable, listing)}). The others "
            "are classified; replace these"
        )


def known_labels(place: str, paths: list[str], names: list[str]) -> dict[str, str]:
    """Return the class of each of `paths` that the data at `place` contain, in the spelling of `names`.

    Raises:
        UserError: the data contain none of the images, or a class that is not among `names`.
    """
    from fdbpl.data.custom.dataset import read_labelled_images

    data = read_labelled_images(place)
    by_file = {os.path.realpath(data.folder / path): name for path, name in data.items}
    labels = {path: by_file[real] for path in paths if (real := os.path.realpath(path)) in by_file}
    if not labels:
        raise UserError(f"{place} has no label of these images (it lists {enumerated(by_file, 1)}); check --labels")
    spelling = class_names.spelled_as(sorted(set(labels.values())), names)
    unknown = sorted(set(labels.values()) - spelling.keys())
    if unknown:
        raise UserError(
            f"The labels in {place} name classes that are not predicted ({enumerated(unknown)}); give all classes with "
            "--classes"
        )
    return {path: spelling[name] for path, name in labels.items()}


if __name__ == "__main__":
    main()
