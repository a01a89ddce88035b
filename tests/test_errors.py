"""Error messages: bounded in length, and printed whatever the encoding of the terminal."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from fdbpl.errors import MAX_MESSAGE, UserError, cli_error_handler, enumerated, message_and_exit_code, quoted


def test_a_long_message_keeps_its_start_and_its_end():
    error = UserError(f"no column named path in a.csv: {'x' * 300_000}. Name the columns.")
    message, code = message_and_exit_code(error)
    assert code == 2 and len(message) <= MAX_MESSAGE + len("error: ")
    assert message.startswith("error: no column named path in a.csv: x") and message.endswith("x. Name the columns.")


@pytest.mark.parametrize("value", ["x" * 10**6, ["y" * 10**5] * 10**4, {i: i for i in range(10**5)}, 10**3000])
def test_quoted_values_are_short(value):
    assert len(quoted(value)) <= 600


def test_enumerations_give_the_total_number():
    assert enumerated(["a", "b"]) == "a, b"
    assert enumerated(["a", "b", "c"], count=2) == "a, b ... (3 in all)"
    assert len(enumerated(["x" * 1000] * 1000)) < 2000


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_outside_of_the_output_encoding_are_escaped(encoding, monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with cli_error_handler():
        print("72.46 ± 14.40 → café 猫")
    with pytest.raises(SystemExit), cli_error_handler():
        raise UserError("猫 is no class")
    written = []
    for stream in streams:
        stream.flush()
        written.append(stream.buffer.getvalue().decode(encoding))
    if encoding == "utf-8":
        assert written == ["72.46 ± 14.40 → café 猫\n", "error: 猫 is no class\n"]
    else:
        assert r"\u732b" in written[0] and written[1] == "error: \\u732b is no class\n"


def test_messages_of_scripts_are_bounded():
    script = Path(__file__).resolve().parents[1] / "scripts" / "base2new_train.sh"
    ended = subprocess.run(["bash", script, "x" * 50_000], capture_output=True, text=True)
    assert ended.returncode in (1, 2) and ended.stderr.startswith("error: ") and len(ended.stderr) < 5000
