"""Trainers: hooks, log, checkpoints, resume."""

import re

import pytest
import torch
from dassl.engine import TRAINER_REGISTRY, build_trainer

NUMBER = r"\d+\.\d+"
PROGRESS = re.compile(
    rf"epoch \[(\d)/4\] batch \[(\d)/2\] time {NUMBER} \({NUMBER}\) data {NUMBER} \({NUMBER}\) "
    rf"loss \d+\.\d{{4}} \(\d+\.\d{{4}}\) acc {NUMBER} \({NUMBER}\) lr (\d\.\d{{4}}e[+-]\d\d) eta \d:\d\d:\d\d"
)


def state(trainer):
    return {key: value.clone() for key, value in trainer.model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def logged(train_with_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    train_with_log(folder)
    return folder


def test_log_format_of_coops_parser(logged):
    lines = (logged / "run" / "log.txt").read_text().splitlines()
    progress = [match for line in lines if (match := PROGRESS.fullmatch(line))]
    assert [match.group(1, 2) for match in progress] == [(e, b) for e in "1234" for b in "12"]
    assert progress[0][3] == "1.0000e-05" and progress[1][3] == "2.0000e-02"  # the last batch prints the next rate
    end = lines.index("Finish training")
    assert lines[end + 1 : end + 3] == ["Deploy the last-epoch model", "Evaluate on the *test* set"]
    block = lines[end + 3 : end + 9]
    assert block[:2] == ["=> result", "* total: 6"]
    correct = int(re.fullmatch(r"\* correct: (\d)", block[2])[1])
    read = {name: float(value) for line in block[3:] for name, value in re.findall(r"\* (\w+): ([\.\deE+-]+)%", line)}
    assert set(read) == {"accuracy", "error", "macro_f1"}
    assert read["accuracy"] == pytest.approx(100 * correct / 6, abs=0.05)
    assert read["error"] == pytest.approx(100 - 100 * correct / 6, abs=0.05)
    assert re.fullmatch(r"Elapsed: \d:\d\d:\d\d", lines[end + 9])


def test_folder_layout(logged):
    run = logged / "run"
    names = {file.name for file in (run / "prompt_learner").iterdir()}
    assert names == {"checkpoint", *(f"model.pth.tar-{epoch}" for epoch in range(1, 5))}
    assert (run / "prompt_learner" / "checkpoint").read_text() == "model.pth.tar-4\n"
    saved = f"Checkpoint saved to {run}/prompt_learner/model.pth.tar-4"
    assert saved in (run / "log.txt").read_text().splitlines()
    assert list((run / "tensorboard").glob("events.*"))


def test_checkpoints_hold_plain_data(logged):
    content = torch.load(logged / "run" / "prompt_learner" / "model.pth.tar-2", weights_only=True)
    assert set(content) == {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}
    assert content["epoch"] == 2 and content["val_result"] is None
    assert set(content["state_dict"]) == {"1.weight", "1.bias"}


def test_a_finished_run_is_only_evaluated_into_a_new_log(logged, train_with_log):
    first = (logged / "run" / "log.txt").read_text()
    train_with_log(logged)
    assert (logged / "run" / "log.txt").read_text() == first
    (second,) = logged.glob("run/log.txt-*")
    assert re.fullmatch(r"log\.txt-\d{4}(-\d\d){5}", second.name)
    text = second.read_text()
    assert "epoch [" not in text and "=> result" in text
    assert re.findall(r"\* accuracy: .*", text) == re.findall(r"\* accuracy: .*", first)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(toy, tmp_path, stop):
    whole = build_trainer(toy.config(tmp_path / "whole"))
    whole.train()
    interrupted = build_trainer(toy.config(tmp_path / "interrupted"))
    interrupted.stop_before = stop
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    resumed = build_trainer(toy.config(tmp_path / "interrupted"))
    resumed.train()
    assert resumed.start_epoch == stop
    assert interrupted.rates + resumed.rates == pytest.approx(whole.rates, abs=1e-12)
    assert resumed.rates == pytest.approx(whole.rates[stop:], abs=1e-12)
    assert interrupted.seen + resumed.seen == whole.seen
    assert same(state(resumed), state(whole))
    velocity = [run.optim.state_dict()["state"][0]["momentum_buffer"] for run in (resumed, whole)]
    assert torch.equal(*velocity)


def test_training_drops_the_last_partial_batch_and_learns(toy, tmp_path):
    trainer = build_trainer(toy.config(tmp_path, "OPTIM.MAX_EPOCH", 12))
    before = trainer.test()
    trainer.train()
    assert all(len(seen) == len(set(seen)) == 8 for seen in trainer.seen)
    assert len({tuple(seen) for seen in trainer.seen}) > 1
    assert trainer.test() > max(before, 60)


def test_hooks_run_in_order(toy, tmp_path):
    calls = []

    class Hooked(TRAINER_REGISTRY.get("ToyTrainer")):
        pass

    def hook(name):
        def call(self, *arguments):
            calls.append(name)
            return getattr(super(Hooked, self), name)(*arguments)

        return call

    names = ("check_cfg", "build_data_loader", "build_model", "before_train", "before_epoch", "run_epoch",
             "after_epoch", "after_train", "test")  # fmt: skip
    for name in names:
        setattr(Hooked, name, hook(name))
    Hooked(toy.config(tmp_path, "OPTIM.MAX_EPOCH", 2)).train()
    epoch = ["before_epoch", "run_epoch", "after_epoch"]
    assert calls == [*names[:4], *epoch, *epoch, "after_train", "test"]


def test_final_model_best_val(toy, tmp_path, capsys):
    overrides = ("TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 0)
    trainer = build_trainer(toy.config(tmp_path, *overrides))
    accuracies = iter([50.0, 75.0, 75.0, 10.0])
    states = []

    def test(split=None):
        if split == "val":
            states.append(state(trainer))
            return next(accuracies)
        return 0.0

    trainer.test = test
    trainer.train()
    learner = tmp_path / "run" / "prompt_learner"
    assert {file.name for file in learner.iterdir()} == {"checkpoint", "model-best.pth.tar", "model.pth.tar-4"}
    best = torch.load(learner / "model-best.pth.tar", weights_only=True)
    assert best["epoch"] == 2 and best["val_result"] == 75.0
    assert same(state(trainer), states[1]) and not same(states[1], states[3])
    assert "Deploy the model with the best val performance" in capsys.readouterr().out


def test_load_model(toy, tmp_path):
    trained = build_trainer(toy.config(tmp_path))
    trained.train()
    fresh = build_trainer(toy.config(tmp_path))
    assert not same(state(fresh), state(trained))
    fresh.load_model(str(tmp_path / "run"), epoch=4)
    assert same(state(fresh), state(trained))
    with pytest.raises(FileNotFoundError):
        fresh.load_model(str(tmp_path / "run"), epoch=9)
    fresh.load_model("")  # leaves the weights as they are
    assert same(state(fresh), state(trained))


def test_a_failed_write_keeps_the_old_checkpoint(toy, tmp_path, monkeypatch):
    trainer = build_trainer(toy.config(tmp_path))
    folder = tmp_path / "run"
    trainer.save_model(0, str(folder))
    before = {file: file.read_bytes() for file in (folder / "prompt_learner").iterdir()}
    with torch.no_grad():
        trainer.model[1].weight.add_(1)
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Exception, match="No space left"):
        trainer.save_model(0, str(folder))
    assert {file: file.read_bytes() for file in (folder / "prompt_learner").iterdir()} == before


def test_register_model_set_model_mode_and_model_backward(toy, tmp_path):
    trainer = build_trainer(toy.config(tmp_path))
    assert trainer.get_model_names() == ["prompt_learner"]
    trainer.set_model_mode("eval")
    assert not trainer.model.training
    trainer.set_model_mode("train", "prompt_learner")
    assert trainer.model.training
    with pytest.raises((AssertionError, ValueError)):
        trainer.register_model("prompt_learner", trainer.model)
    with pytest.raises(FloatingPointError):
        trainer.model_backward(torch.tensor(float("nan")))


def test_trainer_registry(toy, tmp_path):
    with pytest.raises(ValueError, match="ToyTrainer"):
        build_trainer(toy.config(tmp_path, "TRAINER.NAME", "ToyTrainr"))
    with pytest.raises(KeyError):
        TRAINER_REGISTRY.register()(TRAINER_REGISTRY.get("ToyTrainer"))
