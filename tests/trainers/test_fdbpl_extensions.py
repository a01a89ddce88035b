"""FDBPL's extensions, compared with their definitions."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from fdbpl import export
from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.trained_run import load_run
from fdbpl.errors import UserError
from fdbpl.templates import fill_template

from .methods import finish_run_folder, first_batch, learned, logits, same, stopped_in_epoch, trained

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


def test_words_are_pulled_to_their_frozen_features(build_shared, vocabulary):
    trainer = build_shared("FDBPL", "pull", **vocabulary, **{"TRAINER.FDBPL.VOCABULARY_PULL": 3.0})
    batch = first_batch(trainer)
    with torch.no_grad():
        trainer.student.prompt_learner.ctx.mul_(1.1)
    words = [WORDS[word] for word in batch.words]
    (learnt,) = trainer.student.with_classes(words).text_features()
    frozen = trainer.student.backbone.encode_text([f"a photo of a {word}." for word in words])
    expected = 3 * (1 - F.cosine_similarity(learnt, frozen).mean())
    torch.testing.assert_close(trainer.compute_losses(batch)["vocabulary_pull"], expected, rtol=1e-4, atol=1e-6)


def test_the_words_belong_to_the_identity_of_a_run(train_py, tmp_path, capsys):
    file = tmp_path / "words.txt"
    file.write_text("apple\nboat")
    words = {"TRAINER.FDBPL.VOCABULARY": str(file), "REGIONS.GENERATE": True, "OPTIM.MAX_EPOCH": 1}
    first = json.loads((train_py("FDBPL", "words", **words) / "run.json").read_text())
    train_py("FDBPL", "words", **words)
    assert "is finished" in capsys.readouterr().out
    file.write_text("apple\nengine")
    with pytest.raises(SystemExit):
        train_py("FDBPL", "words", **words)
    assert "another content of the file TRAINER.FDBPL.VOCABULARY" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train_py("FDBPL", "resumed", "--resume", tmp_path / "words", **words | {"OPTIM.MAX_EPOCH": 2})
    assert "another content of the file TRAINER.FDBPL.VOCABULARY" in capsys.readouterr().err
    second = json.loads((train_py("FDBPL", "others", **words) / "run.json").read_text())
    assert first["fingerprint"] != second["fingerprint"] and first["inputs"]["files"]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_student_learns_from_words_and_labels(name, build_shared, vocabulary):
    text = {} if name == "FDBPL_VPT" else {"TRAINER.FDBPL.VOCABULARY_PULL": 1.0, "TRAINER.FDBPL.NONE_WEIGHT": 1.0}
    settings = {**text, "TRAINER.FDBPL.LABEL_WEIGHT": 0.1,
                "OPTIM.MAX_EPOCH": 1, "OPTIM.WARMUP_CONS_LR": 0.01}  # fmt: skip
    if name == "FDBPL_PromptKD":
        with pytest.raises(UserError, match="VOCABULARY cannot be used with FDBPL_PromptKD"):
            build_shared(name, "refused", **vocabulary)
        return
    trainer = build_shared(name, f"extended_{name}", **vocabulary, **settings)
    start = learned(trainer)
    losses = trainer.compute_losses(first_batch(trainer))
    assert {"vocabulary", "label", *(["vocabulary_pull", "none"] if text else [])} <= set(losses)
    assert ("none_prompt_learner" in trainer._models) == bool(text)
    assert all(torch.isfinite(value) for value in losses.values())
    trainer.train()
    assert all(not torch.equal(value, start[key]) for key, value in learned(trainer).items())
    assert trainer.predictor()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)  # a test uses the class names only


def test_a_prompt_for_none_of_the_classes(build_shared):
    trainer = build_shared("FDBPL", "none", **PLAIN, **{"TRAINER.FDBPL.NONE_WEIGHT": 0.5})
    batch = first_batch(trainer)
    loss = trainer.compute_losses(batch)["none"]
    p, _, w = distributions(trainer, batch)
    backbone, (classes,) = trainer.student.backbone, trainer.student.text_features()
    nothing = backbone.encode_text(["a photo of nothing."])
    logits = backbone.logit_scale * batch.image_features @ torch.cat([classes, nothing]).T
    target = torch.cat([w[:, None] * p, 1 - w[:, None]], dim=-1)
    expected = 0.5 * (target * (target / logits.softmax(-1)).log()).sum(-1).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)


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


def test_weights_from_ranks(build_shared):
    runs = [build_shared("FDBPL", f"ranks_{on}", **PLAIN, **{"TRAINER.FDBPL.RANK_WEIGHT": on}) for on in (False, True)]
    batch = first_batch(runs[1])
    w, ranks = (run.region_weight(batch.teacher_logits) for run in runs)
    assert ranks[w.argsort()].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    p, q, _ = distributions(runs[1], batch)
    expected = (ranks * (0.5 * (p * (p / q).log()).sum(-1) + 0.5 * (q * (q / p).log()).sum(-1))).mean()
    torch.testing.assert_close(runs[1].compute_losses(batch)["positive"], expected, rtol=1e-4, atol=1e-6)


MIXED = {"TRAINER.FDBPL.FROZEN_TEXT_WEIGHT": 0.5, "OPTIM.MAX_EPOCH": 1, "OPTIM.WARMUP_CONS_LR": 0.01}


@pytest.mark.parametrize("name", ["FDBPL", "FDBPL_MaPLe", "FDBPL_TCP", "FDBPL_CoCoOp"])
def test_frozen_class_features_are_added_in_a_test(name, build_shared, tmp_path):
    trainer = build_shared(name, f"mixed_{name}", **MIXED)
    trainer.train()
    student, images = trainer.student, torch.randn(2, 3, 32, 32)
    found = logits(trainer, images)
    with torch.no_grad():
        x = student.image_features(TrainBatch(images=images))
        (features,) = student.text_features(image_features=x)
        frozen = student.backbone.encode_text(fill_template("a drawing of a {}.", student.classnames))
        mixed = F.normalize(features + 0.5 * frozen, dim=-1)
    torch.testing.assert_close(found, student.logits(x, mixed), atol=1e-4, rtol=1e-4)
    run = load_run(finish_run_folder(trainer))
    torch.testing.assert_close(run.predictor()(images), found, atol=1e-4, rtol=1e-4)
    if mixed.dim() == 2:
        export.export(run, tmp_path)
        exported = load_file(tmp_path / "text_features.safetensors")["text_features"]
        torch.testing.assert_close(exported, mixed, atol=1e-5, rtol=1e-4)


def test_one_training_is_tested_with_several_weights_of_the_frozen_features(train_py):
    training = train_py("FDBPL", "training", **{"REGIONS.GENERATE": True, "OPTIM.MAX_EPOCH": 1})
    found = [train_py("FDBPL", f"test{weight}", "--eval-only", "--model-dir", training,
                      **{"TRAINER.FDBPL.FROZEN_TEXT_WEIGHT": weight}) for weight in (0.0, 2.0)]  # fmt: skip
    plain, mixed = (train_py.metrics(folder) for folder in found)
    assert plain["nll"] == train_py.metrics(training)["nll"] != mixed["nll"]


AVERAGED = {"TRAINER.FDBPL.GPA": True, "TRAINER.FDBPL.GPA_MEAN": 0.5, "TRAINER.FDBPL.GPA_STD": 0.25,
            "OPTIM.WARMUP_CONS_LR": 0.01, "TRAIN.CHECKPOINT_FREQ": 1}  # fmt: skip


@pytest.mark.parametrize("name", ["FDBPL", "FDBPL_CoCoOp", "FDBPL_PromptKD"])
def test_the_gaussian_average_of_the_epochs(name, build_shared):
    trainer = build_shared(name, f"averaged_{name}", **AVERAGED)
    epochs, add = [], trainer.average.add

    def recording(epoch, state):
        epochs.append({key: value.detach().clone() for key, value in state.items()})
        add(epoch, state)

    trainer.average.add = recording
    trainer.train()
    weights = [math.exp(-((epoch - 2) ** 2) / 2) for epoch in (1, 2, 3, 4)]
    found = {f"{module}.{key}": value for module, learner in trainer._models.items()
             for key, value in learner.state_dict().items()}  # fmt: skip
    assert set(learned(trainer)) <= set(epochs[0])  # both prompt spaces
    for key in epochs[0]:
        expected = sum(weight * state[key] for weight, state in zip(weights, epochs, strict=True)) / sum(weights)
        torch.testing.assert_close(found[key], expected, msg=key)
        assert not torch.equal(found[key], epochs[-1][key]), key

    stopped_in_epoch(build_shared(name, f"stopped_{name}", **AVERAGED), 2)
    resumed = build_shared(name, f"stopped_{name}", **AVERAGED)
    resumed.train()
    assert resumed.start_epoch == 2 and same(learned(resumed), learned(trainer))


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("FDBPL", {"RANK_WEIGHT": True, "REGION_WEIGHT": False}, "RANK_WEIGHT True needs REGION_WEIGHT True"),
        ("FDBPL", {"VOCABULARY_PULL": 1.0}, "VOCABULARY_PULL needs words"),
        ("FDBPL", {"NONE_WEIGHT": 1.0, "TEST_LOGITS": "difference"}, "NONE_WEIGHT needs TEST_LOGITS positive"),
        ("FDBPL_VPT", {"NONE_WEIGHT": 1.0}, "NONE_WEIGHT cannot be used with FDBPL_VPT"),
        ("FDBPL_VPT", {"FROZEN_TEXT_WEIGHT": 1.0}, "FROZEN_TEXT_WEIGHT cannot be used with FDBPL_VPT"),
        ("FDBPL_PromptKD", {"FROZEN_TEXT_WEIGHT": 1.0}, "FROZEN_TEXT_WEIGHT cannot be used with FDBPL_PromptKD"),
        ("FDBPL_PromptSRC", {"GPA": True}, "GPA cannot be used with FDBPL_PromptSRC, .*TRAINER.PROMPTSRC.GPA_MEAN"),
    ],
)
def test_settings_that_contradict_each_other_or_the_student(name, settings, message, build):
    with pytest.raises(UserError, match=message):
        build(name, bank=False, **{f"TRAINER.FDBPL.{key}": value for key, value in settings.items()})


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
