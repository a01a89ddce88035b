"""Equal losses and gradients of benchmark variants that implement the same method."""

import pytest
import torch

from fdbpl.backbones import load_backbone
from fdbpl.prompts import Prompts, encode_prompts
from tools.benchmark.lower_bound import TextLowerBound
from tools.benchmark.official_recipes import OfficialStep
from tools.benchmark.profiles import Step
from tools.benchmark.steps import step_variants

POINT = Step("tiny", "tiny teacher", classes=12, batch=6, variants=("a", "a_half", "a_star", "b", "c", "d", "e"))


@pytest.fixture
def variants(inputs):
    return step_variants(inputs, POINT)[0]


def gradients(variant) -> list[torch.Tensor]:
    """Return the gradients of the contexts after the last step."""
    if isinstance(variant, OfficialStep):
        return [space.ctx.grad for space in variant.spaces]
    return [module.ctx.grad for module in variant.trainer._models.values()]


def deviation(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    """Return the largest difference relative to the largest entry."""
    assert len(first) == len(second) and all(value.abs().max() > 0 for value in first)
    return max(float((one - two).abs().max() / one.abs().max()) for one, two in zip(first, second, strict=True))


def test_kdpl_with_the_exact_text_encoder(variants):
    losses = [float(variants[letter].step()) for letter in ("a", "a_star")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0] > 0
    assert deviation(gradients(variants["a"]), gradients(variants["a_star"])) < 1e-5


def test_a_teacher_in_half_precision(variants):
    losses = [float(variants[letter].step()) for letter in ("a", "a_half")]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


def test_looked_up_features_equal_those_of_the_image_tower(variants):
    losses = [variants[letter].step() for letter in ("c", "d")]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)
    assert deviation(gradients(variants["c"]), gradients(variants["d"])) < 2e-2


def test_the_release_equals_fdbpl_without_the_cascaded_difference(inputs):
    """In the release, the cascaded difference and its gradient are zero."""
    variants = step_variants(inputs, POINT)[0]
    release, ours = variants["b"], variants["c"]
    ours.trainer.cfg.defrost()
    ours.trainer.cfg.TRAINER.FDBPL.PCD_WEIGHT = 0.0
    loss = ours.step()
    assert ours.summary["negative"] < 0 < ours.summary["positive"]
    assert float(release.step()) == pytest.approx(loss, rel=1e-5)
    assert deviation(gradients(release), gradients(ours)) < 1e-5
    assert abs(float(release.cascaded_difference(torch.randn(12, 32)))) < 1e-4


def test_classes_in_chunks_give_the_same_gradient(variants):
    for letter in ("a", "b"):
        whole = variants[letter]
        assert whole.whole
        whole.optimiser = torch.optim.SGD(whole.spaces.parameters(), lr=0.0)
        losses, found = [], []
        for at_once in (12, 5):
            whole.at_once = at_once
            whole.prepare()
            losses.append(float(whole.step()))
            found.append([value.clone() for value in gradients(whole)])
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        assert deviation(*found) < 1e-5


def test_the_lower_bound_is_the_text_tower_on_the_suffixes(inputs):
    model = load_backbone("random:tiny").model
    suffix, eot = torch.randn(9, 6, 64), torch.tensor([3, 5, 1, 3, 2, 5, 5, 4, 1])
    lower_bound = TextLowerBound(load_backbone("random:tiny"), suffix + model.positional_embedding[:6], eot)
    with torch.no_grad():
        expected = encode_prompts(model, Prompts(suffix, eot, 0))
        assert (lower_bound.features() - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_lower_bound_holds_the_suffixes_of_both_spaces(variants):
    learner = variants["d"].trainer.student.prompt_learner
    prompts = learner()
    assert variants["e"].features().shape[0] == 2 * POINT.classes
    assert len(variants["e"].own) == 2 * int((prompts.eot + 1 - prompts.shared).sum())


def test_all_variants_use_the_same_regions(variants):
    """The official recipes decode the regions that the trainers' loader returns, in another order."""
    pixels = variants["a"].decode()
    batch = next(iter(variants["c"].trainer.train_loader_x))
    assert torch.equal(pixels[batch["image_index"]], batch["img"]) and len(pixels) == POINT.batch


def test_a_step_changes_the_contexts(variants):
    for letter, variant in variants.items():
        if letter != "e":
            spaces = variant.spaces if isinstance(variant, OfficialStep) else list(variant.trainer._models.values())
            before = [space.ctx.detach().clone() for space in spaces]
            variant.step()
            assert all((space.ctx != old).any() for space, old in zip(spaces, before, strict=True)), letter
