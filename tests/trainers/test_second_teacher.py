"""A second teacher, whose bank holds the same regions (TEACHER.SECOND)."""

import math

import pytest
import torch
from dassl.engine import build_trainer

from fdbpl.engine.bank_discovery import all_banks
from fdbpl.errors import UserError

from .conftest import tiny_clip_file
from .methods import first_batch, learned, same

WORDS = ["apple", "boat", "coral reef"]


@pytest.fixture(scope="session")
def second_file(tmp_path_factory) -> str:
    return tiny_clip_file(tmp_path_factory.mktemp("clip") / "second.safetensors", 5, 24, 1)


def probabilities(trainer, image: int, region: int) -> list[list[float]]:
    """Return the distribution over the classes of each teacher."""
    number = torch.tensor([image]), torch.tensor([region])
    classes = len(trainer.dm.dataset.classnames)
    return [lookup.teacher_logits(*number)[0, :classes].softmax(-1).tolist() for lookup in trainer.supervision.lookups]


@pytest.mark.parametrize("combine", ["mean", "confidence"])
@pytest.mark.parametrize("vocabulary", [False, True])
def test_logits_are_a_mean_of_log_probabilities(combine, vocabulary, build_shared, second_file, tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    words = {"TRAINER.FDBPL.VOCABULARY": str(tmp_path / "words.txt"), "TRAINER.FDBPL.VOCABULARY_K": 2}
    settings = {"TEACHER.SECOND.NAME": second_file, "TEACHER.SECOND.COMBINE": combine} | (words if vocabulary else {})
    trainer = build_shared("FDBPL", f"second/{combine}_{vocabulary}", **settings)
    batch = first_batch(trainer)
    rows = next(iter(trainer.train_loader_x))
    dims = [lookup.identity["teacher"] for lookup in trainer.supervision.lookups]
    assert dims == [trainer.cfg.TEACHER.NAME, second_file]
    for row, (image, region) in enumerate(zip(rows["image_index"].tolist(), rows["region"].tolist(), strict=True)):
        first, second = probabilities(trainer, image, region)
        weights = [0.5, 0.5]
        if combine == "confidence":
            weights = [1 + sum(p * math.log(p) for p in one) / math.log(len(one)) for one in (first, second)]
            weights = [weight / sum(weights) for weight in weights]
        product = [a ** weights[0] * b ** weights[1] for a, b in zip(first, second, strict=True)]
        expected = torch.tensor([value / sum(product) for value in product])
        torch.testing.assert_close(batch.teacher_logits[row].softmax(-1), expected, rtol=1e-4, atol=1e-6)
    if vocabulary:
        both = [lookup.teacher_logits(rows["image_index"], rows["region"]) for lookup in trainer.supervision.lookups]
        whole = torch.stack(both).log_softmax(-1).mean(0)[:, 5 + batch.words]
        if combine == "mean":
            torch.testing.assert_close(batch.word_logits, whole)
    start = learned(trainer)
    trainer.train()
    assert not same(learned(trainer), start)


@pytest.mark.parametrize("name", ["FDBPL_MaPLe", "FDBPL_PromptKD"])
def test_other_students_and_the_mean_of_an_image(name, build_shared, second_file):
    settings = {"TEACHER.SECOND.NAME": second_file, "TRAINER.FDBPL.IMAGE_MEAN": 1.0}
    trainer = build_shared(name, f"second/{name}", **settings)
    batch, rows = first_batch(trainer), next(iter(trainer.train_loader_x))
    image = int(rows["image_index"][0])
    products = []
    for region in range(trainer.cfg.REGIONS.PER_IMAGE):
        first, second = map(torch.tensor, probabilities(trainer, image, region))
        products.append((first * second).sqrt() / (first * second).sqrt().sum())
    expected = torch.stack(products).mean(0)
    torch.testing.assert_close(batch.target_logits[0].softmax(-1), expected, rtol=1e-4, atol=1e-6)
    trainer.train()


def test_the_second_bank_needs_the_same_regions(build, second_file):
    """It is generated with the first one, without features of the student."""
    second = {"TEACHER.SECOND.NAME": second_file}
    trainer = build("FDBPL", **second)
    banks = all_banks(trainer.cfg, trainer.dm.dataset)
    assert len(banks) == 2 and sum((bank / "features").exists() for bank in banks) == 1
    with pytest.raises(UserError, match=f"no region bank of {second_file} .*only .*Generate it"):
        build("FDBPL", **{"REGIONS.SCALE": (0.3, 0.9)})
        build("FDBPL", bank=False, **second, **{"REGIONS.SCALE": (0.3, 0.9)}).train()


def test_invalid_settings(make_cfg, second_file, teacher_file):
    second = {"TEACHER.SECOND.NAME": second_file, "DATASET.ROOT": "/nowhere"}
    for name, settings, message in (
        ("FDBPL", {"TEACHER.SECOND.COMBINE": "median"}, "COMBINE is 'median', but it must be mean or confidence"),
        ("FDBPL", {"TEACHER.SECOND.NAME": teacher_file}, "SECOND.NAME is .* another teacher than TEACHER.NAME"),
        ("FDBPL", {"REGIONS.TARGET": "topk:2"}, "TEACHER.SECOND.NAME needs REGIONS.TARGET embedding"),
        ("CoOp_KDPL", {}, "TEACHER.SECOND.NAME needs a region bank"),
    ):
        with pytest.raises(UserError, match=message):
            build_trainer(make_cfg(name, **second | settings))
