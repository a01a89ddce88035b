"""Teacher texts of several templates or descriptions (TEACHER.TEMPLATES)."""

import json

import pytest
import torch
import torch.nn.functional as F
from dassl.engine import build_trainer

from fdbpl.backbones import load_backbone
from fdbpl.engine.templates import IMAGENET_TEMPLATES_SELECT
from fdbpl.errors import UserError

from .conftest import NAMES
from .methods import first_batch

WORDS = ["apple", "coral reef"]
DESCRIPTIONS = {name.replace("_", " ").title(): [f"A {name} with {n}\nlegs." for n in range(3)] for name in NAMES}


@pytest.fixture
def descriptions(tmp_path):
    """Return descriptions(content), which writes a file and returns settings."""

    def write(content: object) -> dict:
        (tmp_path / "descriptions.json").write_text(json.dumps(content))
        return {"TEACHER.TEMPLATES": str(tmp_path / "descriptions.json")}

    return write


def mean_features(teacher, texts: list[str]) -> torch.Tensor:
    return F.normalize(torch.cat([teacher.encode_text([text]) for text in texts]).mean(0), dim=-1)


def imagenet_texts(name: str) -> list[str]:
    return [text.format(name.replace("_", " ")) for text in (*IMAGENET_TEMPLATES_SELECT, "a drawing of a {}.")]


def described_texts(name: str) -> list[str]:
    return [f"A {name} with {number} legs." for number in range(3)]


@pytest.mark.parametrize("method", ["FDBPL", "FDBPL_PromptKD", "CoOp_KDPL", "PromptKD"])
@pytest.mark.parametrize("texts", [imagenet_texts, described_texts])
def test_class_features_are_normalised_means(method, texts, build_shared, descriptions, teacher_file):
    settings = {"TEACHER.TEMPLATES": "imagenet"} if texts is imagenet_texts else descriptions(DESCRIPTIONS)
    trainer = build_shared(method, f"{method}_{texts.__name__}", **settings)
    teacher = load_backbone(teacher_file)
    expected = torch.stack([mean_features(teacher, texts(name)) for name in trainer.dm.dataset.classnames])
    dataset = trainer.dm.dataset
    features = trainer.supervision_class.class_features(trainer.cfg, dataset, dataset.classnames, lambda: teacher)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-6)
    batch = first_batch(trainer)
    if method == "FDBPL":
        first = next(iter(trainer.train_loader_x))
        x = trainer.supervision.lookup.embeddings(first["image_index"], first["region"])
        torch.testing.assert_close(batch.teacher_logits, teacher.logit_scale * x @ expected.T, rtol=1e-4, atol=1e-4)
    if "PromptKD" in method:
        torch.testing.assert_close(trainer.student.class_features, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("texts", [imagenet_texts, described_texts])
def test_words_of_a_vocabulary(texts, build_shared, descriptions, teacher_file, tmp_path):
    """Words have no descriptions: they get the template."""
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    settings = {"TEACHER.TEMPLATES": "imagenet"} if texts is imagenet_texts else descriptions(DESCRIPTIONS)
    words = {"TRAINER.FDBPL.VOCABULARY": str(tmp_path / "words.txt")}
    trainer = build_shared("FDBPL", f"words_{texts.__name__}", **settings, **words)
    trainer.build_supervision()
    lookup, teacher = trainer.supervision.lookup, load_backbone(teacher_file)
    number = torch.tensor([0])
    own = imagenet_texts if texts is imagenet_texts else lambda word: [f"a drawing of a {word}."]
    features = torch.stack([mean_features(teacher, own(word)) for word in WORDS])
    expected = teacher.logit_scale * lookup.embeddings(number, number) @ features.T
    torch.testing.assert_close(lookup.teacher_logits(number, number)[:, 5:], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "content, message",
    [
        ({**DESCRIPTIONS, "Cat": []}, "no list of sentences for 'Cat'"),
        ({**DESCRIPTIONS, "Cat": "A cat."}, "no list of sentences for 'Cat'"),
        ({"cat": ["A cat."], "lemon": ["A lemon."]}, "describes 2 of 10 classes; add sentences for .*ramen"),
        ([["cat"]], "should be a JSON file .class: .sentences.. .*holds a list"),
    ],
)
def test_files_without_descriptions(content, message, build, descriptions):
    with pytest.raises(UserError, match=message):
        build("FDBPL", **descriptions(content))


def test_what_several_prompts_cannot_be_combined_with(make_cfg):
    imagenet = {"TEACHER.TEMPLATES": "imagenet", "DATASET.ROOT": "/nowhere"}
    for name, settings, message in (
        ("CoOp_KDPL", {"TRAINER.KDPL.CLASS_AGNOSTIC": True}, "TEMPLATES cannot be used with .*CLASS_AGNOSTIC"),
        (
            "FDBPL",
            {"TEACHER.NAME": "run:some/run"},
            "TEMPLATES 'imagenet' cannot be used with TEACHER.NAME run:some/run",
        ),
        ("FDBPL", {"TEACHER.TEMPLATES": "imagenett"}, "imagenett does not exist; it should be a JSON file"),
    ):
        with pytest.raises(UserError, match=message):
            build_trainer(make_cfg(name, **imagenet | settings))


def test_another_content_of_the_file_is_another_run(train_py, build, descriptions, capsys):
    settings = descriptions(DESCRIPTIONS) | {"OPTIM.MAX_EPOCH": 1}
    build("FDBPL", "bank", **settings)
    train_py("FDBPL", "run", **settings)
    train_py("FDBPL", "run", **settings)  # finished
    descriptions({**DESCRIPTIONS, "Cat": ["A black cat."]})
    with pytest.raises(SystemExit):
        train_py("FDBPL", "run", **settings)
    assert "another content of the file TEACHER.TEMPLATES" in capsys.readouterr().err
