"""The helper itself: what it must not let through, and a run of the small world from end to end."""

import sys

import pytest

from .sentences import call, refused


def ends(text: str, code: int = 2, then=lambda: None):
    def main() -> None:
        then()
        print(text, file=sys.stderr)
        sys.exit(code)

    return main


GOOD = "error: expected a cat in x.jpg, found a dog; take another picture"


def test_a_good_sentence():
    assert refused(ends(GOOD), [], "x.jpg") == GOOD.removeprefix("error: ")
    refused(ends("error: cannot write x; free some space", 1), [], code=1)


@pytest.mark.parametrize(
    ("main", "complaint"),
    [
        (ends(GOOD, 1), "exit code 1"),
        (ends(GOOD + "\nmore"), "expected one sentence"),
        (ends(GOOD.replace("x.jpg", "it")), "is not named"),
        (lambda: 1 / 0, "Traceback"),
        (lambda: print("\udcff"), "Traceback"),
    ],
)
def test_what_is_not_let_through(main, complaint):
    with pytest.raises(AssertionError, match=complaint):
        refused(main, [], "x.jpg")


def test_changes_are_noticed(tmp_path):
    (tmp_path / "a").write_text("1")
    with pytest.raises(AssertionError, match="changed or gone"):
        refused(ends(GOOD, then=lambda: (tmp_path / "a").write_text("2")), [], unchanged=[tmp_path])
    with pytest.raises(AssertionError, match="temporary"):
        refused(ends(GOOD, then=lambda: (tmp_path / ".b.partial").write_text("")), [], unchanged=[tmp_path])
    refused(ends(GOOD, then=lambda: (tmp_path / "new").write_text("")), [], unchanged=[tmp_path])


def test_a_command_line_is_given():
    assert call(lambda: print(sys.argv[1:]), ["a", 1]).out == "['a', '1']\n"


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "CoOp"])
def test_the_small_world_is_in_order(training, root, trainer):
    ended = training.succeeds(root, "OPTIM.MAX_EPOCH", 1, trainer=trainer, unchanged=[root])
    assert "4 classes" in ended.out or "Protocol" in ended.out
    assert (training.output / "done.json").is_file()
