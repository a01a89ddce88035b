"""Mistyped options of every command."""

import importlib

import pytest

from .calls import call

CASES = {
    "an option of another program": ("train", ["--gpu-ids", "0"], "--gpu-ids"),  # Dassl's takes the rest as keys
    "a seed in words": ("train", ["--seed", "one"], "'one'"),
    "a seed with a fraction": ("train", ["--seed", "1.5"], "'1.5'"),
    "an option without its value": ("train", ["--root"], "--root"),
    "an epoch in words": ("train", ["--load-epoch", "last"], "'last'"),
    "half an option": ("train", ["--s", "1"], "--s"),
    "no command": ("fdbpl.runs.__main__", [], "command"),
    "another command": ("fdbpl.runs.__main__", ["summarise"], "'summarise'"),
    "another protocol": ("fdbpl.protocols.__main__", ["x"], "'x'"),
    "a bank without images": ("fdbpl.regions.__main__", ["generate", "--root", "r", "--bank", "b"], "--images"),
    "half a range": ("fdbpl.regions.__main__", ["generate", "--scale", "0.1"], "--scale"),
    "regions in words": ("fdbpl.regions.__main__", ["generate", "--per-image", "many"], "'many'"),
    "a check of nothing": ("fdbpl.regions.__main__", ["verify", "--root", "r"], "bank"),
    "a line break": ("fdbpl.report.__main__", ["output", "--no\nsuch"], "--no"),
    "an option of no prediction": ("fdbpl.predict", ["run", "images", "--modeldir", "x"], "--modeldir"),
    "an option of no export": ("fdbpl.export", ["run", "--outptu", "x"], "--outptu"),
    "hours in words": ("tools.benchmark.__main__", ["quick", "--hours", "two"], "'two'"),
    "an option of no preparation": ("fdbpl.data.prepare.__main__", ["--chek"], "--chek"),
    "an option of no doctor": ("fdbpl.doctor", ["--fix"], "--fix"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "words", "named"), CASES.values(), ids=CASES.keys())
def test_a_mistyped_command_line(module, words, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = call(importlib.import_module(module).main, words)
    assert ended.code == 2 and named in ended.err.split("error: ")[-1], ended.err
    assert not any(file.is_file() for file in tmp_path.rglob("*"))


def test_what_fails_on_the_way_out_of_an_interruption_is_not_the_cause():
    def main():
        from fdbpl.errors import cli_error_handler

        with cli_error_handler():
            try:
                raise KeyboardInterrupt
            finally:
                del main.nothing

    ended = call(main)
    assert ended.code == 130 and ended.err.startswith("\ninterrupted: ")
