"""Evaluate a trained run: `python -m fdbpl.evaluate RUN [--data DATA]`.

python -m fdbpl.evaluate RUN                                  # the run's own test images
python -m fdbpl.evaluate RUN --data photos                    # class folders, CSV, JSON ...
python -m fdbpl.evaluate RUN --data eurosat --root data       # a data set of configs/datasets
python -m fdbpl.evaluate RUN --joint                          # base and new classes together
"""

import argparse
from argparse import ArgumentParser
from pathlib import Path

from fdbpl import class_names
from fdbpl.errors import UserError, cli_error_handler, one_line
from fdbpl.predict import add_device_arguments, check_batch_size, check_readable

WORST = 5  # classes in the summary


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished training run")
    parser.add_argument("--data", metavar="DATA", help="folder or file of labelled images, or name in configs/datasets")
    parser.add_argument("--root", default="", help="folder of the data sets (default: the run's)")
    class_names.add_arguments(parser)
    parser.add_argument("--joint", action="store_true", help="classify base and new images among all classes")
    add_device_arguments(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default: RUN/evaluation/NAME")
    arguments = parser.parse_args(words)
    with cli_error_handler(interrupted="run the command again"):
        check_batch_size(arguments.batch_size)
        if arguments.joint and (arguments.data or arguments.classes or arguments.classes_file):
            raise UserError("--joint uses the run's data set and all of its classes; leave out --data and --classes")
        evaluate(arguments)


def evaluate(arguments: argparse.Namespace) -> None:
    """Classify the images, write the results to a folder and print a summary.

    Raises:
        UserError: an argument is invalid, or some images cannot be read; the others are evaluated.
    """
    names = class_names.parse_classnames(arguments)

    from fdbpl.devices import choose_device
    from fdbpl.engine.trained_run import load_run  # makes dassl importable, which the data sets need

    run = load_run(arguments.run, choose_device(arguments.device))
    from fdbpl import evaluation_data
    from fdbpl.evaluation_files import write_evaluation

    if arguments.joint:
        found = evaluation_data.classify_both_halves(run, arguments.root)
    elif arguments.data:
        found = evaluation_data.classify_data(run, arguments.data, arguments.root, names, arguments.batch_size)
    else:
        found = evaluation_data.classify_test_images(run, arguments.root, names)
    output = arguments.output or run.folder / "evaluation" / found.name
    result = write_evaluation(output, run, found)
    print(one_line(class_names.describe(found.classnames)))
    print("\n".join(summary(result)))
    print(f"Written to {output}: {', '.join(sorted(file.name for file in output.iterdir() if file.is_file()))}")
    check_readable(found.unreadable, len(found.labels) + len(found.unreadable), output / "predictions.csv")


def summary(result: dict) -> list[str]:
    """Lines that describe the content of scores.json."""
    lines = [
        f"{one_line(result['data'])}: {result['images']} images, accuracy {result['accuracy']:.2f} %, "
        f"balanced accuracy {result['balanced_accuracy']:.2f} %, macro-F1 {result['macro_f1']:.2f} %",
        f"Calibration error {result['ece']:.2f} % (adaptive {result['adaptive_ece']:.2f} %), "
        f"Brier score {result['brier']:.4f}, negative log-likelihood {result['nll']:.4f}",
    ]
    tested = [
        pair for pair in zip(result["per_class_accuracy"], result["classnames"], strict=True) if pair[0] is not None
    ]
    worst = ", ".join(f"{name} {accuracy:.2f} %" for accuracy, name in sorted(tested)[:WORST])
    lines.append(one_line(f"Lowest accuracies: {worst}"))
    if "joint" in result:
        joint = result["joint"]
        lines.append(f"Joint: base {joint['base']:.2f} new {joint['new']:.2f} H {joint['H']:.2f}")
    return lines


if __name__ == "__main__":
    main()
