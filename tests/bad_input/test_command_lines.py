"""Mistyped options of every command."""

import importlib

import pytest

from .calls import call

CASES = {
    "an option of another program": ("train", ["--gpu-ids", "0"], "--gpu-ids"),  # Dassl takes the rest as keys
    "a word for a seed": ("train", ["--seed", "one"], "'one'"),
    "a fraction for a seed": ("train", ["--seed", "1.5"], "'1.5'"),
    "an option without its value": ("train", ["--root"], "--root"),
    "a word for an epoch": ("train", ["--load-epoch", "last"], "'last'"),
    "an abbreviated option": ("train", ["--s", "1"], "--s"),
    "no command": ("fdbpl.runs.__main__", [], "command"),
    "an unknown command": ("fdbpl.runs.__main__", ["summarise"], "'summarise'"),
    "an unknown protocol": ("fdbpl.protocols.__main__", ["x"], "'x'"),
    "a bank without images": ("fdbpl.regions.__main__", ["generate", "--root", "r", "--bank", "b"], "--images"),
    "half of a range": ("fdbpl.regions.__main__", ["generate", "--scale", "0.1"], "--scale"),
    "a word for a number of regions": ("fdbpl.regions.__main__", ["generate", "--per-image", "many"], "'many'"),
    "verify without a bank": ("fdbpl.regions.__main__", ["verify", "--root", "r"], "bank"),
    "a line break": ("fdbpl.report.__main__", ["output", "--no\nsuch"], "--no"),
    "an unknown option of predict": ("fdbpl.predict", ["run", "images", "--modeldir", "x"], "--modeldir"),
    "an unknown option of export": ("fdbpl.export", ["run", "--outptu", "x"], "--outptu"),
    "a word for hours": ("tools.benchmark.__main__", ["quick", "--hours", "two"], "'two'"),
    "an unknown option of prepare": ("fdbpl.data.prepare.__main__", ["--chek"], "--chek"),
    "an unknown option of doctor": ("fdbpl.doctor", ["--fix"], "--fix"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "words", "named"), CASES.values(), ids=CASES.keys())
def test_mistyped_command_lines(module, words, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = call(importlib.import_module(module).main, words)
    assert ended.code == 2 and named in ended.err.split("error: ")[-1], ended.err
    assert not any(file.is_file() for file in tmp_path.rglob("*"))


def test_a_failure_during_an_interruption_is_not_reported_as_the_cause():
    def main():
        from fdbpl.errors import cli_error_handler

        with cli_error_handler():
            try:
                raise KeyboardInterrupt
            finally:
                del main.nothing

    ended = call(main)
    assert ended.code == 130 and ended.err.startswith("\ninterrupted: ")
