"""Prompts and their encoding against the definition: 77 tokens per class through CLIP's own transformer."""

import copy

import clip
import pytest
import torch

from fdbpl.backbones.openai import tokenize
from fdbpl.errors import UserError
from fdbpl.prompts import PromptLearner, Prompts, encode_prompt_sets, encode_prompts

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


def assembled(clip_model, learner: PromptLearner, classnames: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """CoOp's prompts at full length, put together class by class: embeddings [C, 77, d], EOT positions."""
    ctx, m = learner.ctx, learner.n_ctx
    rows, ends = [], []
    for number, name in enumerate(classnames):
        own = (ctx[number] if ctx.dim() == 3 else ctx).to(clip_model.dtype)
        tokens = clip.tokenize(" ".join(["X"] * m) + f" {name.replace('_', ' ')}.")[0]
        embedded = clip_model.token_embedding(tokens).to(clip_model.dtype)
        length = len(clip.clip._tokenizer.encode(name.replace("_", " ")))
        sos, cls, rest = embedded[:1], embedded[1 + m : 1 + m + length], embedded[1 + m + length :]
        before = {"end": m, "middle": m // 2, "front": 0}[learner.class_token_position]
        rows.append(torch.cat([sos, own[:before], cls, own[before:], rest]))
        ends.append(int(tokens.argmax()))
    return torch.stack(rows), torch.tensor(ends)


def reference(clip_model, embeddings: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """What OpenAI's encode_text does from the token embeddings on."""
    dtype = clip_model.dtype
    hidden = (embeddings + clip_model.positional_embedding.to(dtype)).permute(1, 0, 2)
    hidden = clip_model.ln_final(clip_model.transformer(hidden).permute(1, 0, 2)).to(dtype)
    return (hidden[torch.arange(len(ends)), ends] @ clip_model.text_projection).float()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_features_and_gradients_are_those_of_77_tokens(tiny_clip, classnames, case):
    torch.manual_seed(1)
    learner = PromptLearner(tiny_clip, classnames, **case)
    probe = torch.randn(len(classnames), 32)
    full = reference(tiny_clip, *assembled(tiny_clip, learner, classnames))
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
def test_shared_positions_are_those_that_agree_for_all_classes(tiny_clip, classnames, case, shared):
    assert PromptLearner(tiny_clip, classnames, **case)().shared == shared


def test_common_beginnings_of_names_are_shared_too(tiny_clip):
    names = ["golden retriever", "golden eagle"]
    assert PromptLearner(tiny_clip, names, 4, class_token_position="end")().shared == 6
    assert PromptLearner(tiny_clip, names, 4, class_token_position="front")().shared == 2
    # behind a name that is over, only a class-specific context differs
    assert PromptLearner(tiny_clip, ["ramen"], 2)().shared == int(clip.tokenize("X X ramen.").argmax())


def test_sharing_is_not_assumed_for_contexts_that_happen_to_agree(tiny_clip, classnames):
    """Class-specific contexts with equal values are still different parameters: each gets its own gradient."""
    torch.manual_seed(0)
    learner = PromptLearner(tiny_clip, classnames, 4, csc=True)
    learner.ctx.data[:] = learner.ctx.data[0].clone()
    encode_prompts(tiny_clip, learner()).pow(2).sum().backward()
    assert (learner.ctx.grad.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tiny_clip, classnames, dtype):
    """As close to float32 as OpenAI's own path in that precision, and the context stays float32."""
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


def test_groups_and_spaces(tiny_clip, classnames):
    """Two spaces in one pass, spaces of different lengths, and a batch of contexts give what each gives alone."""
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


def test_worded_context_is_the_sentence(tiny_clip, classnames):
    learner = PromptLearner(tiny_clip, classnames, n_ctx=16, ctx_init="a_photo_of_a", csc=True)
    assert learner.n_ctx == 4 and not learner.class_specific
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in classnames]
    expected = tiny_clip.encode_text(tokenize(texts)).float()
    torch.testing.assert_close(encode_prompts(tiny_clip, learner()), expected, atol=1e-5, rtol=1e-5)


def test_state_dict_has_the_official_names(tiny_clip, classnames):
    learner = PromptLearner(tiny_clip, classnames, 4)
    assert set(learner.state_dict()) == {"ctx", "token_prefix", "token_suffix"}
    assert [name for name, value in learner.named_parameters() if value.requires_grad] == ["ctx"]
    tokens = clip.tokenize([f"X X X X {name.replace('_', ' ')}." for name in classnames])
    embedded = tiny_clip.token_embedding(tokens)
    length = int(tokens.argmax(-1).max()) + 1
    assert torch.equal(learner.token_prefix, embedded[:, :1])
    assert torch.equal(learner.token_suffix, embedded[:, 5:length])
    assert learner.token_suffix.shape[1] < 76 - 4


def test_the_clip_is_left_as_it_was(tiny_clip, classnames):
    before = {key: value.clone() for key, value in tiny_clip.state_dict().items()}
    mask = tiny_clip.transformer.resblocks[0].attn_mask
    encode_prompts(tiny_clip, PromptLearner(tiny_clip, classnames, 4)()).sum().backward()
    assert tiny_clip.transformer.resblocks[0].attn_mask is mask
    assert all(torch.equal(value, before[key]) for key, value in tiny_clip.state_dict().items())
    assert all(value.grad is None for value in tiny_clip.parameters())


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"classnames": ["cat"], "class_token_position": "top"}, "class token position"),
        ({"classnames": ["cat"], "n_ctx": 0}, "context vector"),
        ({"classnames": []}, "class names"),
        ({"classnames": ["cat"], "n_ctx": 80}, "77 tokens"),
        ({"classnames": ["very " * 80 + "long"], "n_ctx": 4}, "75 tokens"),
    ],
)
def test_mistakes_are_sentences(tiny_clip, arguments, said):
    with pytest.raises(UserError, match=said):
        PromptLearner(tiny_clip, **arguments)
