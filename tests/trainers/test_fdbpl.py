"""FDBPL reads the bank: the loss it makes of it, features or pixels, no teacher, every image once an epoch."""

import math
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import fdbpl.engine.student
import fdbpl.engine.supervision.region_bank as region_bank
from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.supervision.region_batches import RegionBatches
from fdbpl.errors import UserError


def test_the_loss_is_the_method(build):
    """Written out once more, region by region."""
    weights = {"NEGATIVE_WEIGHT": 0.7, "COUPLING_WEIGHT": 0.3, "PCD_WEIGHT": 2.0, "PCD_MARGIN": 0.5, "ALPHA": 0.4}
    overrides = {f"TRAINER.FDBPL.{key}": value for key, value in weights.items()}
    trainer = build("FDBPL", **overrides, **{"TRAINER.FDBPL.ENTROPY_EPSILON": 0.0})
    trainer.build_supervision()
    view = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    terms = trainer.compute_losses(view)

    positive, negative = trainer.student.text_features(trainer.negative_prompt_learner())
    x, t, scale = view.image_features, view.teacher_logits, trainer.student.backbone.logit_scale
    rows, classes = t.shape
    p = t.softmax(-1)
    w = [1 - float(-(row * row.log()).sum()) / math.log(classes) for row in p]
    expected = {"positive": 0.0, "negative": 0.0, "coupling": 0.0}
    for i in range(rows):
        s, n = scale * positive @ x[i], scale * negative @ x[i]
        q, r = s.softmax(-1), n.softmax(-1)
        forward, reverse = (p[i] * (p[i] / q).log()).sum(), (q * (q / p[i]).log()).sum()
        expected["positive"] += w[i] * (0.4 * forward + 0.5 * reverse) / rows
        expected["negative"] += 0.7 * (1 - w[i]) * (r * r.log()).sum() / rows
        expected["coupling"] += 0.3 * w[i] * (s @ n) / (s.norm() * n.norm()) / rows
    y, d, pairs = p.argmax(-1).tolist(), positive - negative, []
    for i in range(rows):
        for j in range(rows):
            if y[i] != y[j]:
                pairs.append(w[i] * w[j] * F.relu(0.5 - (x[i] - x[j]) @ (d[y[i]] - d[y[j]])))
    expected["pcd"] = 2.0 * torch.stack(pairs).mean() if pairs else torch.zeros(())
    assert set(terms) == set(expected)
    for key, value in expected.items():
        assert terms[key].item() == pytest.approx(float(torch.as_tensor(value).detach()), rel=1e-4, abs=1e-6), key


def test_looked_up_features_and_the_image_tower_agree(build):
    """The same regions in the same order, once looked up, once cut from the files: equal up to fp16 features."""
    runs = [build("FDBPL", name, **{"REGIONS.CACHE_STUDENT_FEATURES": features, "OPTIM.LR": 0.5})
            for name, features in (("features", True), ("pixels", False))]  # fmt: skip
    for run in runs:
        run.build_supervision()
    for epoch in range(2):
        for run in runs:
            run.supervision.set_epoch(epoch)
        batches = [list(run.train_loader_x) for run in runs]
        assert len(batches[0]) == len(batches[1]) == len(runs[0].train_loader_x) > 1
        for first, second in zip(*batches, strict=True):
            assert first["impath"] == second["impath"] and torch.equal(first["region"], second["region"])
            views = [run.parse_batch_train(batch) for run, batch in zip(runs, (first, second), strict=True)]
            assert views[0].images is None and views[1].image_features is None
            found, expected = (run.student.image_features(view) for run, view in zip(runs, views, strict=True))
            assert (found - expected).abs().max() < 1e-3
            assert torch.equal(views[0].teacher_logits, views[1].teacher_logits)
    for run in runs:
        run.train()
    for name, module in runs[0]._models.items():
        assert (module.ctx - runs[1]._models[name].ctx).abs().max() < 2e-3


def test_promptsrc_compares_with_looked_up_features(build, monkeypatch):
    """Its terms are those of frozen features that are computed, up to fp16; the image tower runs once, not twice."""
    runs = [build("FDBPL_PromptSRC", name, **{"REGIONS.CACHE_STUDENT_FEATURES": features})
            for name, features in (("features", True), ("pixels", False))]  # fmt: skip
    terms = []
    for run in runs:
        run.build_supervision()
        view = run.parse_batch_train(next(iter(run.train_loader_x)))
        assert view.images is not None and (view.image_features is None) == (run is runs[1])
        encode = run.student.backbone.encode_image
        with monkeypatch.context() as patch:
            seen = Mock(side_effect=encode)
            patch.setattr(run.student.backbone, "encode_image", seen)
            terms.append(run.compute_losses(view))
        assert seen.call_count == (run is runs[1])
    for name, value in terms[1].items():
        assert terms[0][name].item() == pytest.approx(value.item(), rel=1e-2, abs=1e-4), name


def test_the_bank_says_what_the_teacher_says(build, teacher_file):
    """Teacher logits of a stored region = those of the teacher on the very pixels that the pipeline cuts."""
    from fdbpl.backbones import load_backbone

    trainer = build("FDBPL", **{"REGIONS.CACHE_STUDENT_FEATURES": False})
    trainer.build_supervision()
    view = trainer.parse_batch_train(next(iter(trainer.train_loader_x)))
    teacher = load_backbone(teacher_file)
    names = [name.replace("_", " ") for name in trainer.dm.dataset.classnames]
    texts = teacher.encode_text([f"a drawing of a {name}." for name in names])
    expected = teacher.logit_scale * teacher.encode_image(view.images) @ texts.T
    assert (view.teacher_logits - expected).abs().max() < 1e-2 * expected.abs().max()
    assert torch.equal(view.teacher_logits.argmax(-1), expected.argmax(-1))


def test_no_teacher_in_training_or_test_and_no_image_in_training(build, monkeypatch):
    trainer = build("FDBPL", "made")
    asked = []
    load = fdbpl.engine.student.load_backbone

    def watched(name, *arguments, **keywords):
        asked.append(name)
        return load(name, *arguments, **keywords)

    monkeypatch.setattr(fdbpl.engine.student, "load_backbone", watched)
    monkeypatch.setattr(region_bank, "load_backbone", watched)
    trainer = build("FDBPL", "run", bank=False)
    trainer.dm.train_loader_x = None  # Dassl's own loader, which would decode
    monkeypatch.setattr(region_bank, "build_pipeline", None)
    trainer.train()
    assert asked == [trainer.cfg.MODEL.BACKBONE.NAME]


def test_labels_are_not_used(build):
    trainer = build("FDBPL")
    trainer.build_supervision()
    batch = next(iter(trainer.train_loader_x))
    assert "label" not in batch and trainer.parse_batch_train(batch).labels is None


def test_a_missing_bank_is_a_sentence(build):
    with pytest.raises(UserError, match="generate_regions.sh"):
        build("FDBPL", bank=False).train()


def test_testing_needs_no_bank(build):
    trainer = build("FDBPL", bank=False)
    trainer.test()
    assert 0 <= trainer.results["accuracy"] <= 100


def test_the_bank_is_shared_by_seeds_and_grows(build):
    build("FDBPL", "first")
    from fdbpl.engine.bank_discovery import find_banks

    second = build("FDBPL", "second", SEED=2)
    assert len(find_banks(second.cfg, second.dm.dataset)) == 1
    other = build("FDBPL", "third", **{"REGIONS.FLIP": 0.0})
    assert len(find_banks(other.cfg, other.dm.dataset)) == 1
    assert find_banks(other.cfg, other.dm.dataset) != find_banks(second.cfg, second.dm.dataset)


def test_a_half_precise_teacher_has_a_bank_of_its_own(build):
    from fdbpl.engine.bank_discovery import find_banks
    from fdbpl.regions.metadata import read_identity

    runs = [build("FDBPL", name, **{"TEACHER.PREC": name}) for name in ("fp32", "bf16")]
    (whole,), (half,) = (find_banks(run.cfg, run.dm.dataset) for run in runs)
    assert whole != half
    assert "precision" not in read_identity(whole) and read_identity(half)["precision"] == "bf16"  # as ever; said
    embeddings = [load_file(next(bank.glob("regions-*")))["embeddings"] for bank in (whole, half)]
    assert not torch.equal(*embeddings) and (embeddings[0] - embeddings[1]).abs().max() < 0.05


def test_a_top_k_bank_keeps_the_entropy_of_the_whole_distribution(build):
    whole = build("FDBPL", "whole", **{"TRAINER.FDBPL.ENTROPY_EPSILON": 0.0})
    top = build("FDBPL", "top", **{"REGIONS.TARGET": "topk:2"})
    views = []
    for trainer in (whole, top):
        trainer.build_supervision()
        views.append(trainer.parse_batch_train(next(iter(trainer.train_loader_x))))
    from fdbpl.losses import entropy_weight

    assert views[0].entropy is None
    assert (1 - views[1].entropy - entropy_weight(views[0].teacher_logits)).abs().max() < 1e-3
    assert torch.equal(views[0].teacher_logits.argmax(-1), views[1].teacher_logits.argmax(-1))
    top.train()
    assert torch.isfinite(top.student.prompt_learner.ctx).all()


def test_the_hash_of_weights_is_known_without_loading_them(student_file):
    from fdbpl.backbones import load_backbone, weights_sha256

    assert weights_sha256(student_file) == load_backbone(student_file).sha256
    assert weights_sha256("open_clip:ViT-H-14-quickgelu/dfn5b") is None
    assert len(weights_sha256("RN50")) == 64 and weights_sha256("no such model") is None


def test_inference_by_difference(build):
    images = torch.randn(3, 3, 32, 32)
    positive = build("FDBPL", bank=False)
    difference = build("FDBPL", bank=False, **{"TRAINER.FDBPL.TEST_LOGITS": "difference"})
    with torch.no_grad():
        features = positive.student.image_features(TrainBatch(images=images))
        f_positive, f_negative = positive.student.text_features(positive.negative_prompt_learner())
        scale = positive.student.backbone.logit_scale
        torch.testing.assert_close(positive.predictor()(images), scale * features @ f_positive.T)
        expected = scale * (features @ f_positive.T - features @ f_negative.T)
        torch.testing.assert_close(difference.predictor()(images), expected, atol=1e-4, rtol=1e-4)


def test_an_epoch_shows_every_image_once():
    batches = RegionBatches([f"{number}.jpg" for number in range(10)], per_image=3, batch_size=5, seed=1)
    seen = []
    for epoch in range(6):
        batches.epoch = epoch
        rows = list(batches)
        assert len(rows) == len(batches) == 2
        assert sorted(sum((row["image_index"].tolist() for row in rows), [])) == list(range(10))
        seen.append([(i, r) for row in rows for i, r in zip(row["image_index"].tolist(), row["region"].tolist(),
                                                            strict=True)])  # fmt: skip
    for image in range(10):
        numbers = [region for epoch in seen[:3] for index, region in epoch if index == image]
        assert sorted(numbers) == [0, 1, 2]
    batches.epoch = 2
    again = [(i, r) for row in batches for i, r in zip(row["index"].tolist(), row["region"].tolist(), strict=True)]
    assert again == seen[2] and seen[1] != seen[2]


def test_partial_batches_follow_dassl():
    batches = RegionBatches([str(number) for number in range(7)], 1, batch_size=3, seed=1)
    assert [len(row["index"]) for row in batches] == [3, 3]
    small = RegionBatches(["a", "b"], 1, batch_size=32, seed=1)
    assert len(small) == 1 and [len(row["index"]) for row in small] == [2]
