"""Deep prompts, image-conditioned contexts and subsets of classes, compared with CLIP's blocks on 77 positions."""

import pytest
import torch

from fdbpl.prompts import PromptLearner, encode_images, encode_prompt_sets, encode_prompts

from . import reference


def vectors(count: int, classes: int | None = None) -> torch.Tensor:
    shape = (count, 128) if classes is None else (classes, count, 128)
    return (torch.randn(*shape) * 2).requires_grad_()


DEEP = {
    "shared, as IVLP": ({}, {1: 4, 2: 4}, False),
    "shared, fewer than the context": ({}, {1: 2}, False),
    "shared, beyond the context": ({}, {1: 6, 2: 2}, False),
    "shared, in the last block only": ({}, {2: 4}, False),
    "shared, at the input": ({}, {0: 3}, False),
    "shared, class token in the middle": ({"n_ctx": 5, "class_token_position": "middle"}, {1: 5, 2: 5}, False),
    "shared, class token in front": ({"class_token_position": "front"}, {1: 4}, False),
    "shared, class-specific context": ({"csc": True}, {1: 4, 2: 4}, False),
    "by class, as TCP": ({}, {1: 4}, True),
    "by class, in the last block": ({}, {2: 4}, True),
    "by class, at the input": ({}, {0: 4}, True),
    "by class, then shared": ({}, {1: 4, 2: 2}, True),
    "by class, class-specific context": ({"csc": True}, {1: 4}, True),
}


@pytest.mark.parametrize("case", DEEP)
def test_deep_prompts_equal_those_on_77_tokens(tiny_clip, classnames, case):
    """Features, and gradients of the context and of every deep vector."""
    torch.manual_seed(0)
    arguments, lengths, by_class = DEEP[case]
    learner = PromptLearner(tiny_clip, classnames, **{"n_ctx": 4, **arguments})
    learner.ctx.data.mul_(50)
    deep = {block: vectors(count, len(classnames) if by_class else None) for block, count in lengths.items()}
    learnt, probe = [learner.ctx, *deep.values()], torch.randn(len(classnames), 32)
    full = reference.encode(tiny_clip, *reference.assemble(learner, tiny_clip, classnames), deep)
    expected = torch.autograd.grad((full * probe).sum(), learnt, allow_unused=True, materialize_grads=True)
    fast = encode_prompts(tiny_clip, learner()._replace(deep=deep))
    found = torch.autograd.grad((fast * probe).sum(), learnt, allow_unused=True, materialize_grads=True)
    assert (fast - full).abs().max() <= 1e-5 * full.abs().max()
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()
    assert all(gradient.abs().max() > 1e-3 for gradient in expected[1:])
    without = encode_prompts(tiny_clip, learner())
    assert (fast - without).abs().max() > 1e-2 * full.abs().max()


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_image_conditioned_contexts_equal_those_on_77_tokens(tiny_clip, classnames, position):
    """CoCoOp: a batch of images in one pass, each image alone and 77 tokens agree, with gradients of every shift."""
    torch.manual_seed(0)
    learner = PromptLearner(tiny_clip, classnames, 4, class_token_position=position)
    shift, probe = torch.randn(3, 128, requires_grad=True), torch.randn(3, len(classnames), 32)
    contexts = learner.ctx + shift[:, None]  # [B, M, d]
    prompts = [reference.assemble(learner, tiny_clip, classnames, context) for context in contexts]
    full = torch.stack([reference.encode(tiny_clip, *of_image) for of_image in prompts])
    expected = torch.autograd.grad((full * probe).sum(), [learner.ctx, shift])
    together = encode_prompts(tiny_clip, learner(learner.ctx + shift[:, None, None]))
    found = torch.autograd.grad((together * probe).sum(), [learner.ctx, shift])
    assert together.shape == full.shape and (together - full).abs().max() <= 1e-5 * full.abs().max()
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    for row, context in zip(together, contexts, strict=True):
        torch.testing.assert_close(encode_prompts(tiny_clip, learner(context)), row, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["shared, as IVLP", "shared, class-specific context", "by class, as TCP"])
def test_selected_classes(tiny_clip, classnames, case):
    """KDPL-CA selects subsets of the classes in any order."""
    torch.manual_seed(0)
    arguments, lengths, by_class = DEEP[case]
    learner = PromptLearner(tiny_clip, classnames, **{"n_ctx": 4, **arguments})
    deep = {block: vectors(count, len(classnames) if by_class else None) for block, count in lengths.items()}
    prompts = learner()._replace(deep=deep)
    everything = encode_prompts(tiny_clip, prompts)
    for index in (torch.tensor([4, 0, 2]), torch.tensor([3])):
        part = encode_prompts(tiny_clip, prompts.select(index))
        torch.testing.assert_close(part, everything[index], atol=1e-5, rtol=1e-5)


def test_prompt_sets_with_and_without_deep_prompts(tiny_clip, classnames):
    """FDBPL_MaPLe has deep prompts in its positive prompt set only."""
    torch.manual_seed(0)
    positive, negative = PromptLearner(tiny_clip, classnames, 4), PromptLearner(tiny_clip, classnames, 4)
    prompted = positive()._replace(deep={1: vectors(4)})
    for prompt_sets in ((prompted, negative()), (negative(), prompted)):
        for found, prompts in zip(encode_prompt_sets(tiny_clip, *prompt_sets), prompt_sets, strict=True):
            torch.testing.assert_close(found, encode_prompts(tiny_clip, prompts), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_deep_visual_prompts(depth):
    """Compare with CLIP's ViT, with tokens after the patches that are replaced at the input of each prompted block."""
    from clip.model import VisionTransformer

    torch.manual_seed(0)
    model = torch.nn.Module()
    model.visual = VisionTransformer(input_resolution=32, patch_size=16, width=64, layers=3, heads=2, output_dim=24)
    model.dtype = torch.float32
    visual = model.visual.requires_grad_(False)
    prompts, images = [torch.randn(3, 64, requires_grad=True) for _ in range(depth)], torch.randn(2, 3, 32, 32)

    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    hidden = torch.cat([visual.class_embedding.expand(2, 1, -1), patches], dim=1) + visual.positional_embedding
    hidden = visual.ln_pre(torch.cat([hidden, prompts[0].expand(2, -1, -1)], dim=1))
    for number, block in enumerate(visual.transformer.resblocks):
        if 0 < number < depth:
            hidden = torch.cat([hidden[:, :-3], prompts[number].expand(2, -1, -1)], dim=1)
        hidden = block(hidden.transpose(0, 1)).transpose(0, 1)
    full, probe = visual.ln_post(hidden[:, 0]) @ visual.proj, torch.randn(2, 24)
    fast = encode_images(model, images, prompts)
    torch.testing.assert_close(fast, full, atol=1e-5, rtol=1e-5)
    expected = torch.autograd.grad((full * probe).sum(), prompts)
    found = torch.autograd.grad((fast * probe).sum(), prompts)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.abs().max() > 1e-4 and (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()
