"""The recorded state of the code."""

import os
import shutil
import subprocess

import pytest

from fdbpl.runs import environment


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_reading_the_state_of_the_code_does_not_write_to_git(tmp_path, monkeypatch):
    """A plain `git status` rewrites the index if times of files have changed, and leaves a lock if it is killed."""
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    file = tmp_path / "file"
    file.write_text("content")
    for arguments in (["init", "-q"], ["add", "file"], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    monkeypatch.setattr(environment, "CODE", tmp_path)
    os.utime(file, (1, 1))
    index = (tmp_path / ".git" / "index").read_bytes()
    code = environment.describe_environment()["code"]
    assert len(code["commit"]) == 40 and code["modified"] is False
    assert (tmp_path / ".git" / "index").read_bytes() == index
    file.write_text("other")
    assert environment.describe_environment()["code"]["modified"] is True
