"""KDPL-CA: words of a vocabulary instead of the class names."""

import hashlib
from pathlib import Path

import pytest
import torch

from fdbpl.engine.supervision import vocabulary
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.errors import SystemFailure, UserError

from .methods import TRAINER_REGISTRY, cfg_key_of, first_batch, learned, same, trained

WORDS = ["apple", "boat", "coral reef", "drum", "engine", "fern", "glacier", "harp", "igloo", "jar", "kettle", "lamp"]
DISTILLED = [name for name in trained() if TRAINER_REGISTRY.get(name).supervision_class is OnlineTeacher]


@pytest.fixture
def agnostic(tmp_path) -> dict:
    """Return settings with a vocabulary of 12 words, of which each batch uses 5."""
    file = tmp_path / "words.csv"
    file.write_text("\n".join(["ClassName", *WORDS, WORDS[0], ""]))
    return {"TRAINER.KDPL.CLASS_AGNOSTIC": True, "TRAINER.KDPL.VOCABULARY": str(file), "TRAINER.KDPL.K_MAX": 5,
            "OPTIM.MAX_EPOCH": 1, "OPTIM.WEIGHT_DECAY": 0.0, "OPTIM.WARMUP_CONS_LR": 0.01}  # fmt: skip


@pytest.mark.parametrize("name", DISTILLED)
def test_every_student_learns_from_words(name, build, agnostic, monkeypatch):
    trainer = build(name, **agnostic)
    start, outputs, losses = learned(trainer), [], OnlineTeacher.losses
    monkeypatch.setattr(OnlineTeacher, "losses", lambda *arguments: outputs.append(arguments[1:]) or losses(*arguments))
    trainer.train()
    for output, batch in outputs:
        assert output.logits.shape == (4, 5) and output.text_features.shape[-2] == 5
        assert batch.teacher_logits.shape == (4, len(WORDS)) and batch.labels is None
    assert all(not torch.equal(value, start[key]) for key, value in learned(trainer).items())
    shared, own = ({id(value) for module in student.trainable_modules().values() for value in module.parameters()}
                   for student in (trainer.train_student, trainer.student))  # fmt: skip
    assert shared == own
    assert trainer.predictor()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)  # a test uses the five class names


def test_the_most_likely_words_of_the_batch_are_used(build, agnostic):
    trainer = build("CoOp_KDPL", **agnostic)
    batch = first_batch(trainer)
    mean = batch.teacher_logits.softmax(-1).mean(0)
    index = trainer.supervision.classes(batch)
    assert set(index.tolist()) == set(sorted(range(len(WORDS)), key=lambda word: -mean[word])[:5])
    part, whole = (trainer.train_student.outputs(batch, classes).logits for classes in (index, None))
    torch.testing.assert_close(part, whole[:, index], atol=1e-4, rtol=1e-4)
    teacher = trainer.supervision.teacher
    texts = teacher.encode_text([f"a photo of a {word}." for word in WORDS])  # not the template of the data set
    torch.testing.assert_close(trainer.supervision.texts, texts)


def test_a_vocabulary_smaller_than_k_max(build, agnostic):
    trainer = build("CoOp_KDPL", **agnostic | {"TRAINER.KDPL.K_MAX": 1000})
    start = learned(trainer)
    trainer.train()
    assert not same(learned(trainer), start)


@pytest.mark.parametrize("name", ["CoOp_KDPL", "KgCoOp_KDPL", "TCP_KDPL"])
def test_class_specific_contexts_are_refused(name, build, agnostic):
    key = f"TRAINER.{cfg_key_of(name)}."
    with pytest.raises(UserError, match=f"{key}CSC True cannot be combined with .*CLASS_AGNOSTIC"):
        build(name, **agnostic, **{f"{key}CSC": True, f"{key}CTX_INIT": ""}).train()


def test_class_specific_parameters_are_refused(build, agnostic, monkeypatch):
    trainer = build("CoOp_KDPL", **agnostic)
    monkeypatch.setattr(type(trainer.student), "class_specific", True)
    with pytest.raises(UserError, match="TRAINER.COOP trains parameters of the training classes"):
        trainer.train()


def test_promptkd_needs_the_class_names(build, agnostic):
    with pytest.raises(UserError, match="CLASS_AGNOSTIC True cannot be used with PromptKD"):
        build("PromptKD", **agnostic, **{"DATASET.ROOT": "/nowhere"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("a folder", "does not exist"),
        (b"", "has 0 words"),
        (b"ClassName\napple\napple\n", "has 1 words"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_broken_word_list_is_refused(content, message, tmp_path):
    file = tmp_path / "words.csv"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        file.mkdir()
    with pytest.raises(UserError, match=rf"{file}.*{message}"):
        vocabulary.read_vocabulary(str(file))


def test_the_published_list_is_downloaded_once(tmp_path, monkeypatch):
    source = tmp_path / "source.csv"
    source.write_text("ClassName\napple\nboat\n")
    monkeypatch.setenv("FDBPL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vocabulary, "URL", source.as_uri())
    monkeypatch.setattr(vocabulary, "SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    assert vocabulary.read_vocabulary("") == ["apple", "boat"]
    source.unlink()
    assert vocabulary.read_vocabulary("") == ["apple", "boat"]


@pytest.mark.parametrize("fault", ["no network", "another file", "no folder"])
def test_a_failed_download_leaves_no_file(fault, tmp_path, monkeypatch):
    source, cache = tmp_path / "source.csv", tmp_path / "cache"
    source.write_text("not KDPL's list\n")
    monkeypatch.setenv("FDBPL_CACHE", str(cache))
    monkeypatch.setattr(vocabulary, "URL", "http://127.0.0.1:9/list.csv" if fault == "no network" else source.as_uri())
    if fault == "no folder":
        cache.write_text("a file in place of the folder")
    with pytest.raises(SystemFailure, match="KDPL's word list could not be downloaded .*TRAINER.KDPL.VOCABULARY"):
        vocabulary.read_vocabulary("")
    assert not [path for path in Path(cache).rglob("*") if path.is_file()]
