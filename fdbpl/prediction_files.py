"""Files of predictions: an unfinished one, from which an interrupted command continues, and CSV, JSON and Parquet."""

import csv
import fcntl
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from fdbpl.errors import REMEDIES, SystemFailure, UserError
from fdbpl.io.atomic import atomic_open
from fdbpl.io.locks import try_lock

FORMATS = (".csv", ".json", ".parquet")
UNFINISHED = ".unfinished"
PARQUET_ROWS = 100_000  # rows of a group


class Prediction(NamedTuple):
    """The most likely classes of an image.

    Attributes:
        classes: (class name, probability), in descending order; empty if the image cannot be read.
        unreadable: reason why the image cannot be read.
        none: probability that it shows none of the classes; None if the run has no prompt for it.
    """

    image: str
    classes: list[tuple[str, float]]
    unreadable: str = ""
    none: float | None = None


class UnfinishedPredictions:
    """Predictions of a command that will write `output`, saved after each batch; a context manager.

    The file `<output>.unfinished` has a line that identifies the command and one line for each image, in the order of
    `paths`. The same command continues after the last complete batch, so that batches are the same as without an
    interruption. An image that has changed is predicted again, and so are all after it.

    Args:
        identity: JSON values that must be equal for an earlier file to be used.

    Attributes:
        done: number of images that were predicted before.

    Raises:
        SystemFailure: the file cannot be written, or another process is writing it.
    """

    def __init__(self, output: Path, identity: dict, paths: list[str], batch_size: int):
        self.file = output.with_name(output.name + UNFINISHED)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            self.stream: IO[bytes] = open(self.file, "a+b")  # noqa: SIM115
        except OSError as error:
            remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
            raise SystemFailure(f"cannot write {self.file} ({error.strerror}); {remedy}") from error
        try:
            try_lock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SystemFailure(f"another process is writing {output}; wait for it") from error
        self.done = self._keep_valid_lines(json.dumps(identity).encode() + b"\n", paths, batch_size)

    def __enter__(self) -> "UnfinishedPredictions":
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.close()

    def _keep_valid_lines(self, identity: bytes, paths: list[str], batch_size: int) -> int:
        """Delete the lines after the last batch that is complete and unchanged; return the number of images kept."""
        self.stream.seek(0)
        if self.stream.readline() != identity:
            self.stream.truncate(0)
            self.stream.write(identity)
            return 0
        ends = [len(identity)]
        for path, line in zip(paths, self.stream, strict=False):
            if _image_of(line) != [path, *_stat(path)]:
                break
            ends.append(ends[-1] + len(line))
        count = len(ends) - 1
        done = count if count == len(paths) else count - count % batch_size
        self.stream.truncate(ends[done])
        return done

    def add(self, predictions: list[Prediction]) -> None:
        for image, classes, unreadable, none in predictions:
            line = {"image": [image, *_stat(image)], "classes": classes, "unreadable": unreadable, "none": none}
            self.stream.write(json.dumps(line).encode() + b"\n")
        self.stream.flush()

    def __iter__(self) -> Iterator[Prediction]:
        """Return all predictions, in the order of the images."""
        self.stream.seek(0)
        next(self.stream)
        for line in self.stream:
            content = json.loads(line)
            classes = [(name, p) for name, p in content["classes"]]
            yield Prediction(content["image"][0], classes, content["unreadable"], content.get("none"))

    def delete(self) -> None:
        self.file.unlink(missing_ok=True)


def _image_of(line: bytes) -> list | None:
    """Return the path, size and modification time in a line; None if the line is incomplete."""
    try:
        return json.loads(line)["image"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):  # the system stopped while it was written
        return None


def _stat(path: str) -> list[int]:
    """Return size and modification time (ns) of a file; [] if it cannot be accessed."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def check_format(output: Path) -> None:
    """Check that predictions can be written to `output`.

    Raises:
        UserError: the ending is not one of FORMATS, or pyarrow is missing.
    """
    ending = output.suffix.lower()
    if ending not in FORMATS:
        raise UserError(f"--output {output} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}; rename it")
    if ending == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise UserError(
            f"Writing {output} needs pyarrow, of the dependency group huggingface: pip install pyarrow (or choose "
            ".csv or .json)"
        )


def write_predictions(
    output: Path, predictions: Iterable[Prediction], labels: dict[str, str] | None = None, none: bool = False
) -> None:
    """Write the predictions of the readable images atomically, in the format that the ending names.

    CSV and Parquet have a row for each image and rank: image, rank, class, probability [, label] [, none].

    Args:
        labels: known class of images by path; "" is written for the others.
        none: whether the predictions have a probability of "none of these".

    Raises:
        SystemFailure: the file cannot be written.
    """
    entries = ((one.image, one.classes, _more(one, labels)) for one in predictions if not one.unreadable)
    if output.suffix.lower() == ".json":
        _write_json(output, entries)
        return
    more_columns = [name for name, given in (("label", labels is not None), ("none", none)) if given]
    columns = ["image", "rank", "class", "probability", *more_columns]
    rows = (
        [image, rank, name, _rounded(p), *more.values()]
        for image, classes, more in entries
        for rank, (name, p) in enumerate(classes, start=1)
    )
    if output.suffix.lower() == ".parquet":
        _write_parquet(output, columns, rows)
        return
    with atomic_open(output, errors="surrogateescape") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(columns)
        table.writerows([*row[:3], f"{row[3]:.8g}", *row[4:]] for row in rows)


def _write_json(output: Path, entries: Iterable[tuple[str, list[tuple[str, float]], dict]]) -> None:
    with atomic_open(output, errors="backslashreplace") as stream:  # undecodable file names become JSON escapes
        separator = "[\n"
        for image, classes, more in entries:
            ranked = [{"class": name, "probability": _rounded(p)} for name, p in classes]
            entry = {"image": image, "classes": ranked, **more}
            stream.write(separator + json.dumps(entry, ensure_ascii=False))
            separator = ",\n"
        stream.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_parquet(output: Path, columns: list[str], rows: Iterable[list]) -> None:
    import pyarrow as pa  # optional dependency
    import pyarrow.parquet as pq

    types = {"rank": pa.int32(), "probability": pa.float64(), "none": pa.float64()}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in columns])
    with atomic_open(output) as stream, pq.ParquetWriter(stream, schema) as writer:
        group: list[dict] = []
        for row in rows:
            group.append({column: _utf8(value) for column, value in zip(columns, row, strict=True)})
            if len(group) == PARQUET_ROWS:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group.clear()
        writer.write_table(pa.Table.from_pylist(group, schema))


def _more(prediction: Prediction, labels: dict[str, str] | None) -> dict[str, str | float]:
    """Return what is known of an image in addition to the classes, by column."""
    label: dict[str, str | float] = {} if labels is None else {"label": labels.get(prediction.image, "")}
    return label if prediction.none is None else {**label, "none": _rounded(prediction.none)}


def _rounded(probability: float) -> float:
    return float(f"{probability:.8g}")


def _utf8(value: str | float) -> str | float:
    """Return the text with backslash escapes for what is not UTF-8, as Parquet requires."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
