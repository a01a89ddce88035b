"""FDBPL's extensions: a vocabulary, labels, the entropy of uninformative regions, normalised weights."""

import pytest
import torch
import torch.nn.functional as F

from fdbpl.errors import UserError

from .methods import first_batch, learned, trained

WORDS = ["apple", "boat", "coral reef", "drum", "engine", "fern"]
VARIANTS = [name for name in trained() if name.startswith("FDBPL") and "off" not in name]
PLAIN = {"TRAINER.FDBPL.ENTROPY_EPSILON": 0.0}


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory) -> dict:
    """Settings with six words, of which each batch uses four."""
    file = tmp_path_factory.mktemp("words") / "words.txt"
    file.write_text("\n".join(WORDS))
    return {"TRAINER.FDBPL.VOCABULARY": str(file), "TRAINER.FDBPL.VOCABULARY_K": 4}


def distributions(trainer, batch):
    """p, q and w of a batch over the classes."""
    (features,) = trainer.student.text_features()
    q = (trainer.student.backbone.logit_scale * batch.image_features @ features.T).softmax(-1)
    p = batch.teacher_logits.softmax(-1)
    return p, q, 1 + (p * p.log()).sum(-1) / torch.tensor(p.shape[-1]).log()


def test_the_vocabulary_term_is_the_divergence_over_classes_and_likeliest_words(build_shared, vocabulary):
    trainer = build_shared("FDBPL", "words", **PLAIN, **vocabulary, **{"TRAINER.FDBPL.VOCABULARY_WEIGHT": 0.5})
    batch = first_batch(trainer)
    loss = trainer.compute_losses(batch)["vocabulary"]

    lookup, student = trainer.supervision.lookup, trainer.student
    first = next(iter(trainer.train_loader_x))
    names = trainer.dm.dataset.classnames
    embeddings = lookup.embeddings(first["image_index"], first["region"])
    texts = lookup.bank.text_features([f"a drawing of a {name.replace('_', ' ')}." for name in names + WORDS])
    t = lookup.identity["logit_scale"] * embeddings @ texts.T
    mean = t.softmax(-1).mean(0)[len(names) :]
    chosen = sorted(range(len(WORDS)), key=lambda word: -mean[word])[:4]
    columns = list(range(len(names))) + [len(names) + word for word in chosen]
    (classes,) = student.text_features()
    (words,) = student.with_classes(WORDS).text_features()
    s = student.backbone.logit_scale * batch.image_features @ torch.cat([classes, words])[columns].T
    p, q = t[:, columns].softmax(-1), s.softmax(-1)
    distance = 0.5 * (p * (p / q).log()).sum(-1) + 0.5 * (q * (q / p).log()).sum(-1)
    _, _, w = distributions(trainer, batch)
    torch.testing.assert_close(loss, 0.5 * (w * distance).mean(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_student_learns_from_words_and_labels(name, build_shared, vocabulary):
    settings = {"TRAINER.FDBPL.LABEL_WEIGHT": 0.1, "OPTIM.MAX_EPOCH": 1, "OPTIM.WARMUP_CONS_LR": 0.01}
    if name == "FDBPL_PromptKD":
        with pytest.raises(UserError, match="VOCABULARY cannot be used with FDBPL_PromptKD"):
            build_shared(name, "refused", **vocabulary)
        return
    trainer = build_shared(name, f"extended_{name}", **vocabulary, **settings)
    start = learned(trainer)
    losses = trainer.compute_losses(first_batch(trainer))
    assert {"vocabulary", "label"} <= set(losses) and all(torch.isfinite(value) for value in losses.values())
    trainer.train()
    assert all(not torch.equal(value, start[key]) for key, value in learned(trainer).items())
    assert trainer.predictor()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)  # a test uses the class names only


def test_labels_and_entropy_of_uninformative_regions(build_shared):
    weights = {"TRAINER.FDBPL.LABEL_WEIGHT": 0.3, "TRAINER.FDBPL.UNCERTAIN_WEIGHT": 0.2}
    trainer = build_shared("FDBPL", "labels", **PLAIN, **weights)
    batch = first_batch(trainer)
    losses = trainer.compute_losses(batch)
    items, images = trainer.dm.dataset.train_x, next(iter(trainer.train_loader_x))["image_index"]
    labels = torch.tensor([items[image].label for image in images])
    assert torch.equal(batch.labels, labels)
    _, q, w = distributions(trainer, batch)
    expected = 0.3 * (w * F.nll_loss(q.log(), labels, reduction="none")).mean()
    torch.testing.assert_close(losses["label"], expected, rtol=1e-4, atol=1e-6)
    expected = 0.2 * ((1 - w) * (q * q.log()).sum(-1)).mean()
    torch.testing.assert_close(losses["uncertain"], expected, rtol=1e-4, atol=1e-6)


def test_normalised_weights(build_shared):
    runs = [build_shared("FDBPL", f"normalised_{on}", **PLAIN, **{"TRAINER.FDBPL.NORMALIZE_WEIGHT": on})
            for on in (False, True)]  # fmt: skip
    (plain, batch), (normalised, _) = [(run.compute_losses(first_batch(run)), first_batch(run)) for run in runs]
    _, _, w = distributions(runs[0], batch)
    for name, weight in (("positive", w), ("coupling", w), ("negative", 1 - w)):
        torch.testing.assert_close(normalised[name], plain[name] / weight.mean(), rtol=1e-4, atol=1e-6)


def test_extensions_are_off_by_default(build_shared):
    trainer = build_shared("FDBPL", "plain")
    batch = first_batch(trainer)
    assert batch.labels is None and batch.word_logits is None
    assert set(trainer.compute_losses(batch)) == {"positive", "negative", "coupling", "pcd"}


def test_what_a_vocabulary_cannot_be_combined_with(build, vocabulary, tmp_path):
    with pytest.raises(UserError, match="VOCABULARY needs REGIONS.TARGET embedding"):
        build("FDBPL", **vocabulary, **{"REGIONS.TARGET": "topk:2"})
    with pytest.raises(UserError, match="CSC True cannot be combined with a vocabulary"):
        build("FDBPL", **vocabulary, **{"TRAINER.FDBPL.CSC": True, "TRAINER.FDBPL.CTX_INIT": "",
                                         "TRAINER.FDBPL.NEGATIVE_CTX_INIT": ""}).train()  # fmt: skip
    with pytest.raises(UserError, match="TRAINER.FDBPL.VOCABULARY.* does not exist"):
        build("FDBPL", **{"TRAINER.FDBPL.VOCABULARY": str(tmp_path / "none.txt")})
