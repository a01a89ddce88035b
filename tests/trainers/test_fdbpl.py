"""FDBPL: its loss, and the region bank that replaces teacher, labels and images."""

import math
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import fdbpl.engine.student
from fdbpl.backbones import load_backbone, weights_sha256
from fdbpl.engine.bank_discovery import find_banks
from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.supervision import region_bank
from fdbpl.engine.supervision.region_batches import RegionBatches
from fdbpl.errors import UserError
from fdbpl.losses import entropy_weight
from fdbpl.regions.metadata import read_identity

from .methods import first_batch

COMPUTED = {"REGIONS.CACHE_STUDENT_FEATURES": False}  # image features are computed from pixels


def banks_of(trainer) -> list:
    return find_banks(trainer.cfg, trainer.dm.dataset)


def test_the_loss_equals_its_definition(build_shared):
    """Compare with a loop over regions and pairs of regions."""
    weights = {"NEGATIVE_WEIGHT": 0.7, "COUPLING_WEIGHT": 0.3, "PCD_WEIGHT": 2.0, "PCD_MARGIN": 0.5, "ALPHA": 0.4}
    settings = {f"TRAINER.FDBPL.{key}": value for key, value in weights.items()}
    trainer = build_shared("FDBPL", "loss", **settings, **{"TRAINER.FDBPL.ENTROPY_EPSILON": 0.0})
    batch = first_batch(trainer)
    losses = trainer.compute_losses(batch)

    positive, negative = trainer.student.text_features(trainer.negative_prompt_learner())
    x, t, scale = batch.image_features, batch.teacher_logits, trainer.student.backbone.logit_scale
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
    y, d = p.argmax(-1).tolist(), positive - negative
    pairs = [w[i] * w[j] * F.relu(0.5 - (x[i] - x[j]) @ (d[y[i]] - d[y[j]]))
             for i in range(rows) for j in range(rows) if y[i] != y[j]]  # fmt: skip
    expected["pcd"] = 2.0 * torch.stack(pairs).mean() if pairs else torch.zeros(())
    assert set(losses) == set(expected)
    for key, value in expected.items():
        assert losses[key].item() == pytest.approx(float(torch.as_tensor(value).detach()), rel=1e-4, abs=1e-6), key


def test_looked_up_features_equal_those_of_the_image_tower(build_shared):
    """Regions from the bank and from the image files are equal up to float16, in the same order."""
    runs = [build_shared("FDBPL", name, **settings, **{"OPTIM.LR": 0.5})
            for name, settings in (("features", {}), ("pixels", COMPUTED))]  # fmt: skip
    for run in runs:
        run.build_supervision()
    for epoch in range(2):
        for run in runs:
            run.supervision.set_epoch(epoch)
        loaded = [list(run.train_loader_x) for run in runs]
        assert len(loaded[0]) == len(loaded[1]) == len(runs[0].train_loader_x) > 1
        for first, second in zip(*loaded, strict=True):
            assert first["impath"] == second["impath"] and torch.equal(first["region"], second["region"])
            batches = [run.parse_batch_train(batch) for run, batch in zip(runs, (first, second), strict=True)]
            assert batches[0].images is None and batches[1].image_features is None
            found, expected = (run.student.image_features(batch) for run, batch in zip(runs, batches, strict=True))
            assert (found - expected).abs().max() < 1e-3
            assert torch.equal(batches[0].teacher_logits, batches[1].teacher_logits)
    for run in runs:
        run.train()
    for name, module in runs[0]._models.items():
        assert (module.ctx - runs[1]._models[name].ctx).abs().max() < 2e-3


def test_promptsrc_reads_its_frozen_features_from_the_bank(build_shared, monkeypatch):
    """The losses equal those of computed features up to float16, and the frozen image tower does not run."""
    losses = []
    for name, settings in (("features", {}), ("pixels", COMPUTED)):
        run = build_shared("FDBPL_PromptSRC", name, **settings)
        batch = first_batch(run)
        assert batch.images is not None and (batch.image_features is None) == (name == "pixels")
        encode = Mock(side_effect=run.student.backbone.encode_image)
        monkeypatch.setattr(run.student.backbone, "encode_image", encode)
        losses.append(run.compute_losses(batch))
        assert encode.call_count == (name == "pixels")
    for name, value in losses[1].items():
        assert losses[0][name].item() == pytest.approx(value.item(), rel=1e-2, abs=1e-4), name


def test_stored_logits_equal_those_of_the_teacher_for_the_same_pixels(build_shared, teacher_file):
    trainer = build_shared("FDBPL", "teacher", **COMPUTED)
    batch = first_batch(trainer)
    teacher = load_backbone(teacher_file)
    names = [name.replace("_", " ") for name in trainer.dm.dataset.classnames]
    texts = teacher.encode_text([f"a drawing of a {name}." for name in names])
    expected = teacher.logit_scale * teacher.encode_image(batch.images) @ texts.T
    assert (batch.teacher_logits - expected).abs().max() < 1e-2 * expected.abs().max()
    assert torch.equal(batch.teacher_logits.argmax(-1), expected.argmax(-1))


def test_no_teacher_is_loaded_and_no_training_image_decoded(build_shared, monkeypatch):
    build_shared("FDBPL", "bank")
    loaded, load = [], fdbpl.engine.student.load_backbone

    def recording(name, *arguments, **keywords):
        loaded.append(name)
        return load(name, *arguments, **keywords)

    for module in (fdbpl.engine.student, region_bank):
        monkeypatch.setattr(module, "load_backbone", recording)
    trainer = build_shared("FDBPL", "run", bank=False)
    trainer.dm.train_loader_x = None  # Dassl's own loader, which decodes images
    monkeypatch.setattr(region_bank, "build_pipeline", None)
    trainer.train()
    assert loaded == [trainer.cfg.MODEL.BACKBONE.NAME]


def test_only_training_needs_a_bank(build):
    trainer = build("FDBPL", bank=False)
    trainer.test()
    assert 0 <= trainer.results["accuracy"] <= 100
    with pytest.raises(UserError, match="generate_regions.sh"):
        trainer.train()


def test_a_bank_is_specific_to_crops_and_precision_but_not_to_seeds(build, cpu_with):
    cpu_with("AVX512-BF16")
    first = build("FDBPL", "first")
    (bank,) = banks_of(first)
    assert banks_of(build("FDBPL", "second", SEED=2)) == [bank]
    (other,) = banks_of(build("FDBPL", "third", **{"REGIONS.FLIP": 0.0}))
    (half,) = banks_of(build("FDBPL", "half", **{"TEACHER.PREC": "bf16"}))
    assert len({bank, other, half}) == 3
    assert "precision" not in read_identity(bank) and read_identity(half)["precision"] == "bf16"
    embeddings = [load_file(next(folder.glob("regions-*")))["embeddings"] for folder in (bank, half)]
    assert not torch.equal(*embeddings) and (embeddings[0] - embeddings[1]).abs().max() < 0.05


def test_a_top_k_bank_stores_the_entropy_of_the_full_distribution(build_shared):
    full = first_batch(build_shared("FDBPL", "full", **{"TRAINER.FDBPL.ENTROPY_EPSILON": 0.0}))
    trainer = build_shared("FDBPL", "top", **{"REGIONS.TARGET": "topk:2"})
    top = first_batch(trainer)
    assert full.entropy is None
    assert (1 - top.entropy - entropy_weight(full.teacher_logits)).abs().max() < 1e-3
    assert torch.equal(full.teacher_logits.argmax(-1), top.teacher_logits.argmax(-1))
    trainer.train()
    assert torch.isfinite(trainer.student.prompt_learner.ctx).all()


def test_hashes_of_weights_are_known_without_loading_them(student_file):
    assert weights_sha256(student_file) == load_backbone(student_file).sha256
    assert weights_sha256("open_clip:ViT-H-14-quickgelu/dfn5b") is None
    assert len(weights_sha256("RN50")) == 64 and weights_sha256("no such model") is None


@torch.no_grad()
def test_test_logits(build_shared):
    images = torch.randn(3, 3, 32, 32)
    positive = build_shared("FDBPL", "positive", bank=False)
    difference = build_shared("FDBPL", "difference", bank=False, **{"TRAINER.FDBPL.TEST_LOGITS": "difference"})
    features = positive.student.image_features(TrainBatch(images=images))
    f_positive, f_negative = positive.student.text_features(positive.negative_prompt_learner())
    scale = positive.student.backbone.logit_scale
    torch.testing.assert_close(positive.predictor()(images), scale * features @ f_positive.T)
    expected = scale * features @ (f_positive - f_negative).T
    torch.testing.assert_close(difference.predictor()(images), expected, atol=1e-4, rtol=1e-4)


def test_an_epoch_contains_each_image_once_with_its_next_region():
    batches = RegionBatches([f"{number}.jpg" for number in range(10)], per_image=3, batch_size=5, seed=1)

    def epoch(number: int) -> list[tuple[int, int]]:
        batches.set_epoch(number)
        rows = list(batches)
        assert len(rows) == len(batches) == 2
        return [pair for row in rows for pair in zip(row["image_index"].tolist(), row["region"].tolist(), strict=True)]

    epochs = [epoch(number) for number in range(3)]
    assert all(sorted(image for image, _ in pairs) == list(range(10)) for pairs in epochs)
    for image in range(10):
        assert sorted(region for pairs in epochs for index, region in pairs if index == image) == [0, 1, 2]
    assert epoch(2) == epochs[2] != epochs[1]


def pairs(batches: RegionBatches, *epochs: int) -> list[tuple[int, int]]:
    """(image, region) of all rows of some epochs, in order."""
    found = []
    for epoch in epochs:
        batches.set_epoch(epoch)
        for rows in batches:
            found += zip(rows["image_index"].tolist(), rows["region"].tolist(), strict=True)
    return found


def test_several_regions_of_an_image_in_one_epoch_are_those_of_several_epochs():
    images = [f"{number}.jpg" for number in range(6)]
    single = RegionBatches(images, per_image=4, batch_size=3, seed=1)
    several = RegionBatches(images, per_image=4, batch_size=3, seed=1, per_epoch=4)
    assert len(several) == 4 * len(single)
    assert pairs(several, 0) == pairs(single, 0, 1, 2, 3) and pairs(several, 1) == pairs(single, 4, 5, 6, 7)
    assert len(set(pairs(several, 0))) == 24  # every region once
    filled = RegionBatches(images, per_image=4, batch_size=16, seed=1, per_epoch=4)  # across the passes
    assert [len(rows["index"]) for rows in filled] == [16]


@pytest.mark.parametrize("images, batch_size", [(1, 32), (3, 8), (100, 8)])
def test_a_fixed_number_of_steps_for_any_number_of_images(images, batch_size):
    batches = RegionBatches([str(number) for number in range(images)], 5, batch_size, seed=1, steps=6)
    assert [len(rows["index"]) for rows in batches] == [batch_size] * 6 and len(batches) == 6
    if images > 1:
        assert pairs(batches, 0) != pairs(batches, 1)
    assert max(region for _, region in pairs(batches, 0, 1)) < 5


def test_partial_batches_are_dropped_as_in_dassl():
    batches = RegionBatches([str(number) for number in range(7)], 1, batch_size=3, seed=1)
    assert [len(row["index"]) for row in batches] == [3, 3]
    small = RegionBatches(["a", "b"], 1, batch_size=32, seed=1)
    assert len(small) == 1 and [len(row["index"]) for row in small] == [2]
