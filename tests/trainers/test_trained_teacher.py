"""A finished prompt run teaches: PromptKD, KDPL and, through a bank of its own, FDBPL."""

import shutil
from pathlib import Path

import pytest
import torch

from fdbpl.engine import checkpoint
from fdbpl.engine.bank_discovery import find_banks
from fdbpl.errors import UserError
from fdbpl.io.atomic import write_json, write_text

from .methods import learnt, logits

SHORT = {"OPTIM.MAX_EPOCH": 2}


@pytest.fixture(scope="module")
def finished(build_shared):
    """finished(method) -> the folder of a run as train.py leaves it, trained once, and its trainer."""
    from fdbpl.config import plain
    from fdbpl.runs import RunFolder

    made = {}

    def of(method: str):
        if method not in made:
            trainer = build_shared(method, f"teacher/{method}", **SHORT)
            folder = RunFolder(trainer.cfg.OUTPUT_DIR, plain(trainer.cfg), "train")
            folder.start(trainer.cfg.dump())
            trainer.train()
            folder.finish({"trainer": method, **trainer.results})
            made[method] = Path(trainer.cfg.OUTPUT_DIR), trainer
        return made[method]

    return of


@pytest.mark.parametrize("method", ["PromptSRC", "MaPLe", "FDBPL", "TCP", "VPT"])
def test_it_says_what_the_run_says(method, finished, build, capsys):
    """Cosines of the teacher on a batch = those of the run itself; the labels' classes are the same."""
    folder, run = finished(method)
    student = build("CoOp_KDPL", **SHORT, **{"TEACHER.NAME": f"run:{folder}"})
    student.build_supervision()
    batch = next(iter(student.train_loader_x))
    found = student.parse_batch_train(batch).teacher_logits
    expected = logits(run, batch["img"])
    scales = student.student.backbone.logit_scale / run.student.backbone.logit_scale
    torch.testing.assert_close(found, expected * scales, atol=1e-4, rtol=1e-4)
    student.train()
    assert 0 <= student.results["accuracy"] <= 100


@pytest.mark.parametrize("method", ["PromptSRC", "MaPLe"])
@pytest.mark.parametrize("name", ["PromptKD", "CoOp_KDPL", "FDBPL", "FDBPL_PromptKD"])
def test_it_teaches(method, name, finished, build):
    folder, _ = finished(method)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    trainer = build(name, **SHORT, **{"TEACHER.NAME": f"run:{folder}"})
    start = learnt(trainer)
    trainer.train()
    assert any(not torch.equal(value, start[key]) for key, value in learnt(trainer).items())
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_its_bank_is_its_own_and_void_when_the_run_changes(finished, build, tmp_path, teacher_file):
    folder = tmp_path / "teacher"
    shutil.copytree(finished("PromptSRC")[0], folder)
    named = {**SHORT, "TEACHER.NAME": f"run:{folder}"}
    plain = build("FDBPL", "plain", **SHORT)
    taught = build("FDBPL", "taught", **named)
    banks = [find_banks(trainer.cfg, trainer.dm.dataset) for trainer in (plain, taught)]
    assert len(banks[0]) == len(banks[1]) == 1 and banks[0] != banks[1]

    path = checkpoint.find_checkpoint(folder / "VLPromptLearner", None)
    content = checkpoint.read(path)
    content["state_dict"]["prompt_learner.ctx"][0, 0] += 0.5
    torch.save(content, path)
    changed = build("FDBPL", "changed", bank=False, **named)
    with pytest.raises(UserError, match=f"no region bank of run:.*only .*{banks[1][0].name[-8:]}"):
        changed.train()
    again = build("FDBPL", "again", **named)  # labels anew
    assert find_banks(again.cfg, again.dm.dataset) != banks[1]
    again.train()


def test_a_run_that_is_not_finished(finished, build, tmp_path):
    folder = tmp_path / "teacher"
    with pytest.raises(UserError, match=f"{folder} is not a finished training run: the folder does not exist"):
        build("CoOp_KDPL", **{"TEACHER.NAME": f"run:{folder}"}).train()
    shutil.copytree(finished("MaPLe")[0], folder)
    (folder / "done.json").unlink()
    for name in ("CoOp_KDPL", "PromptKD", "FDBPL"):
        with pytest.raises(UserError, match=f"{folder} is not a finished training run: .* unfinished"):
            build(name, **{"TEACHER.NAME": f"run:{folder}"}).train()


@pytest.mark.parametrize("method", ["CoCoOp", "PromptKD", "CoCoOp_KDPL", "FDBPL_PromptKD"])
def test_class_features_must_follow_from_the_class_names(method, finished, build):
    folder, _ = finished(method)
    for name in ("CoOp_KDPL", "PromptKD", "FDBPL"):
        with pytest.raises(UserError, match=f"{folder} is a run of {method}, .* more than class names"):
            build(name, **{"TEACHER.NAME": f"run:{folder}"}).train()


def test_class_specific_contexts_cannot_teach_other_classes(build, finished, tmp_path):
    csc = {"TRAINER.COOP.CSC": True, "TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 2}
    run = build("CoOp", "csc", **SHORT, **csc)
    run.train()
    write_text(Path(run.output_dir, "config.yaml"), run.cfg.dump())
    write_json(Path(run.output_dir, "done.json"), {})
    with pytest.raises(UserError, match="CSC"):
        build("CoOp_KDPL", **SHORT, **{"TEACHER.NAME": f"run:{run.output_dir}"}).train()


def test_a_template_of_the_teacher_s_own_is_refused(finished, build):
    folder, _ = finished("MaPLe")
    with pytest.raises(UserError, match="TEACHER.TEMPLATE .* cannot be used with TEACHER.NAME run:"):
        build("CoOp_KDPL", **{"TEACHER.NAME": f"run:{folder}", "TEACHER.TEMPLATE": "a {}."})


@pytest.mark.parametrize("damage", ["config", "weights", "trainer"])
def test_a_damaged_run_is_a_sentence(finished, build, tmp_path, damage):
    folder = tmp_path / "teacher"
    shutil.copytree(finished("MaPLe")[0], folder)
    if damage == "config":
        (folder / "config.yaml").write_text("TRAINER: [")
    elif damage == "weights":
        for path in (folder / "MultiModalPromptLearner").glob("model*"):
            path.write_bytes(path.read_bytes()[:1000])
    else:
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("NAME: MaPLe", "NAME: Nothing"))
    for name in ("CoOp_KDPL", "FDBPL"):
        with pytest.raises(UserError, match=str(folder)):
            build(name, **{"TEACHER.NAME": f"run:{folder}"}).train()


def test_its_bank_is_verified_by_asking_it_again(finished, build, tmp_path, data_root):
    from fdbpl.findings import OK, WRONG
    from fdbpl.regions.verify import Sample, verify_bank

    folder = tmp_path / "teacher"
    shutil.copytree(finished("PromptSRC")[0], folder)
    taught = build("FDBPL", "taught", **SHORT, **{"TEACHER.NAME": f"run:{folder}"})
    (bank,) = find_banks(taught.cfg, taught.dm.dataset)
    found = list(verify_bank(bank, Sample(data_root)))
    assert all(finding.mark == OK for finding in found) and "agree with the teacher" in found[-1].sentence
    path = folder / "VLPromptLearner" / "model.pth.tar-2"
    content = checkpoint.read(path)
    next(iter(content["state_dict"].values())).add_(0.5)
    torch.save(content, path)
    found = list(verify_bank(bank, Sample(data_root)))
    assert found[-1].mark == WRONG and "teacher has the SHA-256" in found[-1].sentence
