"""FDBPL's extensions that need a bank: area of positive regions, mean distribution of an image."""

import pytest
import torch
import torch.nn.functional as F
from dassl.engine import build_trainer

from fdbpl.errors import UserError
from fdbpl.losses import coupling, mixed_logits, symmetric_kl

from .methods import first_batch
from .test_fdbpl_extensions import PLAIN, distributions

AREA = {"TRAINER.FDBPL.POSITIVE_AREA": 0.3}
MEAN = {"TRAINER.FDBPL.IMAGE_MEAN": 0.3}


def rows_of(trainer) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image and region numbers of the first batch."""
    first = next(iter(trainer.train_loader_x))
    return first["image_index"], first["region"]


@pytest.mark.parametrize("normalised", [False, True])
def test_small_regions_feed_only_the_negative_terms(build_shared, normalised):
    settings = {"TRAINER.FDBPL.LABEL_WEIGHT": 0.3, "TRAINER.FDBPL.NORMALIZE_WEIGHT": normalised, **PLAIN}
    settings |= {"DATALOADER.TRAIN_X.BATCH_SIZE": 8}
    plain = build_shared("FDBPL", f"all_areas_{normalised}", **settings)
    trainer = build_shared("FDBPL", f"large_areas_{normalised}", **settings, **AREA)
    logits = 3 * torch.randn(8, 5, generator=torch.Generator().manual_seed(0))  # with several teacher labels
    own, batch = (first_batch(run)._replace(teacher_logits=logits) for run in (plain, trainer))
    losses, before = trainer.compute_losses(batch), plain.compute_losses(own)
    boxes = trainer.supervision.lookup.boxes(*rows_of(trainer))
    large = [row for row, (_, _, height, width) in enumerate(boxes.tolist()) if height * width >= 0.3]
    assert 1 < len(large) < len(boxes)

    _, q, w = distributions(trainer, batch)
    negative = trainer.student.text_features(trainer.negative_prompt_learner())[1]
    s = q.log()
    s_positive = trainer.student.logits(batch.image_features, trainer.student.text_features()[0])
    s_negative = trainer.student.logits(batch.image_features, negative)
    total = sum(w[row] for row in large) if normalised else len(large)
    expected = {
        "positive": sum(w[row] * symmetric_kl(batch.teacher_logits, s)[row] for row in large) / total,
        "coupling": 0.001 * sum(w[row] * coupling(s_positive, s_negative)[row] for row in large) / total,
        "label": -0.3 * sum(w[row] * s[row, batch.labels[row]] for row in large) / total,
        "negative": before["negative"],
    }
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-6)
    d = trainer.student.text_features()[0] - negative
    x, y = batch.image_features, batch.teacher_logits.argmax(-1)
    pairs = [
        w[i] * w[j] * F.relu(0.2 - (x[i] - x[j]) @ (d[y[i]] - d[y[j]])) for i in large for j in large if y[i] != y[j]
    ]
    count = (y[:, None] != y[None, :]).sum() * (len(large) / len(x)) ** 2  # expected number of pairs of large regions
    torch.testing.assert_close(losses["pcd"], 0.1 * sum(pairs) / count, rtol=1e-4, atol=1e-6)


def test_a_batch_without_large_regions_has_negative_terms_only(build_shared):
    trainer = build_shared("FDBPL", "no_large_area", **{"TRAINER.FDBPL.POSITIVE_AREA": 0.93})
    batch = first_batch(trainer)
    assert batch.positive_factor.eq(0).all()
    losses = trainer.compute_losses(batch)
    assert losses["negative"] < 0 and all(losses[name] == 0 for name in losses.keys() - {"negative"})


def test_targets_mixed_with_the_mean_of_all_regions_of_the_image(build_shared):
    plain, trainer = build_shared("FDBPL", "own_targets", **PLAIN), build_shared("FDBPL", "mixed", **PLAIN, **MEAN)
    own, batch = first_batch(plain), first_batch(trainer)
    losses, before = trainer.compute_losses(batch), plain.compute_losses(own)
    images, _ = rows_of(trainer)
    means = []
    for image in images.tolist():
        regions = range(trainer.cfg.REGIONS.PER_IMAGE)
        logits = [trainer.supervision.lookup.teacher_logits(torch.tensor([image]), torch.tensor([r])) for r in regions]
        means.append(sum(row.softmax(-1)[0] for row in logits) / len(regions))
    p, q, w = distributions(trainer, batch)
    target = 0.7 * p + 0.3 * torch.stack(means)
    assert torch.equal(batch.teacher_logits, own.teacher_logits)
    torch.testing.assert_close(batch.target_logits, target.log(), rtol=1e-4, atol=1e-4)
    distance = 0.5 * (target * (target / q).log()).sum(-1) + 0.5 * (q * (q / target).log()).sum(-1)
    torch.testing.assert_close(losses["positive"], (w * distance).mean(), rtol=1e-4, atol=1e-6)
    for name in ("negative", "coupling", "pcd"):
        torch.testing.assert_close(losses[name], before[name])


def test_mixed_logits_of_distributions_without_overlap():
    mixed = mixed_logits(torch.tensor([[200.0, 0.0, -200.0]]), torch.tensor([[0.0, 1.0, 0.0]]), 0.25)
    torch.testing.assert_close(mixed.softmax(-1), torch.tensor([[0.75, 0.25, 0.0]]))
    assert mixed.isfinite().all()


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("IMAGE_MEAN", 1.5, "from 0.0 to 1.0"),
        ("POSITIVE_AREA", 0.95, "at least 0.0 and below 0.936"),
        ("POSITIVE_AREA", -0.1, "at least 0.0"),
    ],
)
def test_invalid_values(make_cfg, key, value, message):
    cfg = make_cfg("FDBPL", **{f"TRAINER.FDBPL.{key}": value, "DATASET.ROOT": "/nowhere"})
    with pytest.raises(UserError, match=f"{key} is {value}.*{message}"):
        build_trainer(cfg)


@pytest.mark.parametrize("name", ["FDBPL", "FDBPL_MaPLe"])
def test_all_images_of_the_base_classes(name, build_shared):
    """Their labels are not used; those of the few-shot images are."""
    settings = {"REGIONS.ALL_IMAGES": True, "TRAINER.FDBPL.LABEL_WEIGHT": 0.3, "DATALOADER.TRAIN_X.BATCH_SIZE": 20}
    trainer = build_shared(name, f"all_images/{name}", **PLAIN, **settings)
    dataset = trainer.dm.dataset
    assert (len(dataset.train_x), len(dataset.all_train)) == (10, 20)  # two and four of each of five classes
    batch = first_batch(trainer)
    images, _ = rows_of(trainer)
    assert sorted(images.tolist()) == list(range(20))
    shots = {item.impath.rpartition("/")[2]: item.label for item in dataset.train_x}
    files = [trainer.supervision.images[image].rpartition("/")[2] for image in images]
    assert batch.labels.tolist() == [shots.get(file, -100) for file in files]
    if name == "FDBPL":
        _, q, w = distributions(trainer, batch)
        labelled = [row for row in range(20) if batch.labels[row] >= 0]
        expected = -0.3 * sum(w[row] * q[row, batch.labels[row]].log() for row in labelled) / 20
        torch.testing.assert_close(trainer.compute_losses(batch)["label"], expected, rtol=1e-4, atol=1e-6)
    trainer.train()
    every = build_shared(name, f"every_shot/{name}", bank=False, **{"DATASET.NUM_SHOTS": -1})  # reads the same regions
    every.build_supervision()
    assert sorted(every.supervision.images) == sorted(trainer.supervision.images)


def test_images_without_shots_belong_to_the_identity_of_a_run(build_shared):
    few, every = (build_shared("FDBPL", "identity", bank=False, **{"REGIONS.ALL_IMAGES": on}) for on in (False, True))
    assert every.dm.dataset.digests.items() > few.dm.dataset.digests.items()


def test_all_images_of_a_data_set_of_other_code(build_shared):
    trainer = build_shared("FDBPL", "fork", bank=False, **{"REGIONS.ALL_IMAGES": True})
    del trainer.dm.dataset.all_train
    with pytest.raises(UserError, match="REGIONS.ALL_IMAGES True needs a data set of this project"):
        trainer.train()
