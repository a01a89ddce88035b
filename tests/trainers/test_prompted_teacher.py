"""A finished run with learned prompts as the teacher of PromptKD, KDPL and (with its own bank) FDBPL."""

import shutil
from pathlib import Path

import pytest
import torch

from fdbpl.engine import checkpoint, teachers
from fdbpl.engine.bank_discovery import find_banks
from fdbpl.errors import UserError
from fdbpl.findings import OK, WRONG
from fdbpl.regions.verify import Sample, verify_bank

from .methods import finish_run_folder, learned, logits, same

SHORT = {"OPTIM.MAX_EPOCH": 2}


@pytest.fixture(scope="module")
def finished(build_shared):
    """Return finished(method), which returns the run folder of the method, trained once, and its trainer."""
    runs = {}

    def of(method: str, **settings):
        if method not in runs:
            trainer = build_shared(method, f"teacher/{method}", **SHORT, **settings)
            trainer.train()
            runs[method] = finish_run_folder(trainer), trainer
        return runs[method]

    return of


def teacher_settings(folder: Path) -> dict:
    return SHORT | {"TEACHER.NAME": f"run:{folder}"}


def change_weights(folder: Path) -> None:
    path = checkpoint.find_checkpoint(folder / "VLPromptLearner", None)
    content = checkpoint.read(path)
    content["state_dict"]["prompt_learner.ctx"][0, 0] += 0.5
    torch.save(content, path)


@pytest.mark.parametrize("method", ["PromptSRC", "MaPLe", "FDBPL", "TCP", "VPT"])
def test_logits_of_the_teacher_equal_those_of_the_run(method, finished, build_shared):
    folder, run = finished(method)
    trainer = build_shared("CoOp_KDPL", f"same/{method}", **teacher_settings(folder))
    trainer.build_supervision()
    batch = next(iter(trainer.train_loader_x))
    found, expected = trainer.parse_batch_train(batch).teacher_logits, logits(run, batch["img"])
    scales = trainer.student.backbone.logit_scale / run.student.backbone.logit_scale
    torch.testing.assert_close(found, expected * scales, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "name"),
    [("PromptSRC", "PromptKD"), ("MaPLe", "CoOp_KDPL"), ("PromptSRC", "FDBPL"), ("MaPLe", "FDBPL_PromptKD")],
)
def test_training_with_the_teacher(method, name, finished, build_shared):
    """The teacher's folder does not change."""
    folder, _ = finished(method)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    trainer = build_shared(name, f"taught/{name}", **teacher_settings(folder))
    start = learned(trainer)
    trainer.train()
    assert not same(learned(trainer), start)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_promptkd_loads_its_teacher_once(build_shared, monkeypatch):
    """The class features of the student and the training share the teacher."""
    load, loaded = teachers.load_backbone, []
    monkeypatch.setattr(teachers, "load_backbone", lambda name, *more: loaded.append(name) or load(name, *more))
    trainer = build_shared("PromptKD", "once", **SHORT)
    trainer.train()
    assert loaded == [trainer.cfg.TEACHER.NAME]


def test_the_bank_is_specific_to_the_weights_of_the_run(finished, build, tmp_path, data_root):
    """`regions verify` compares it with the run; after a change of the run's weights it is not used."""
    folder = Path(shutil.copytree(finished("PromptSRC")[0], tmp_path / "teacher"))
    plain, taught = build("FDBPL", "plain", **SHORT), build("FDBPL", "taught", **teacher_settings(folder))
    (other,), (bank,) = (find_banks(trainer.cfg, trainer.dm.dataset) for trainer in (plain, taught))
    assert other != bank
    findings = list(verify_bank(bank, Sample(data_root)))
    assert all(finding.mark == OK for finding in findings) and "agree with the teacher" in findings[-1].message

    change_weights(folder)
    findings = list(verify_bank(bank, Sample(data_root)))
    assert findings[-1].mark == WRONG and "teacher has the SHA-256" in findings[-1].message
    with pytest.raises(UserError, match=f"no region bank of run:.*only .*{bank.name[-8:]}"):
        build("FDBPL", "changed", bank=False, **teacher_settings(folder)).train()
    again = build("FDBPL", "again", **teacher_settings(folder))  # generates another bank
    assert find_banks(again.cfg, again.dm.dataset) != [bank]


METHODS = ("CoOp_KDPL", "PromptKD", "FDBPL")


def truncated(folder: Path) -> None:
    for path in (folder / "MultiModalPromptLearner").glob("model*"):
        path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a finished training run: the folder does not exist"),
        (truncated, "cannot be read safely"),
    ],
)
def test_a_broken_run_is_refused(finished, build_shared, tmp_path, damage, message):
    folder = Path(shutil.copytree(finished("MaPLe")[0], tmp_path / "teacher"))
    damage(folder)
    for name in METHODS:
        with pytest.raises(UserError, match=f"{folder}.*{message}"):
            build_shared(name, f"broken/{name}", **teacher_settings(folder)).train()


@pytest.mark.parametrize("method", ["CoCoOp", "PromptKD"])
def test_class_features_that_need_more_than_names_are_refused(method, finished, build_shared):
    folder, _ = finished(method)
    for name in METHODS:
        with pytest.raises(UserError, match=f"{folder} is a run of {method}, .* more than class names"):
            build_shared(name, f"refused/{name}", **teacher_settings(folder)).train()


def test_settings_that_conflict_with_a_run(finished, build_shared):
    folder, _ = finished("CoOp", **{"TRAINER.COOP.CSC": True, "TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 2})
    for settings, message in (
        ({}, "CSC"),  # class-specific contexts of other classes
        ({"TEACHER.TEMPLATE": "a {}."}, "TEACHER.TEMPLATE .* cannot be used with TEACHER.NAME run:"),
    ):
        with pytest.raises(UserError, match=message):
            build_shared("CoOp_KDPL", "settings", **teacher_settings(folder), **settings).train()
