"""Hints in error messages, and the output folder of a refused run."""

import pytest

import train
from fdbpl.engine import checkpoint
from fdbpl.errors import UserError

from .calls import refused


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--output-dir", "x"], "The flag '--output-dir' is after the KEY VALUE pairs"),
        (["--eval-only"], "The flag '--eval-only' is after the KEY VALUE pairs"),
        (["OPTIM.LR=0.1"], "OPTIM.LR 0.1"),
        (["optim.lr", "0.1"], "did you mean OPTIM.LR?"),
        (["Optim.Max_epochs", "1"], "did you mean OPTIM.MAX_EPOCH?"),
    ],
)
def test_mistyped_overrides(training, root, words, hint):
    training.refused(root, *words, names=hint)


def test_model_dir_inside_a_run_folder(tmp_path):
    file = checkpoint.write(tmp_path / "run" / "prompt_learner", "model.pth.tar-3", {"state_dict": {}})
    for place in (file, file.parent):
        with pytest.raises(UserError, match=f"inside the run folder {tmp_path / 'run'}: give that folder"):
            checkpoint.find_checkpoint(place / "prompt_learner", None)
    assert checkpoint.find_checkpoint(tmp_path / "run" / "prompt_learner", None) == file


@pytest.mark.parametrize(
    "words", [{"overrides": ("DATASET.NUM_SHOTS", 0)}, {"flags": ("--eval-only", "--model-dir", "nowhere")}]
)
def test_a_refused_run_leaves_no_folder(training, root, words):
    refused(train.main, training.words(root, *words.pop("overrides", ()), trainer="CoOp", **words))
    assert not training.output.exists()


def test_a_refused_run_keeps_the_files_in_its_folder(training, root):
    training.output.mkdir()
    (training.output / "notes.txt").write_text("mine")
    training.refused(root, "DATASET.NUM_SHOTS", 0)
    assert [file.name for file in training.output.iterdir()] == ["notes.txt"]


def test_warnings_about_warm_up_and_shots(training, root):
    words = ("OPTIM.MAX_EPOCH", 1, "OPTIM.WARMUP_EPOCH", 1, "DATASET.NUM_SHOTS", 40)
    ended = training.succeeds(root, *words, trainer="CoOp")
    assert "Warning: OPTIM.WARMUP_EPOCH 1 covers all epochs" in ended.out
    assert "40 shots (fewer images of 4 classes: 3 to 3)" in ended.out
