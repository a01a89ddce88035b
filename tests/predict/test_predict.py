"""`python -m fdbpl.predict`: every picture that can be read gets its classes, in the order it was named."""

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
from fdbpl.io.image_files import decoded, find_images


def stopped(capsys, *words) -> tuple[int, str]:
    """Exit code and the one line on stderr of a call that ends with a sentence."""
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
    """Six pictures in two folders, beside what is hidden, no picture, empty or broken off."""
    folder = tmp_path_factory.mktemp("my photos")
    source = sorted((data_root / "tiny" / "images").iterdir())
    for number, name in enumerate(["a.jpg", "b, c.JPG", "sub/d.png", "sub/deep/é.jpeg", "sub/grey.png", "z.webp"]):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(source[number]).convert("L" if "grey" in name else "RGB").save(target)
    (folder / "notes.txt").write_text("no picture")
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


def test_the_whole_test_set_has_the_run_s_accuracy(finished, data_root, tmp_path, build_shared):
    for method in ("FDBPL", "PromptSRC"):
        run = load_run(finished(method))
        split = json.loads((data_root / "tiny" / "split.json").read_text())["test"]
        wanted = {str(data_root / "tiny" / "images" / file): name for file, _, name in split if name in run.classnames}
        predict.main([str(run.folder), *wanted, "--top", "1", "--output", str(tmp_path / "p.csv")])
        table = rows(tmp_path / "p.csv")
        correct = sum(wanted[row["image"]] == row["class"] for row in table)
        assert len(table) == len(wanted) and 100 * correct / len(table) == pytest.approx(run.metrics["accuracy"])


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
    assert "few_shot.sh" in line
    predict.main([str(run), str(photos / "a.jpg"), "--classes", "wolf,yurt"])
    assert "2 classes: wolf, yurt" in capsys.readouterr().err.splitlines()


def test_on_the_screen_a_line_each(finished, photos, capsys):
    run = str(finished("CoOp"))
    capsys.readouterr()
    predict.main([run, str(photos / "*.jpg"), str(photos / "a.jpg"), "--top", "2"])
    (line,) = capsys.readouterr().out.splitlines()  # a hidden file matches no pattern, and nothing is listed twice
    assert re.fullmatch(rf"{photos}/a\.jpg: [\w ]+ \d+\.\d %, [\w ]+ \d+\.\d %", line)


@pytest.mark.parametrize("output", ["p.csv", "p.json"])
def test_unreadable_pictures_are_named_and_the_others_done(finished, photos, tmp_path, capsys, output):
    folder = tmp_path / "some"
    shutil.copytree(photos, folder)
    whole = (folder / "a.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    words = (finished("CoOp"), folder, "--top", "1", "--batch-size", "1", "--output", tmp_path / output)
    code, sentence = stopped(capsys, *words)
    assert code == 2 and "2 of 8 images cannot be read" in sentence
    assert "broken.jpg: " in sentence and "empty.png: " in sentence
    text = (tmp_path / output).read_text(encoding="utf-8")
    assert len(rows(tmp_path / output) if output == "p.csv" else json.loads(text)) == 6


def test_only_a_few_batches_are_held(photos, monkeypatch):
    """However many pictures there are, those decoded and not yet taken stay within three batches."""
    held = most = 0

    def transform(image):
        nonlocal held, most
        held += 1
        most = max(most, held)
        return torch.zeros(3, 2, 2)

    for batch in decoded([str(photos / "a.jpg")] * 200, transform, batch_size=4, threads=2):
        held -= len(batch.paths)
    assert held == 0 and most <= 12


def test_an_interrupted_one_leaves_what_was_there(finished, photos, tmp_path, monkeypatch, capsys):
    output = tmp_path / "p.csv"
    output.write_text("older\n")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("fdbpl.io.image_files._collect", interrupt)
    with pytest.raises(SystemExit) as stop:
        predict.main([str(finished("CoOp")), str(photos), "--output", str(output)])
    assert stop.value.code == 130 and "nothing was written" in capsys.readouterr().err
    assert output.read_text() == "older\n" and list(tmp_path.iterdir()) == [output]


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
    ("words", "sentence"),
    [
        (["nowhere.jpg"], "no file or folder nowhere.jpg"),
        (["{photos}/.cache/../sub/deep", "--classes", "a,,b"], "--classes contains an empty class name"),
        (["{photos}", "--classes", "a,b,a"], "The class name 'a' occurs twice in --classes"),
        (["{photos}", "--classes", 'a,"b'], "is not a row of CSV"),
        (["{photos}", "--classes-file", "none.txt"], "The file of class names none.txt cannot be read"),
        (["{photos}", "--top", "0"], "--top is 0"),
        (["{photos}", "--batch-size", "-2"], "--batch-size is -2"),
        (["{photos}", "--output", "p.txt"], "--output p.txt must end in .csv or .json"),
        (["{photos}", "--device", "tpu"], "Device 'tpu' is not available"),
    ],
)
def test_mistakes_are_sentences(words, sentence, finished, photos, capsys):
    code, line = stopped(capsys, finished("CoOp"), *(word.format(photos=photos) for word in words))
    assert code == 2 and sentence in line


def test_a_folder_without_pictures(finished, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no picture")
    code, line = stopped(capsys, finished("CoOp"), tmp_path)
    assert code == 2 and f"no image in {tmp_path}" in line and ".txt 1: notes.txt" in line


def test_class_specific_contexts_serve_their_classes_only(finished, photos, capsys):
    csc = {"TRAINER.COOP.CSC": True, "TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 2}
    run = finished("CoOp", **csc)
    predict.main([str(run), str(photos / "a.jpg")])
    capsys.readouterr()
    names = load_run(run).classnames
    for others in (["wolf", "fox"], [*names[1:], names[0]]):
        code, line = stopped(capsys, run, photos / "a.jpg", "--classes", ",".join(others))
        assert code == 2 and "class-specific contexts (CSC)" in line
