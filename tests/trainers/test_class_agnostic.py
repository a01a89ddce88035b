"""KDPL-CA: words of a vocabulary in place of the class names."""

from pathlib import Path

import pytest
import torch

from fdbpl.engine.supervision import vocabulary
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.errors import SystemFailure, UserError

from .methods import TRAINER_REGISTRY, learnt, node_of, trained

WORDS = ["apple", "boat", "coral reef", "drum", "engine", "fern", "glacier", "harp", "igloo", "jar", "kettle", "lamp"]
DISTILLED = [name for name in trained() if TRAINER_REGISTRY.get(name).supervision_class is OnlineTeacher]


@pytest.fixture
def words(tmp_path) -> str:
    file = tmp_path / "words.csv"
    file.write_text("\n".join(["ClassName", *WORDS, WORDS[0], ""]))
    return str(file)


@pytest.fixture
def agnostic(words) -> dict:
    return {"TRAINER.KDPL.CLASS_AGNOSTIC": True, "TRAINER.KDPL.VOCABULARY": words, "TRAINER.KDPL.K_MAX": 5,
            "OPTIM.MAX_EPOCH": 2, "OPTIM.WEIGHT_DECAY": 0.0}  # fmt: skip


@pytest.mark.parametrize("name", DISTILLED)
def test_every_student_learns_from_words(name, build, agnostic, monkeypatch):
    trainer = build(name, **agnostic)
    start, outputs = learnt(trainer), []
    losses = OnlineTeacher.losses

    def recording(self, output, batch):
        outputs.append((output, batch))
        return losses(self, output, batch)

    monkeypatch.setattr(OnlineTeacher, "losses", recording)
    trainer.train()
    for said, view in outputs:
        assert said.logits.shape == (4, 5) and said.text_features.shape[-2] == 5
        assert view.teacher_logits.shape == (4, len(WORDS)) and view.labels is None
    after = learnt(trainer)
    assert all(not torch.equal(value, start[key]) for key, value in after.items())
    shared, own = ({id(value) for module in student.trainable_modules().values() for value in module.parameters()}
                   for student in (trainer.train_student, trainer.student))  # fmt: skip
    assert shared == own
    assert trainer.predictor()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)  # a test asks about the five classes


def test_the_likeliest_words_of_the_batch_are_asked(build, agnostic):
    trainer = build("CoOp_KDPL", **agnostic)
    trainer.build_supervision()
    view = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    mean = view.teacher_logits.softmax(-1).mean(0)
    index = trainer.supervision.classes(view)
    assert set(index.tolist()) == set(sorted(range(len(WORDS)), key=lambda word: -mean[word])[:5])
    said = trainer.train_student.outputs(view, index)
    torch.testing.assert_close(said.logits, trainer.train_student.outputs(view).logits[:, index], atol=1e-4, rtol=1e-4)
    teacher = trainer.supervision.teacher
    texts = teacher.encode_text([f"a photo of a {word}." for word in WORDS])  # not the data set's template
    torch.testing.assert_close(trainer.supervision.texts, texts)


def test_fewer_words_than_asked_for(build, agnostic):
    trainer = build("CoOp_KDPL", **agnostic | {"TRAINER.KDPL.K_MAX": 1000})
    trainer.train()
    assert 0 <= trainer.results["accuracy"] <= 100


@pytest.mark.parametrize("name", ["CoOp_KDPL", "KgCoOp_KDPL", "TCP_KDPL"])
def test_class_specific_contexts_are_refused(name, build, agnostic):
    node = f"TRAINER.{node_of(name)}."
    with pytest.raises(UserError, match=f"{node}CSC True cannot be combined with .*CLASS_AGNOSTIC"):
        build(name, **agnostic, **{f"{node}CSC": True, f"{node}CTX_INIT": ""}).train()


def test_promptkd_has_no_other_classes(build, agnostic):
    with pytest.raises(UserError, match="CLASS_AGNOSTIC True cannot be used with PromptKD"):
        build("PromptKD", **agnostic, **{"DATASET.ROOT": "/nowhere"})


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "does not exist"),
        (b"", "has 0 words"),
        (b"ClassName\napple\napple\n", "has 1 words"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_bad_word_list_is_a_sentence(content, said, tmp_path):
    file = tmp_path / "words.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=rf"{file}.*{said}"):
        vocabulary.read_vocabulary(str(file))


def test_a_word_list_that_is_a_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        vocabulary.read_vocabulary(str(tmp_path))


def test_the_published_list_is_downloaded_once(tmp_path, monkeypatch):
    source, cache = tmp_path / "source.csv", tmp_path / "cache"
    source.write_text("ClassName\napple\nboat\n")
    import hashlib

    monkeypatch.setenv("FDBPL_CACHE", str(cache))
    monkeypatch.setattr(vocabulary, "URL", source.as_uri())
    monkeypatch.setattr(vocabulary, "SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    assert vocabulary.read_vocabulary("") == ["apple", "boat"]
    source.unlink()
    assert vocabulary.read_vocabulary("") == ["apple", "boat"]


@pytest.mark.parametrize("fault", ["no network", "another file", "no folder"])
def test_a_failed_download_leaves_nothing(fault, tmp_path, monkeypatch):
    source, cache = tmp_path / "source.csv", tmp_path / "cache"
    source.write_text("not KDPL's list\n")
    monkeypatch.setenv("FDBPL_CACHE", str(cache))
    monkeypatch.setattr(vocabulary, "URL", "http://127.0.0.1:9/list.csv" if fault == "no network" else source.as_uri())
    if fault == "no folder":
        cache.write_text("a file is in the way")
    with pytest.raises(SystemFailure, match="KDPL's word list could not be downloaded .*TRAINER.KDPL.VOCABULARY"):
        vocabulary.read_vocabulary("")
    assert not [path for path in Path(cache).rglob("*") if path.is_file()]
