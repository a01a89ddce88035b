"""Mistyped options of every command."""

import importlib
import signal

import pytest

from fdbpl.arguments import ArgumentParser

from .sentences import call, refused

CASES = {
    "an option of another program": ("train", ["--gpu-ids", "0"], "--gpu-ids"),  # Dassl's takes the rest as keys
    "a seed in words": ("train", ["--seed", "one"], "'one'"),
    "a seed with a fraction": ("train", ["--seed", "1.5"], "'1.5'"),
    "an option without its value": ("train", ["--root"], "--root"),
    "an epoch in words": ("train", ["--load-epoch", "last"], "'last'"),
    "half an option": ("train", ["--s", "1"], "--s"),
    "no command": ("fdbpl.runs.__main__", [], "command"),
    "another command": ("fdbpl.runs.__main__", ["summarise"], "'summarise'"),
    "another protocol": ("fdbpl.runs.__main__", ["compare", "--protocol", "x", "--output", "o", "--seeds", "1"], "'x'"),
    "a grid without seeds": ("fdbpl.runs.__main__", ["compare", "--output", "o"], "--seeds"),
    "a bank without images": ("fdbpl.regions.__main__", ["generate", "--root", "r", "--bank", "b"], "--images"),
    "half a range": ("fdbpl.regions.__main__", ["generate", "--scale", "0.1"], "--scale"),
    "regions in words": ("fdbpl.regions.__main__", ["generate", "--per-image", "many"], "'many'"),
    "a check of nothing": ("fdbpl.regions.__main__", ["verify", "--root", "r"], "bank"),
    "a line break": ("fdbpl.report.__main__", ["output", "--no\nsuch"], "--no"),
    "an option of no prediction": ("fdbpl.predict", ["run", "images", "--modeldir", "x"], "--modeldir"),
    "an option of no export": ("fdbpl.export", ["run", "--outptu", "x"], "--outptu"),
    "hours in words": ("tools.benchmark.__main__", ["quick", "--hours", "two"], "'two'"),
    "an option of no preparation": ("fdbpl.data.prepare.__main__", ["--chek"], "--chek"),
    "an option of no doctor": ("fdbpl.doctor.__main__", ["--fix"], "--fix"),
}  # fmt: skip


@pytest.mark.parametrize(("module", "words", "named"), CASES.values(), ids=CASES.keys())
def test_a_mistyped_command_line(module, words, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(importlib.import_module(module).main, words, named, unchanged=[tmp_path])


@pytest.mark.parametrize("way", ["parse_args", "parse_intermixed_args"])
def test_ctrl_c_while_the_command_line_is_read(way):
    """argparse fails after the interruption, which must stay the only message."""
    parser = ArgumentParser()
    parser.add_argument("names", nargs="*", type=lambda word: signal.raise_signal(signal.SIGINT))
    parser.add_argument("--check", action="store_true")
    ended = call(lambda: getattr(parser, way)(["a", "--check", "b"]))
    assert ended.code == 130 and ended.err == "\ninterrupted: the same command continues where this one stopped\n"


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
