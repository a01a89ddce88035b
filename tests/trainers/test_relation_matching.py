"""Class features of names that were not trained (TEACHER.MATCH_RELATIONS), compared with their definition."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from fdbpl import export
from fdbpl.backbones import load_backbone
from fdbpl.engine import teachers
from fdbpl.engine.prompted_teacher import PromptedTeacher, run_sha256
from fdbpl.engine.relation_matching import WEIGHTS, agreement, choose_weight, mix
from fdbpl.engine.trained_run import load_run
from fdbpl.errors import UserError
from fdbpl.templates import fill_template

from .methods import finish_run_folder, logits

MATCH = {"TEACHER.MATCH_RELATIONS": True}
SETTINGS = {"OPTIM.MAX_EPOCH": 2, "OPTIM.WARMUP_CONS_LR": 0.05, "OPTIM.LR": 0.5}


def random_unit(count: int, dim: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


@given(count=st.integers(4, 9), seed=st.integers(0, 999))
def test_agreement_is_the_correlation_of_the_cosines_to_the_other_classes(count, seed):
    student, teacher = random_unit(count, 6, seed), random_unit(count, 5, seed + 1000)
    found = agreement(student, teacher)
    for row in range(count):
        others = [column for column in range(count) if column != row]
        pair = [(unit @ unit.T)[row, others].numpy() for unit in (student, teacher)]
        assert found[row].item() == pytest.approx(np.corrcoef(*pair)[0, 1], abs=1e-4)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_weight_whose_relations_are_the_teachers_is_chosen(weight):
    learned, frozen = random_unit(12, 8, 1), random_unit(12, 8, 2)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(3)))
    teacher = mix(learned, frozen, weight) @ rotation  # other features with the same cosines
    assert choose_weight(learned, frozen, teacher, torch.arange(12) >= 6) == weight


def test_only_the_given_classes_choose():
    learned, frozen = random_unit(40, 8, 1), random_unit(40, 8, 2)
    teacher = torch.cat([learned[:20], frozen[20:]])
    rows = torch.arange(40) < 20
    assert choose_weight(learned, frozen, teacher, rows) < choose_weight(learned, frozen, teacher, ~rows)


def test_three_names_keep_the_learned_features():
    assert choose_weight(*(random_unit(3, 8, seed) for seed in (1, 2, 2)), torch.ones(3).bool()) == 0.0


@pytest.fixture(scope="module")
def run(build_shared):
    """Return run(trainer name), the folder of a finished training on five base classes."""
    folders = {}

    def train(name: str):
        if name not in folders:
            trainer = build_shared(name, f"matched/{name}", **MATCH, **SETTINGS)
            trainer.train()
            folders[name] = finish_run_folder(trainer)
        return folders[name]

    return train


def expected_features(trained, trainer, names: list[str]) -> tuple[torch.Tensor, float]:
    """Return the class features of untrained names, and mu, from the definition."""
    both = [*trained.classnames, *names]
    prompts = [f"a drawing of a {name.replace('_', ' ')}." for name in both]
    teacher = load_backbone(trainer.cfg.TEACHER.NAME, "cpu", "fp32").encode_text(prompts)
    with torch.no_grad():
        (learned,) = trainer.student.with_classes(both).text_features()
        frozen = trainer.student.backbone.encode_text(prompts)
    best = {}
    for weight in WEIGHTS:
        features = frozen if math.isinf(weight) else F.normalize(learned + weight * frozen, dim=-1)
        rows = range(len(trained.classnames), len(both))
        correlations = [
            np.corrcoef(*(np.delete((unit @ unit[row]).numpy(), row) for unit in (features, teacher)))[0, 1]
            for row in rows
        ]
        best[weight] = float(np.mean(correlations)), features[len(trained.classnames) :]
    weight = max(best, key=lambda weight: best[weight][0])
    return best[weight][1], weight


@pytest.mark.parametrize("name", ["FDBPL", "CoOp_KDPL", "FDBPL_TCP", "FDBPL_MaPLe", "FDBPL_PromptSRC", "KgCoOp_KDPL"])
def test_new_classes_get_the_features_that_suit_the_teacher(name, run, build_shared, tmp_path, capsys):
    folder = run(name)
    new = build_shared(name, f"matched/{name}_new", bank=False, **MATCH, **{"DATASET.SUBSAMPLE_CLASSES": "new"})
    new.load_model(folder)
    capsys.readouterr()
    new.test()
    assert "5 classes were not trained" in capsys.readouterr().out
    trained, names = load_run(folder), new.dm.dataset.classnames
    features, weight = expected_features(trained, new, names)
    assert new.student.matching.chosen == (5, weight)
    with torch.no_grad():
        torch.testing.assert_close(new.student.classifier_features(), features, atol=1e-5, rtol=1e-4)

    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(trained.predictor(names)(images), logits(new, images), atol=1e-4, rtol=1e-4)
    export.export(trained, tmp_path, names)
    exported = load_file(tmp_path / "text_features.safetensors")["text_features"]
    torch.testing.assert_close(exported, features, atol=1e-5, rtol=1e-4)

    both = trained.student([*trained.classnames, *names])  # the training classes keep what their images taught
    with torch.no_grad():
        (learned,) = both.text_features()
        matched = both.classifier_features()
    assert torch.equal(matched[:5], learned[:5])
    torch.testing.assert_close(matched[5:], features, atol=1e-5, rtol=1e-4)


def test_the_weight_differs_from_zero_somewhere(run, build_shared):
    """Otherwise the tests above would compare learned features with themselves."""
    weights = set()
    for name in ("FDBPL", "CoOp_KDPL", "FDBPL_TCP"):
        new = build_shared(name, f"matched/{name}_new", bank=False, **MATCH, **{"DATASET.SUBSAMPLE_CLASSES": "new"})
        new.load_model(run(name))
        new.test()
        weights.add(new.student.matching.chosen[1])
    assert weights - {0.0}


def test_training_classes_and_other_spellings_of_them_keep_their_features(run):
    trained = load_run(run("FDBPL"))
    student = trained.student([name.replace("_", " ").upper() for name in trained.classnames])
    with torch.no_grad():
        assert torch.equal(student.classifier_features(), student.text_features()[0])
    assert student.matching.chosen is None


def test_the_bank_knows_all_classes_so_no_teacher_is_loaded(run, build_shared, monkeypatch):
    folder = run("FDBPL")
    new = build_shared("FDBPL", "matched/bank", bank=False, **MATCH, **{"DATASET.SUBSAMPLE_CLASSES": "new"})
    new.load_model(folder)

    def fail(*_):
        raise AssertionError("the teacher was loaded")

    monkeypatch.setattr(teachers, "load_backbone", fail)
    new.test()
    assert new.student.matching.chosen
    monkeypatch.setattr(teachers, "teacher_sha256", lambda cfg: None)  # as for open_clip's names
    new.test()


def test_one_training_is_tested_with_and_without(train_py):
    training = train_py("CoOp_KDPL", "training", **SETTINGS)
    new = ["--eval-only", "--model-dir", training]
    classes = {"DATASET.SUBSAMPLE_CLASSES": "new"}
    found = [train_py("CoOp_KDPL", f"new_{len(on)}", *new, **SETTINGS, **classes, **on) for on in ({}, MATCH)]
    base = train_py("CoOp_KDPL", "base", *new, **SETTINGS, **MATCH)
    plain, matched = (train_py.metrics(folder)["nll"] for folder in found)
    assert plain != matched
    assert train_py.metrics(base)["nll"] == train_py.metrics(training)["nll"]


def test_as_a_teacher_a_run_keeps_learned_features(run):
    """The feature of a name must not depend on which other names a bank asks for."""
    name = f"run:{run('FDBPL')}"
    teacher = PromptedTeacher(name, "a drawing of a {}.", "cpu")
    alone, together = teacher.encode_text(["yurt"]), teacher.encode_text(["yurt", "lemon", "sea lion", "volcano"])
    torch.testing.assert_close(alone[0], together[0], atol=1e-6, rtol=1e-5)
    assert run_sha256(name) == teacher.sha256


def test_methods_without_a_teacher_ignore_it(build):
    trainer = build("CoOp", bank=False, **MATCH, **SETTINGS)
    trainer.train()
    folder = finish_run_folder(trainer)
    new = build("CoOp", "new", bank=False, **MATCH, **{"DATASET.SUBSAMPLE_CLASSES": "new"})
    new.load_model(folder)
    assert new.student.matching is None


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("FDBPL_VPT", {}, "MATCH_RELATIONS cannot be used with FDBPL_VPT, whose text is fixed"),
        ("PromptKD", {}, "MATCH_RELATIONS cannot be used with PromptKD, whose text is fixed"),
        (
            "CoCoOp_KDPL",
            {},
            "cannot be used with CoCoOp_KDPL, whose class features depend on the image",
        ),
        ("FDBPL", {"TRAINER.FDBPL.FROZEN_TEXT_WEIGHT": 0.5}, "FROZEN_TEXT_WEIGHT cannot be combined"),
        ("FDBPL", {"TRAINER.FDBPL.TEST_LOGITS": "difference"}, "TEST_LOGITS difference cannot be combined"),
    ],
)
def test_students_and_settings_that_it_does_not_suit(name, settings, message, build):
    with pytest.raises(UserError, match=message):
        build(name, bank=False, **MATCH, **settings)


def test_a_run_without_class_names_is_named(run, build, tmp_path):
    folder = tmp_path / "weights"
    for module in run("FDBPL").glob("*/model.pth.tar-*"):
        (folder / module.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / module.parent.name / module.name).write_bytes(module.read_bytes())
        (folder / module.parent.name / "checkpoint").write_text(f"{module.name}\n")
    new = build("FDBPL", bank=False, **MATCH, **{"DATASET.SUBSAMPLE_CLASSES": "new"})
    with pytest.raises(UserError, match="needs the class names of the training, .* set it to False"):
        new.load_model(folder)


def test_templates_of_the_data_set_are_used_for_the_frozen_features(run):
    trained = load_run(run("FDBPL"))
    student = trained.student(["yurt", "lemon"])
    expected = trained.backbone.encode_text(fill_template("a drawing of a {}.", ["yurt", "lemon"]))
    torch.testing.assert_close(student._template_features, expected)


def test_the_best_model_of_a_training_is_tested_as_it_is(build):
    """Dassl loads it at the end of the training, before there is a record of the class names."""
    trainer = build("FDBPL", **MATCH, **SETTINGS, **{"TEST.FINAL_MODEL": "best_val"})
    trainer.train()
    assert trainer.student.matching is None and trainer.results["accuracy"] >= 0


def test_loading_weights_again_chooses_again(run, build_shared):
    new = build_shared("KgCoOp_KDPL", "matched/again", bank=False, **MATCH, **{"DATASET.SUBSAMPLE_CLASSES": "new"})
    new.test()
    assert new.student.matching is None
    new.load_model(run("KgCoOp_KDPL"))
    new.test()
    chosen = new.student.matching.chosen
    assert chosen[1] > 0
    new.load_model(run("KgCoOp_KDPL"))
    assert new.student.matching.chosen is None
    new.test()
    assert new.student.matching.chosen == chosen


def test_a_teacher_that_does_not_know_the_training_classes_is_named(run, tmp_path):
    trained = load_run(run("CoOp_KDPL"))
    file = tmp_path / "descriptions.json"
    file.write_text(json.dumps({name: [f"A {name}."] for name in ("yurt", "lemon")}))
    trained.cfg.defrost()
    trained.cfg.TEACHER.TEMPLATES = str(file)
    with pytest.raises(UserError, match="needs the teacher's features .* 5 classes of the training"):
        trained.predictor(["yurt", "lemon"])


def test_predictions_with_another_template_ask_the_teacher_with_it(run):
    trained = load_run(run("CoOp_KDPL"))
    student = trained.student(["yurt", "lemon"], "a sketch of a {}.")
    matching = student.matching
    encode = teachers.load_backbone(trained.cfg.TEACHER.NAME, "cpu", "fp32").encode_text
    names = [*trained.classnames, "yurt", "lemon"]
    expected = encode([f"a sketch of a {name.replace('_', ' ')}." for name in names])
    torch.testing.assert_close(matching.teacher_features(names), expected, atol=1e-6, rtol=1e-5)


def test_another_teacher_is_refused(run, build, student_file):
    new = build("CoOp_KDPL", bank=False, **MATCH, **{"TEACHER.NAME": student_file})
    with pytest.raises(UserError, match="TEACHER.NAME"):
        new.load_model(run("CoOp_KDPL"))


def test_a_topk_bank_loads_the_teacher(build):
    settings = {"REGIONS.TARGET": "topk:3", **MATCH, **SETTINGS}
    trainer = build("FDBPL", "topk", **settings)
    trainer.train()
    new = build("FDBPL", "topk_new", bank=False, **settings, **{"DATASET.SUBSAMPLE_CLASSES": "new"})
    new.load_model(finish_run_folder(trainer))
    new.test()
    assert new.student.matching.chosen[0] == 5
