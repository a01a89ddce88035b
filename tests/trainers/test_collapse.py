"""Collapsed training runs, which end at chance, are reported in log and metrics."""

import pytest
import torch
import torch.nn.functional as F

from fdbpl.engine.collapse import EpochMean, are_alike, find_collapse

from .methods import stopped_in_epoch

DIFFERENT = F.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
ALIKE = F.normalize(torch.ones(5, 16) + 1e-6 * DIFFERENT, dim=-1)


def test_collapsed_class_features():
    assert are_alike(ALIKE, 100.0) and not are_alike(DIFFERENT, 100.0)
    assert not are_alike(DIFFERENT[:1], 100.0)  # one class


@pytest.mark.parametrize(
    ("epochs", "features", "signs"),
    [
        ([(2.1, 70.0), (2.6, 20.0)], ALIKE, ["alike", "2.600", "20.0 %"]),
        ([(2.1, 70.0), (2.6, 20.0)], DIFFERENT, ["2.600", "20.0 %"]),  # the image features collapsed
        ([(2.1, 70.0), (2.6, 20.0)], None, ["2.600", "20.0 %"]),
        ([(2.1, None), (2.6, None)], ALIKE, ["alike", "2.600"]),
        ([], ALIKE, ["alike"]),
        ([(2.1, 20.0), (2.0, 20.0)], DIFFERENT, []),  # the loss decreases
        ([(2.1, 70.0), (2.6, 60.0)], DIFFERENT, []),  # noise of random crops
        ([(2.1, None), (2.6, None)], DIFFERENT, []),
        ([(2.1, 20.0), (2.6, 20.0)], DIFFERENT, []),  # never better than chance
        ([(2.1, 20.0)], DIFFERENT, []),
    ],
)
def test_signs_of_a_collapse(epochs, features, signs):
    found = find_collapse([EpochMean(*mean) for mean in epochs], 5, features, 100.0)
    assert bool(found) == bool(signs)
    assert all(sign in found for sign in signs)


def test_a_collapsed_training_is_reported(build, capsys):
    trainer = build("CoOp", **{"TRAINER.COOP.CLASS_TOKEN_POSITION": "end"})
    learner = trainer.student.prompt_learner
    trainer.student.prompts = lambda image_features=None: learner()._replace(
        embeddings=learner().embeddings[:1].expand(len(learner.classnames), -1, -1), eot=learner.eot[:1].expand(5)
    )
    trainer.train()
    assert trainer.collapsed
    out = capsys.readouterr().out
    assert "Warning: the training collapsed: the features of all classes are alike" in out
    assert "lower OPTIM.LR (it is 0.05)" in out


def test_metrics_of_a_training_record_whether_it_collapsed_and_skipped_steps(train_py):
    folder = train_py("CoOp", "run")
    metrics = train_py.metrics(folder)
    assert metrics["collapsed"] is False and metrics["skipped_steps"] == 0
    tested = train_py("CoOp", "tested", "--eval-only", "--model-dir", folder)
    assert "collapsed" not in train_py.metrics(tested)


def test_a_resumed_training_remembers_its_first_epochs(build):
    settings = {"TRAIN.CHECKPOINT_FREQ": 1}
    uninterrupted = build("CoOp", "uninterrupted", **settings)
    uninterrupted.train()
    stopped_in_epoch(build("CoOp", "broken", **settings), 3)
    resumed = build("CoOp", "broken", **settings)
    resumed.train()
    assert resumed.epoch_means == uninterrupted.epoch_means and len(uninterrupted.epoch_means) == 4
    assert all(mean.accuracy is not None for mean in uninterrupted.epoch_means)
