"""Prompts and their encoding, compared with 77 tokens per class through CLIP's own transformer."""

import copy

import clip
import pytest
import torch

from fdbpl.backbones.openai import tokenize
from fdbpl.errors import UserError
from fdbpl.prompts import PromptLearner, Prompts, encode_prompt_sets, encode_prompts

from . import reference

CASES = [
    {"ctx_init": "a photo of a"},
    {"n_ctx": 4},
    {"n_ctx": 5, "class_token_position": "middle"},
    {"n_ctx": 16, "class_token_position": "middle"},
    {"n_ctx": 4, "class_token_position": "front"},
    {"n_ctx": 4, "csc": True},
    {"n_ctx": 3, "csc": True, "class_token_position": "middle"},
    {"n_ctx": 1, "class_token_position": "middle"},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_features_and_gradients_equal_those_on_77_tokens(tiny_clip, classnames, case):
    torch.manual_seed(1)
    learner = PromptLearner(tiny_clip, classnames, **case)
    probe = torch.randn(len(classnames), 32)
    full = reference.encode(tiny_clip, *reference.assemble(learner, tiny_clip, classnames))
    (expected,) = torch.autograd.grad((full * probe).sum(), learner.ctx)
    short = encode_prompts(tiny_clip, learner())
    (found,) = torch.autograd.grad((short * probe).sum(), learner.ctx)
    assert (short - full).abs().max() <= 1e-5 * max(1, full.abs().max())
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize(
    "case, shared",
    [
        ({"ctx_init": "a photo of a"}, 5),
        ({"n_ctx": 5, "class_token_position": "middle"}, 3),
        ({"n_ctx": 4, "class_token_position": "front"}, 1),
        ({"n_ctx": 4, "csc": True}, 1),
        ({"n_ctx": 4, "csc": True, "class_token_position": "front"}, 1),
    ],
    ids=str,
)
def test_number_of_shared_positions(tiny_clip, classnames, case, shared):
    assert PromptLearner(tiny_clip, classnames, **case)().shared == shared


def test_common_first_words_of_names_are_shared(tiny_clip):
    names = ["golden retriever", "golden eagle"]
    assert PromptLearner(tiny_clip, names, 4, class_token_position="end")().shared == 6
    assert PromptLearner(tiny_clip, names, 4, class_token_position="front")().shared == 2
    assert PromptLearner(tiny_clip, ["ramen"], 2)().shared == int(clip.tokenize("X X ramen.").argmax())


def test_class_specific_contexts_of_equal_values_are_not_shared(tiny_clip, classnames):
    """Class-specific contexts with equal values are still different parameters: each gets its own gradient."""
    torch.manual_seed(0)
    learner = PromptLearner(tiny_clip, classnames, 4, csc=True)
    learner.ctx.data[:] = learner.ctx.data[0].clone()
    encode_prompts(tiny_clip, learner()).pow(2).sum().backward()
    assert (learner.ctx.grad.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tiny_clip, classnames, dtype):
    """Features are close to float32, and the context stays float32."""
    from clip.model import convert_weights

    half = copy.deepcopy(tiny_clip)
    if dtype == torch.float16:
        convert_weights(half)
    else:
        half.to(dtype)
    learner = PromptLearner(half, classnames, ctx_init="a photo of a")
    exact = encode_prompts(tiny_clip, PromptLearner(tiny_clip, classnames, ctx_init="a photo of a")())
    found = encode_prompts(half, learner())
    found.pow(2).sum().backward()
    assert learner.ctx.dtype == torch.float32 and learner.ctx.grad.dtype == torch.float32
    assert learner.ctx.grad.abs().max() > 0
    cosine = torch.nn.functional.cosine_similarity(exact, found)
    assert cosine.min() > (0.9999 if dtype == torch.float16 else 0.998)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype, limit", [(torch.float32, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 2e-1)])
def test_on_a_gpu(tiny_clip, classnames, dtype, limit):
    from clip.model import convert_weights

    moved = copy.deepcopy(tiny_clip).cuda()
    if dtype == torch.float16:
        convert_weights(moved)
    else:
        moved.to(dtype)
    expected = encode_prompts(tiny_clip, PromptLearner(tiny_clip, classnames, ctx_init="a photo of a")())
    learner = PromptLearner(moved, classnames, ctx_init="a photo of a")
    found = encode_prompts(moved, learner())
    found.pow(2).sum().backward()
    assert (found.cpu() - expected).abs().max() < limit * expected.abs().max()
    assert torch.isfinite(learner.ctx.grad).all()


def test_groups_and_prompt_sets(tiny_clip, classnames):
    """Prompt sets of equal and of different lengths, and a batch of contexts, yield the features of separate calls."""
    positive = PromptLearner(tiny_clip, classnames, ctx_init="a photo of a")
    negative = PromptLearner(tiny_clip, classnames, ctx_init="a photo of no")
    longer = PromptLearner(tiny_clip, classnames, n_ctx=7)
    alone = [encode_prompts(tiny_clip, learner()) for learner in (positive, negative, longer)]
    for together in (encode_prompt_sets(tiny_clip, positive(), negative()),
                     encode_prompt_sets(tiny_clip, positive(), negative(), longer())):  # fmt: skip
        for found, expected in zip(together, alone, strict=False):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    contexts = torch.randn(3, 4, 128)
    batch = Prompts(torch.stack([positive(ctx).embeddings for ctx in contexts]), positive.eot, positive.shared)
    found = encode_prompts(tiny_clip, batch)
    for row, ctx in zip(found, contexts, strict=True):
        torch.testing.assert_close(row, encode_prompts(tiny_clip, positive(ctx)), atol=1e-5, rtol=1e-5)


def test_one_class(tiny_clip):
    learner = PromptLearner(tiny_clip, ["ramen"], ctx_init="a photo of a")
    expected = tiny_clip.encode_text(tokenize(["a photo of a ramen."])).float()
    torch.testing.assert_close(encode_prompts(tiny_clip, learner()), expected, atol=1e-5, rtol=1e-5)


def test_a_context_of_words_equals_the_text(tiny_clip, classnames):
    learner = PromptLearner(tiny_clip, classnames, n_ctx=16, ctx_init="a_photo_of_a", csc=True)
    assert learner.n_ctx == 4 and not learner.class_specific
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in classnames]
    expected = tiny_clip.encode_text(tokenize(texts)).float()
    torch.testing.assert_close(encode_prompts(tiny_clip, learner()), expected, atol=1e-5, rtol=1e-5)


def test_state_dict_with_the_official_names(tiny_clip, classnames):
    learner = PromptLearner(tiny_clip, classnames, 4)
    assert set(learner.state_dict()) == {"ctx", "token_prefix", "token_suffix"}
    assert [name for name, value in learner.named_parameters() if value.requires_grad] == ["ctx"]
    tokens = clip.tokenize([f"X X X X {name.replace('_', ' ')}." for name in classnames])
    embedded = tiny_clip.token_embedding(tokens)
    length = int(tokens.argmax(-1).max()) + 1
    assert torch.equal(learner.token_prefix, embedded[:, :1])
    assert torch.equal(learner.token_suffix, embedded[:, 5:length])
    assert learner.token_suffix.shape[1] < 76 - 4


def test_clip_is_not_modified(tiny_clip, classnames):
    before = {key: value.clone() for key, value in tiny_clip.state_dict().items()}
    mask = tiny_clip.transformer.resblocks[0].attn_mask
    encode_prompts(tiny_clip, PromptLearner(tiny_clip, classnames, 4)()).sum().backward()
    assert tiny_clip.transformer.resblocks[0].attn_mask is mask
    assert all(torch.equal(value, before[key]) for key, value in tiny_clip.state_dict().items())
    assert all(value.grad is None for value in tiny_clip.parameters())


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"classnames": ["cat"], "class_token_position": "top"}, "class token position"),
        ({"classnames": ["cat"], "n_ctx": 0}, "context vector"),
        ({"classnames": []}, "class names"),
        ({"classnames": ["cat"], "n_ctx": 80}, "77 tokens"),
        ({"classnames": ["very " * 80 + "long"], "n_ctx": 4}, "75 tokens"),
    ],
)
def test_invalid_arguments(tiny_clip, arguments, words):
    with pytest.raises(UserError, match=words):
        PromptLearner(tiny_clip, **arguments)
