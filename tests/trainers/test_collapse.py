"""A training that ends at chance says so in its log and metrics."""

import pytest
import torch

from fdbpl.engine.collapse import EpochMean, are_alike, find_collapse

from .methods import Stop, stop_in_epoch


def unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features, dim=-1)


DIFFERENT = unit(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))
ALIKE = unit(torch.ones(5, 16) + 1e-6 * DIFFERENT)


def test_features_that_give_every_class_the_same_logit():
    assert are_alike(ALIKE, 100.0) and not are_alike(DIFFERENT, 100.0)
    assert not are_alike(DIFFERENT[:1], 100.0)  # one class


@pytest.mark.parametrize(
    ("epochs", "features", "shown"),
    [
        ([(2.1, 70.0), (2.6, 20.0)], ALIKE, ["alike", "2.600", "20.0 %"]),
        ([(2.1, 70.0), (2.6, 20.0)], DIFFERENT, ["2.600", "20.0 %"]),  # the image side collapsed
        ([(2.1, 70.0), (2.6, 20.0)], None, ["2.600", "20.0 %"]),
        ([(2.1, None), (2.6, None)], ALIKE, ["alike", "2.600"]),
        ([], ALIKE, ["alike"]),
        ([(2.1, 20.0), (2.0, 20.0)], DIFFERENT, []),  # it still learns
        ([(2.1, 70.0), (2.6, 60.0)], DIFFERENT, []),  # noise of random crops
        ([(2.1, None), (2.6, None)], DIFFERENT, []),
        ([(2.1, 20.0), (2.6, 20.0)], DIFFERENT, []),  # it never was better than a guess
        ([(2.1, 20.0)], DIFFERENT, []),
    ],
)
def test_what_shows_a_collapse(epochs, features, shown):
    found = find_collapse([EpochMean(*mean) for mean in epochs], 5, features, 100.0)
    assert bool(found) == bool(shown)
    assert all(word in found for word in shown)


def test_a_collapsed_training_says_so(build, capsys):
    trainer = build("CoOp", **{"TRAINER.COOP.CLASS_TOKEN_POSITION": "end"})
    learner = trainer.student.prompt_learner
    trainer.student.prompts = lambda image_features=None: learner()._replace(
        embeddings=learner().embeddings[:1].expand(len(learner.classnames), -1, -1), eot=learner.eot[:1].expand(5)
    )
    trainer.train()
    assert trainer.collapsed
    text = capsys.readouterr().out
    assert "Warning: the training collapsed: the features of all classes are alike" in text
    assert "lower OPTIM.LR (it is 0.05)" in text


def test_the_metrics_say_whether_a_training_collapsed(train_py):
    folder = train_py("CoOp", "run")
    assert train_py.metrics(folder)["collapsed"] is False
    tested = train_py("CoOp", "tested", "--eval-only", "--model-dir", folder)
    assert "collapsed" not in train_py.metrics(tested)


def test_a_resumed_training_knows_its_first_epochs(build):
    settings = {"TRAIN.CHECKPOINT_FREQ": 1}
    straight = build("CoOp", "straight", **settings)
    straight.train()
    broken = build("CoOp", "broken", **settings)
    stop_in_epoch(broken, 3)
    with pytest.raises(Stop):
        broken.train()
    resumed = build("CoOp", "broken", **settings)
    resumed.train()
    assert resumed.epoch_means == straight.epoch_means and len(straight.epoch_means) == 4
    assert all(mean.accuracy is not None for mean in straight.epoch_means)
