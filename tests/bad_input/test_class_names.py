"""Class names on the command lines of predictions, exports and region banks."""

import pytest

from fdbpl import export, predict
from fdbpl.regions import __main__ as regions

from .calls import refused, succeeds
from .conftest import draw_image

REFUSED = {
    "no name": ("", "--classes"),
    "blanks": ("  ", "--classes"),
    "an empty name": ("cat,,dog", "contains an empty class name"),
    "an empty name at the end": ("cat,dog,", "contains an empty class name"),
    "a duplicate": ("cat,dog,cat", "'cat' occurs twice"),
    "equal but for blanks": ("cat, cat ", "'cat' occurs twice"),
    "equal but for case": ("cat,Cat", "tell the class names 'cat' and 'Cat' in --classes apart"),
    "equal but for Unicode composition": ("caf\u00e9,cafe\u0301", r"'caf\xe9' and 'cafe\u0301'"),
    "equal but for a space": ("dog9,dog 9", "'dog9' and 'dog 9'"),
    "the same up to the end-of-text token": ("cat <|endoftext|> a,cat <|endoftext|> b", "apart"),
    "an open quote": ('"cat,dog', "a row of CSV"),
    "a line break": ("cat\ndog", "a row of CSV"),
    "200 tokens": ("cat " * 200 + ",dog", "75 tokens"),
    "200 tokens in one word": ("ab" * 300 + ",dog", "75 tokens"),
    "60 emoji": ("🐈" * 60 + ",dog", "75 tokens"),
}
ACCEPTED = {
    "two names": "cat,dog",
    "other scripts": "кот,猫,قط,γάτα",
    "emoji": "🐈,🐕,👩‍👩‍👧",
    "braces": "{},{0},{cat},{0.__class__},{{",
    "percent signs": "%s,%(x)s,100%",
    "a quoted comma": '"cat, asleep",dog',
    "punctuation": "a/b,c\\d,e'f,<b>g</b>,$(touch x),`touch x`,;",
    "tokens of CLIP": "<|endoftext|>,<|startoftext|> cat,x",
    "a zero-width space": "cat,ca​t",
    "an HTML entity": "cat,&amp;",
    "only punctuation": "!,?,...",
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_names_for_predictions(finished_run, image, case):
    names, found = REFUSED[case]
    refused(predict.main, [finished_run, image, "--classes", names], found, unchanged=[finished_run])


def test_accepted_names_for_predictions(finished_run, image, tmp_path):
    for names in ACCEPTED.values():
        words = [finished_run, image, "--classes", names, "--output", tmp_path / "p.csv"]
        succeeds(predict.main, words, unchanged=[finished_run])
        assert len((tmp_path / "p.csv").read_text().splitlines()) > 1


def test_refused_names_for_an_export(finished_run, tmp_path):
    names, found = REFUSED["a duplicate"]
    words = [finished_run, "--to", tmp_path / "classifier", "--classes", names]
    refused(export.main, words, found, unchanged=[finished_run])
    assert not (tmp_path / "classifier").exists()


def test_a_single_class(finished_run, image):
    refused(predict.main, [finished_run, image, "--classes", "cat"], ["cat", "at least two"])


FILES = {
    "JSON": (b'{"0": "glass", "1": "metal"}', "looks like JSON"),
    "a JSON list": (b'["glass",\n"metal"]', "looks like JSON"),
    "YAML": (b"0: glass\n1: metal\n", "looks like YAML"),
    "a YAML list": (b"- glass\n- metal\n", "looks like YAML"),
    "numbers": (b"0 glass\n1 metal\n2 paper\n", "a numbered list"),
    "a table": (b"glass\tbottle\nmetal\tcan\n", "separated by tabs"),
    "a comment": (b"# classes\nglass\nmetal\n", "comments"),
    "nothing": (b"", "class names"),
    "empty lines": (b"\n \n\t\n", "class names"),
    "a duplicate": (b"cat\ndog\ncat\n", "'cat' occurs twice"),
    "equal but for an underscore": (b"big_cat\nbig cat\n", "'big_cat' and 'big cat'"),
    "Latin-1": ("Käfer\n".encode("latin-1"), "is not a text file in UTF-8"),
    "UTF-16": ("cat\ndog\n".encode("utf-16"), "is not a text file in UTF-8"),
    "an image": (b"\xff\xd8\xff\xe0" + bytes(99), "is not a text file in UTF-8"),
    "a line of 200 tokens": (b"cat " * 200 + b"\ndog\n", "75 tokens"),
}


@pytest.mark.parametrize("case", FILES)
def test_refused_files_of_names(finished_run, image, tmp_path, case):
    content, found = FILES[case]
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    refused(predict.main, [finished_run, image, "--classes-file", file], found, unchanged=[file])


@pytest.mark.parametrize("case", ["JSON", "nothing", "Latin-1"])
def test_refused_files_of_names_for_a_bank(bank, tmp_path, case):
    content, found = FILES[case]
    file = tmp_path / "names.txt"
    file.write_bytes(content)
    refused(regions.main, bank("--classnames", file), found, unchanged=[file])


def test_a_csv_of_names(finished_run, image, tmp_path):
    (tmp_path / "names.csv").write_text("path,class\na.jpg,cat\n")
    words = [finished_run, image, "--classes-file", tmp_path / "names.csv"]
    refused(predict.main, words, "looks like a CSV file")


@pytest.mark.parametrize("kind", ["nothing", "folder"])
def test_a_missing_file_of_names(finished_run, image, bank, tmp_path, kind):
    file = tmp_path / "names.txt"
    if kind == "folder":
        file.mkdir()
    refused(predict.main, [finished_run, image, "--classes-file", file], str(file))
    refused(regions.main, bank("--classnames", file), str(file))


def test_accepted_names_for_a_bank(bank, tmp_path):
    names = dict.fromkeys(name for line in ACCEPTED.values() if '"' not in line for name in line.split(","))
    (tmp_path / "names.txt").write_text("\n".join(names), encoding="utf-8-sig")
    succeeds(regions.main, bank("--classnames", tmp_path / "names.txt", "--content", "topk:3"))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--content", "topk:3"], "--classnames"),
        (["--content", "logits"], "--content"),
        (["--pipeline", "cv2"], "'cv2'"),
    ],
)
def test_invalid_settings_of_a_bank(bank, words, found):
    refused(regions.main, bank(*words), found)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[]", "lists no images"),
        ("{}", "a JSON list of image paths"),
        ("[1]", "a JSON list of image paths"),
        ("[", "cannot be read"),
        ('["gone.jpg"]', "gone.jpg: No such file"),
        ('["../x.jpg"]', "below --root"),
        ('["/etc/passwd"]', "below --root"),
        ('["a\\u0000.jpg"]', "1 of 1 images"),
        ('["\\ud800.jpg"]', "is not UTF-8"),
        ('["images"]', "images: a folder"),
        ('[""]', "a folder"),
    ],
)
def test_an_invalid_list_of_images(bank, tmp_path, content, found):
    (tmp_path / "list.json").write_text(content)
    refused(regions.main, bank("--images", tmp_path / "list.json"), found)
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--images", "gone"], "gone"),
        (["--root", "gone"], "--root gone does not exist"),
        (["--images", "/etc"], "/etc"),
    ],
)
def test_missing_images_of_a_bank(bank, words, found):
    refused(regions.main, bank(*words), found)


@pytest.fixture
def image(tmp_path):
    draw_image(tmp_path / "images" / "x.jpg", "red")
    return tmp_path / "images" / "x.jpg"


@pytest.fixture
def bank(tmp_path, image):
    """Return a function from further words, which override earlier ones, to the command line that labels one image."""
    return lambda *words: [
        "generate", "--root", tmp_path, "--images", tmp_path / "images", "--bank", tmp_path / "bank", "--teacher",
        "demo:teacher", "--per-image", 2, *words,
    ]  # fmt: skip
