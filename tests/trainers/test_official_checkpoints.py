"""Checkpoints as the official repositories publish them: their names, shapes, precision and ballast."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fdbpl.errors import UserError

from .methods import logits, same

VISUAL = {"image_encoder.VPT": (3, 64), "image_encoder.transformer.resblocks.1.VPT_shallow": (3, 64)}
DEEP = {"text_encoder.transformer.resblocks.1.VPT_shallow": (2, 64)}


def meta_net(hidden: int, width: int) -> dict:
    return {"meta_net.linear1.weight": (hidden, 32), "meta_net.linear1.bias": (hidden,),
            "meta_net.linear2.weight": (width, hidden), "meta_net.linear2.bias": (width,)}  # fmt: skip


# method -> folder, learnt tensors by their official names with the shapes they have on the tiny CLIPs
OFFICIAL = {
    "CoOp": ("prompt_learner", {"ctx": (4, 64)}),
    "ProGrad": ("prompt_learner", {"ctx": (5, 64)}),
    "KgCoOp": ("prompt_learner", {"ctx": (4, 64)}),
    "CoCoOp": ("prompt_learner", {"ctx": (3, 64), **meta_net(2, 64)}),
    "TCP": ("prompt_learner", {"ctx": (4, 64), **meta_net(8, 4 * 64)}),
    "VPT": ("prompt_learner", VISUAL),
    "IVLP": ("VLPromptLearner", {"prompt_learner.ctx": (2, 64), **VISUAL, **DEEP}),
    "PromptSRC": ("VLPromptLearner", {"prompt_learner.ctx": (2, 64), **VISUAL, **DEEP}),
    "MaPLe": ("MultiModalPromptLearner", {
        "prompt_learner.ctx": (2, 64),
        "prompt_learner.proj.weight": (64, 64),
        "prompt_learner.proj.bias": (64,),
        "prompt_learner.compound_prompts_text.0": (2, 64),
        "prompt_learner.compound_prompt_projections.0.weight": (64, 64),
        "prompt_learner.compound_prompt_projections.0.bias": (64,),
    }),
    "PromptKD": ("VLPromptLearner", {
        **VISUAL,
        "VPT_image_trans.conv1.0.weight": (16, 32, 1, 1),
        "VPT_image_trans.conv1.0.bias": (16,),
        "VPT_image_trans.conv1.1.weight": (16,),
        "VPT_image_trans.conv1.1.bias": (16,),
        "VPT_image_trans.conv1.1.running_mean": (16,),
        "VPT_image_trans.conv1.1.running_var": (16,),
        "VPT_image_trans.conv1.3.weight": (16, 16, 1, 1),
        "VPT_image_trans.conv1.3.bias": (16,),
    }),
}  # fmt: skip
SETTINGS = {"TRAINER.PROMPTSRC.N_CTX_VISION": 3, "TRAINER.PROMPTSRC.N_CTX_TEXT": 2, "TRAINER.IVLP.N_CTX_VISION": 3,
            "TRAINER.PROMPTKD.N_CTX_VISION": 3}  # fmt: skip
ALIKE = {frozenset(("IVLP", "PromptSRC")), frozenset(("CoOp", "KgCoOp"))}  # the same prompts, learnt otherwise


@pytest.fixture(scope="module")
def untrained(build_shared):
    """untrained(method) -> its trainer, built once."""
    built = {}

    def of(method: str):
        if method not in built:
            built[method] = build_shared(method, f"untrained/{method}", **SETTINGS)
        return built[method]

    return of


def learnt_state(method: str) -> dict[str, torch.Tensor]:
    """What somebody trained, in half precision."""
    random = torch.Generator().manual_seed(0)
    state = {key: torch.randn(shape, generator=random).mul(0.3).half() for key, shape in OFFICIAL[method][1].items()}
    return {key: value.abs() if key.endswith("running_var") else value for key, value in state.items()}


def ballast(method: str, trainer) -> dict[str, torch.Tensor]:
    """What the official files hold besides: name tokens of all 77 positions, the frozen CLIP, unused layers."""
    clip, whole = trainer.student.backbone.model, OFFICIAL[method][0] != "prompt_learner" or method == "VPT"
    nested = "prompt_learner." if whole else ""
    state = {}
    if method not in ("VPT", "PromptKD"):
        context = OFFICIAL[method][1][f"{nested}ctx"][0]
        state |= {f"{nested}token_prefix": torch.randn(5, 1, 64)}
        state |= {f"{nested}token_suffix": torch.randn(5, 76 - context, 64)}
    if whole:
        state |= {f"image_encoder.{key}": value for key, value in clip.visual.state_dict().items()}
        state["logit_scale"] = clip.logit_scale.detach()
    if whole and method != "PromptKD":
        text = ("transformer.", "positional_embedding", "ln_final.", "text_projection")
        state |= {f"text_encoder.{key}": value for key, value in clip.state_dict().items() if key.startswith(text)}
    if method == "PromptSRC":
        state |= {f"prompt_learner.ZS_image_encoder.{key}": value for key, value in clip.visual.state_dict().items()}
    if method == "KgCoOp":
        state |= {"bias_vectors": torch.randn(1, 512), "token_midfix": torch.randn(5, 4, 64)}
        state |= {"meta_net.linear1.weight": torch.randn(512, 512), "meta_net.linear1.bias": torch.randn(512)}
    state = {key: value.half() for key, value in state.items()}
    if method == "PromptKD":
        state["VPT_image_trans.conv1.1.num_batches_tracked"] = torch.tensor(7)
    return state


def write(folder: Path, method: str, state: dict, **more) -> str:
    """A run folder that holds one checkpoint of a method; best, as a test chooses it."""
    path = folder / OFFICIAL[method][0] / "model-best.pth.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, **more}, path)
    return str(folder)


def state_of(trainer) -> dict:
    return {name: {key: value.clone() for key, value in module.state_dict().items()}
            for name, module in trainer._models.items()}  # fmt: skip


@pytest.fixture(params=OFFICIAL)
def case(request, untrained) -> SimpleNamespace:
    method = request.param
    trainer = untrained(method)
    (module,) = trainer._models.values()
    return SimpleNamespace(method=method, trainer=trainer, module=module)


@pytest.mark.parametrize("form", ["whole", "learnt alone", "data parallel"])
def test_official_names_are_read(case, form, tmp_path):
    """Logits of the loaded checkpoint = those of parameters that are set one by one."""
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    wanted = learnt_state(case.method)
    by_hand = case.module.state_dict(keep_vars=True)
    for key, value in wanted.items():
        by_hand[key].data.copy_(value)
    expected = logits(case.trainer, images)
    for key in wanted:
        by_hand[key].data.copy_(wanted[key].roll(1))
    assert not torch.allclose(logits(case.trainer, images), expected, atol=1e-3)

    state, more = dict(wanted), {}
    if form != "learnt alone":
        state |= ballast(case.method, case.trainer)
        more = {"epoch": 20, "optimizer": {}, "scheduler": {}, "val_result": 71.3}
    elif case.method == "PromptKD":
        state["VPT_image_trans.conv1.1.num_batches_tracked"] = torch.tensor(7)
    if form == "data parallel":
        state = {f"module.{key}": value for key, value in state.items()}
    names = [value.clone() for key, value in case.module.state_dict().items() if "token_" in key]
    case.trainer.load_model(write(tmp_path, case.method, state, **more))
    assert all(value.dtype == torch.float32 for value in case.module.parameters())
    assert torch.equal(logits(case.trainer, images), expected)
    assert same(names, [value for key, value in case.module.state_dict().items() if "token_" in key])


def test_another_method_s_checkpoint_is_refused(case, untrained, tmp_path):
    """Put into the very folder that this method reads."""
    before = state_of(case.trainer)
    for other in OFFICIAL.keys() - {case.method}:
        if frozenset((case.method, other)) in ALIKE:
            continue
        state = learnt_state(other) | ballast(other, untrained(other))
        with pytest.raises(UserError, match="checkpoint of this method|has shape") as refused:
            case.trainer.load_model(write(tmp_path, case.method, state))
        assert refused.value and same(state_of(case.trainer), before), other


def test_what_is_missing_surplus_or_of_another_shape_is_named(case, tmp_path):
    before, whole = state_of(case.trainer), learnt_state(case.method) | ballast(case.method, case.trainer)
    for key in OFFICIAL[case.method][1]:
        less = {name: value for name, value in whole.items() if name != key}
        with pytest.raises(UserError, match=f"lacks {key}"):
            case.trainer.load_model(write(tmp_path, case.method, less))
        wider = whole | {key: torch.cat([whole[key], whole[key]])}
        with pytest.raises(UserError, match=f"{key} has shape"):
            case.trainer.load_model(write(tmp_path, case.method, wider))
    with pytest.raises(UserError, match="unexpected adapter.fc.0.weight"):
        case.trainer.load_model(write(tmp_path, case.method, whole | {"adapter.fc.0.weight": torch.zeros(3)}))
    with pytest.raises(UserError, match="state_dict"):
        case.trainer.load_model(write(tmp_path, case.method, whole | {"logit_scale": 4.6}))
    assert same(state_of(case.trainer), before)


def test_class_specific_contexts_with_all_77_positions(build_shared, tmp_path):
    """As CoOp's code saves them; the name tokens beside them tell whose contexts they are."""
    import clip

    csc = {"TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 2, "TRAINER.COOP.CSC": True}
    trainer = build_shared("CoOp", "csc", **csc)
    other = build_shared("CoOp", "csc-new", **csc, **{"DATASET.SUBSAMPLE_CLASSES": "new"})
    names = [name.replace("_", " ") for name in trainer.dm.dataset.classnames]
    tokens = clip.tokenize([f"X X {name}." for name in names])
    embedded = trainer.student.backbone.model.token_embedding(tokens).detach().half()
    context = torch.randn(5, 2, 64).half()
    state = {"ctx": context, "token_prefix": embedded[:, :1], "token_suffix": embedded[:, 3:]}
    folder = write(tmp_path, "CoOp", state, epoch=50)
    before = state_of(other)
    with pytest.raises(UserError, match="another class list or backbone: class 0"):
        other.load_model(folder)
    assert same(state_of(other), before)
    trainer.load_model(folder)
    assert torch.equal(trainer.student.prompt_learner.ctx, context.float())


def test_of_two_modules_both_are_loaded_or_none(build_shared, tmp_path):
    """A checkpoint of CoOp has no negative space, or there is one of another length."""
    trainer = build_shared("FDBPL", "both", bank=False)
    before, folder = state_of(trainer), write(tmp_path, "CoOp", learnt_state("CoOp"))
    with pytest.raises(UserError, match="no checkpoint in .*negative_prompt_learner"):
        trainer.load_model(folder)
    assert same(state_of(trainer), before)
    negative = tmp_path / "negative_prompt_learner" / "model-best.pth.tar"
    negative.parent.mkdir()
    torch.save({"state_dict": {"ctx": torch.zeros(5, 64)}}, negative)
    with pytest.raises(UserError, match=r"ctx has shape \(5, 64\) in .*negative_prompt_learner.* \(4, 64\) here"):
        trainer.load_model(folder)
    assert same(state_of(trainer), before)
    torch.save({"state_dict": {"ctx": torch.zeros(4, 64)}}, negative)
    trainer.load_model(folder)
    assert torch.equal(trainer.student.prompt_learner.ctx, learnt_state("CoOp")["ctx"].float())
    assert not trainer.negative_prompt_learner.ctx.any()
