"""`python -m fdbpl.predict`: predictions in the order of the images, files, resumption, known labels."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from fdbpl import predict
from fdbpl.engine.trained_run import load_run
from fdbpl.io import image_batches
from fdbpl.io.image_batches import decoded
from fdbpl.io.image_files import find_images
from fdbpl.prediction_files import UnfinishedPredictions


def stopped(capsys, *words) -> tuple[int, str]:
    """Exit code and error message of a call that fails."""
    with pytest.raises(SystemExit) as stop:
        predict.main([str(word) for word in words])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return stop.value.code, lines[0]


def rows(file: Path) -> list[dict]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def photos(data_root, tmp_path_factory) -> Path:
    """Six images in three folders, with hidden files and a file that is no image."""
    folder = tmp_path_factory.mktemp("my photos")
    source = sorted((data_root / "tiny" / "images").iterdir())
    for number, name in enumerate(["a.jpg", "b, c.JPG", "sub/d.png", "sub/deep/é.jpeg", "sub/grey.png", "z.webp"]):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(source[number]).convert("L" if "grey" in name else "RGB").save(target)
    (folder / "notes.txt").write_text("no image")
    for hidden in (".hidden.jpg", ".cache/e.jpg"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        shutil.copy(source[0], folder / hidden)
    return folder


ALL = ["a.jpg", "b, c.JPG", "z.webp", "sub/d.png", "sub/grey.png", "sub/deep/é.jpeg"]


def test_csv_and_json_hold_the_softmax_of_the_logits(finished, photos, tmp_path, capsys):
    run = load_run(finished("CoOp"))
    capsys.readouterr()
    for name in ("new/p.csv", "p.json"):
        words = [str(run.folder), str(photos), "--top", "3", "--batch-size", "4", "--output", str(tmp_path / name)]
        predict.main(words)
        assert capsys.readouterr().out == f"6 of 6 images: {tmp_path / name}\n"
    table, listed = rows(tmp_path / "new" / "p.csv"), json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert [row["image"] for row in listed] == [f"{photos}/{name}" for name in ALL]
    assert [row["image"] for row in table[::3]] == [f"{photos}/{name}" for name in ALL]
    predictor = run.predictor()
    for place, row in enumerate(listed):
        image = run.transform(Image.open(row["image"]).convert("RGB"))
        chances = dict(zip(run.classnames, predictor(image[None])[0].double().softmax(dim=0).tolist(), strict=True))
        likeliest = sorted(chances, key=chances.get, reverse=True)[:3]
        part = table[3 * place : 3 * place + 3]
        assert likeliest == [pair["class"] for pair in row["classes"]] == [cell["class"] for cell in part]
        assert [cell["rank"] for cell in part] == ["1", "2", "3"]
        for name, pair, cell in zip(likeliest, row["classes"], part, strict=True):
            assert pair["probability"] == pytest.approx(chances[name], rel=1e-4, abs=1e-7)
            assert float(cell["probability"]) == pair["probability"]


def test_predictions_of_the_test_set_have_the_accuracy_of_the_run(finished, data_root, tmp_path):
    for method in ("FDBPL", "PromptSRC"):
        run = load_run(finished(method))
        split = json.loads((data_root / "tiny" / "split.json").read_text())["test"]
        wanted = {str(data_root / "tiny" / "images" / file): name for file, _, name in split if name in run.classnames}
        predict.main([str(run.folder), *wanted, "--top", "1", "--output", str(tmp_path / "p.csv")])
        table = rows(tmp_path / "p.csv")
        correct = sum(wanted[row["image"]] == row["class"] for row in table)
        assert len(table) == len(wanted) and 100 * correct / len(table) == pytest.approx(run.metrics["accuracy"])


def test_the_probability_of_none_of_the_classes(finished, photos, tmp_path, capsys):
    run = load_run(finished("FDBPL", **{"TRAINER.FDBPL.NONE_WEIGHT": 1.0}))
    for words in ([], ["--output", str(tmp_path / "p.csv")], ["--output", str(tmp_path / "p.json")]):
        predict.main([str(run.folder), str(photos / "a.jpg"), *words])
    assert "(none of these " in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "p.json").read_text())
    image = run.transform(Image.open(photos / "a.jpg").convert("RGB"))[None]
    (chances,) = run.predictor(with_none=True)(image).softmax(dim=-1).tolist()
    assert entry["none"] == pytest.approx(chances[5], rel=1e-4)
    assert {float(row["none"]) for row in rows(tmp_path / "p.csv")} == {entry["none"]}
    ranked = {pair["class"]: pair["probability"] for pair in entry["classes"]}
    expected = [chance / sum(chances[:5]) for chance in chances[:5]]
    assert [ranked[name] for name in run.classnames] == pytest.approx(expected, rel=1e-4)


def test_other_names_with_commas(finished, photos, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("wolf\n\nsea, calm\nyurt\n", encoding="utf-8-sig")
    for words in (["--classes", 'wolf,"sea, calm", yurt'], ["--classes-file", str(names)]):
        predict.main([str(finished("CoOp")), str(photos / "a.jpg"), *words, "--output", str(tmp_path / "p.csv")])
        table = rows(tmp_path / "p.csv")
        assert {row["class"] for row in table} == {"wolf", "sea, calm", "yurt"}
        assert sum(float(row["probability"]) for row in table) == pytest.approx(1.0, abs=1e-6)


def test_the_known_classes_are_printed(finished, photos, capsys):
    run = finished("CoOp")
    names = load_run(run).classnames
    capsys.readouterr()
    predict.main([str(run), str(photos / "a.jpg")])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " classes: " in line]
    assert line.startswith(f"{len(names)} classes: {', '.join(names)}. These are only the base half of the classes of ")
    assert "train.sh" in line
    predict.main([str(run), str(photos / "a.jpg"), "--classes", "wolf,yurt"])
    assert "2 classes: wolf, yurt" in capsys.readouterr().err.splitlines()


def test_printed_predictions_take_one_line_per_image(finished, photos, capsys):
    run = str(finished("CoOp"))
    capsys.readouterr()
    predict.main([run, str(photos / "*.jpg"), str(photos / "a.jpg"), "--top", "2"])
    (line,) = capsys.readouterr().out.splitlines()  # a hidden file matches no pattern, and nothing is listed twice
    assert re.fullmatch(rf"{photos}/a\.jpg: [\w ]+ \d+\.\d %, [\w ]+ \d+\.\d %", line)


@pytest.mark.parametrize("output", ["p.csv", "p.json"])
def test_unreadable_images_are_named_and_the_others_predicted(finished, photos, tmp_path, capsys, output):
    folder = tmp_path / "some"
    shutil.copytree(photos, folder)
    whole = (folder / "a.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    words = (finished("CoOp"), folder, "--top", "1", "--batch-size", "1", "--output", tmp_path / output)
    code, message = stopped(capsys, *words)
    assert code == 2 and "2 of 8 images cannot be read" in message
    assert "broken.jpg: " in message and "empty.png: " in message
    text = (tmp_path / output).read_text(encoding="utf-8")
    assert len(rows(tmp_path / output) if output == "p.csv" else json.loads(text)) == 6


def test_only_a_few_batches_are_held(photos, monkeypatch):
    """Decoded images that wait stay within three batches, whatever the number of images."""
    held = most = 0

    def transform(image):
        nonlocal held, most
        held += 1
        most = max(most, held)
        return torch.zeros(3, 2, 2)

    for batch in decoded([str(photos / "a.jpg")] * 200, transform, batch_size=4, threads=2):
        held -= len(batch.paths)
    assert held == 0 and most <= 12


class Interrupted:
    """Interrupt the command after some batches."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int):
        self.collect, self.left = image_batches._collect, after
        patch.setattr(image_batches, "_collect", self)

    def __call__(self, *arguments):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.collect(*arguments)


def interrupt(words: list[str], after: int) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        Interrupted(patch, after)
        predict.main(words)
    assert stop.value.code == 130


def count_classified(monkeypatch) -> list[str]:
    """A list to which the images are added that are decoded from now on."""
    paths, collect = [], image_batches._collect
    monkeypatch.setattr(
        image_batches, "_collect", lambda part, futures: (paths.extend(part), collect(part, futures))[1]
    )
    return paths


@pytest.mark.parametrize("name", ["p.csv", "p.json", "p.parquet"])
def test_an_interrupted_command_continues_to_the_same_file(finished, photos, tmp_path, monkeypatch, capsys, name):
    words = [str(finished("CoOp")), str(photos), "--batch-size", "2", "--output"]
    straight, output = tmp_path / "straight" / name, tmp_path / "broken" / name
    predict.main([*words, str(straight)])
    output.parent.mkdir()
    output.write_text("older\n")
    interrupt([*words, str(output)], after=1)
    assert "interrupted: the same command continues" in capsys.readouterr().err
    assert output.read_text() == "older\n"
    interrupt([*words, str(output)], after=1)
    classified = count_classified(monkeypatch)
    predict.main([*words, str(output)])
    assert "4 of 6 images were predicted before" in capsys.readouterr().err and len(classified) == 2
    assert output.read_bytes() == straight.read_bytes()
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(
    ("change", "again"),
    [("changed image", 4), ("removed image", 3), ("other classes", 6), ("broken line", 4), ("zeros", 4)],
)
def test_what_has_changed_since_the_interruption_is_predicted_again(
    finished, photos, tmp_path, monkeypatch, change, again
):
    folder, output = tmp_path / "photos", tmp_path / "p.csv"
    shutil.copytree(photos, folder)
    words = [str(finished("CoOp")), str(folder), "--batch-size", "2", "--output", str(output)]
    interrupt(words, after=2)
    unfinished = tmp_path / "p.csv.unfinished"
    if change == "changed image":
        shutil.copy(folder / "a.jpg", folder / "z.webp")
    elif change == "removed image":
        (folder / "z.webp").unlink()
    elif change == "other classes":
        words += ["--classes", "wolf,yurt"]
    elif change == "broken line":
        unfinished.write_bytes(unfinished.read_bytes()[:-5])
    else:
        unfinished.write_bytes(unfinished.read_bytes()[:-20] + bytes(20) + b"\n")
    classified = count_classified(monkeypatch)
    predict.main(words)
    assert len(classified) == again
    shutil.copy(output, tmp_path / "resumed.csv")
    predict.main(words)
    assert output.read_bytes() == (tmp_path / "resumed.csv").read_bytes()


def test_two_commands_do_not_write_the_same_file(finished, photos, tmp_path, capsys):
    output = tmp_path / "p.csv"
    with UnfinishedPredictions(output, {}, [], 1), pytest.raises(SystemExit) as stop:
        predict.main([str(finished("CoOp")), str(photos), "--output", str(output)])
    assert stop.value.code == 1 and f"another process is writing {output}" in capsys.readouterr().err


def test_parquet_holds_the_rows_of_the_csv(finished, photos, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("p.csv", "p.parquet"):
        predict.main([str(finished("CoOp")), str(photos), "--top", "2", "--output", str(tmp_path / name)])
    table = [
        {**row, "rank": int(row["rank"]), "probability": float(row["probability"])} for row in rows(tmp_path / "p.csv")
    ]
    assert parquet.read_table(tmp_path / "p.parquet").to_pylist() == table and len(table) == 12


def test_parquet_without_pyarrow(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fdbpl.prediction_files.importlib.util.find_spec", lambda name: None)
    code, line = stopped(capsys, "run", photos, "--output", tmp_path / "p.parquet")
    assert code == 2 and "needs pyarrow, of the dependency group huggingface" in line


@pytest.fixture(scope="module")
def labelled(data_root, tmp_path_factory) -> Path:
    """Class folders of the run's test images; names as folders spell them."""
    folder = tmp_path_factory.mktemp("labelled")
    split = json.loads((data_root / "tiny" / "split.json").read_text())["test"]
    for file, label, name in split:
        if label < 5:
            target = folder / name.replace(" ", "_").title() / file
            target.parent.mkdir(exist_ok=True)
            shutil.copy(data_root / "tiny" / "images" / file, target)
    return folder


@pytest.mark.parametrize("name", [None, "p.csv", "p.json"])
def test_predictions_are_compared_with_known_labels(finished, labelled, tmp_path, capsys, name):
    run = load_run(finished("CoOp"))
    words = [str(run.folder), str(labelled), "--labels", str(labelled)]
    predict.main([*words, *(["--output", str(tmp_path / name)] if name else [])])
    metrics = run.metrics
    assert (
        f"Compared with {labelled}: accuracy {metrics['accuracy']:.2f} %, macro-F1 {metrics['macro_f1']:.2f} % "
        "(10 images)\n"
    ) in capsys.readouterr().out
    if name == "p.csv":
        found = {row["image"]: row["label"] for row in rows(tmp_path / name)}
        assert {name.replace("_", " ") for name in found.values()} == {
            name.replace("_", " ") for name in run.classnames
        }
    elif name:
        assert all(entry["label"] in run.classnames for entry in json.loads((tmp_path / name).read_text()))


def test_labels_of_some_images_from_a_csv(finished, photos, capsys):
    (photos / "labels.csv").write_text("path,class\na.jpg,Cat\nz.webp,yurt\n")
    try:
        predict.main(
            [str(finished("CoOp")), str(photos), "--labels", str(photos / "labels.csv"), "--classes", "cat,yurt"]
        )
    finally:
        (photos / "labels.csv").unlink()
    assert re.search(r"accuracy \d+\.00 %.* \(2 images\); 4 images have no label", capsys.readouterr().out)


def test_labels_that_cannot_be_compared(finished, photos, labelled, capsys):
    code, line = stopped(capsys, finished("CoOp"), photos, "--labels", labelled)
    assert code == 2 and "has no label of these images" in line
    code, line = stopped(capsys, finished("CoOp"), labelled, "--labels", labelled, "--classes", "cat,yurt")
    assert code == 2 and "name classes that are not predicted" in line and "Ramen" in line


def test_what_counts_as_an_image(photos):
    assert find_images([str(photos)])[0] == [f"{photos}/{name}" for name in ALL]
    assert find_images([str(photos / "**" / "*.png")])[0] == [f"{photos}/sub/d.png", f"{photos}/sub/grey.png"]
    assert find_images([str(photos / ".hidden.jpg")])[0] == [f"{photos}/.hidden.jpg"]  # named itself


def test_what_was_skipped_is_reported(finished, photos, capsys):
    run = str(finished("CoOp"))
    capsys.readouterr()
    predict.main([run, str(photos), "--top", "1"])
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == len(ALL)
    assert "Skipped: 2 hidden, 1 that are not images (.txt 1: notes.txt)" in captured.err.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.jpg"], "no file or folder nowhere.jpg"),
        (["{photos}/.cache/../sub/deep", "--classes", "a,,b"], "--classes contains an empty class name"),
        (["{photos}", "--classes", "a,b,a"], "The class name 'a' occurs twice in --classes"),
        (["{photos}", "--classes", 'a,"b'], "is not a row of CSV"),
        (["{photos}", "--classes-file", "none.txt"], "The file of class names none.txt cannot be read"),
        (["{photos}", "--top", "0"], "--top is 0"),
        (["{photos}", "--batch-size", "-2"], "--batch-size is -2"),
        (["{photos}", "--output", "p.txt"], "--output p.txt must end in .csv, .json or .parquet"),
        (["{photos}", "--device", "tpu"], "Device 'tpu' is not available"),
    ],
)
def test_invalid_arguments(words, message, finished, photos, capsys):
    code, line = stopped(capsys, finished("CoOp"), *(word.format(photos=photos) for word in words))
    assert code == 2 and message in line


def test_a_folder_without_images(finished, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no image")
    code, line = stopped(capsys, finished("CoOp"), tmp_path)
    assert code == 2 and f"no image in {tmp_path}" in line and ".txt 1: notes.txt" in line


def test_class_specific_contexts_accept_no_other_classes(finished, photos, capsys):
    csc = {"TRAINER.COOP.CSC": True, "TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 2}
    run = finished("CoOp", **csc)
    predict.main([str(run), str(photos / "a.jpg")])
    capsys.readouterr()
    names = load_run(run).classnames
    for others in (["wolf", "fox"], [*names[1:], names[0]]):
        code, line = stopped(capsys, run, photos / "a.jpg", "--classes", ",".join(others))
        assert code == 2 and "class-specific contexts (CSC)" in line
