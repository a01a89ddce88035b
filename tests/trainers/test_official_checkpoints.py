"""Checkpoints as the official repositories publish them: names, shapes, precision, and unused entries."""

from pathlib import Path
from types import SimpleNamespace

import clip
import pytest
import torch

from fdbpl.errors import UserError

from .methods import logits, same

VISUAL = {"image_encoder.VPT": (3, 64), "image_encoder.transformer.resblocks.1.VPT_shallow": (3, 64)}
DEEP = {"text_encoder.transformer.resblocks.1.VPT_shallow": (2, 64)}


def meta_net(hidden: int, width: int) -> dict:
    return {"meta_net.linear1.weight": (hidden, 32), "meta_net.linear1.bias": (hidden,),
            "meta_net.linear2.weight": (width, hidden), "meta_net.linear2.bias": (width,)}  # fmt: skip


# method: (folder, {official name of a trained tensor: shape on the tiny CLIPs})
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
SAME_PARAMETERS = {frozenset(("IVLP", "PromptSRC")), frozenset(("CoOp", "KgCoOp"))}
BATCHES = {"VPT_image_trans.conv1.1.num_batches_tracked": torch.tensor(7)}  # not half precision


@pytest.fixture(scope="module")
def untrained(build_shared):
    """Return untrained(method), which returns the method's trainer, built once."""
    built = {}

    def of(method: str):
        if method not in built:
            built[method] = build_shared(method, f"untrained/{method}", **SETTINGS)
        return built[method]

    return of


def trained_state(method: str) -> dict[str, torch.Tensor]:
    """Random trained parameters in half precision."""
    random = torch.Generator().manual_seed(0)
    state = {key: torch.randn(shape, generator=random).mul(0.3).half() for key, shape in OFFICIAL[method][1].items()}
    return {key: value.abs() if key.endswith("running_var") else value for key, value in state.items()}


def unused_entries(method: str, trainer) -> dict[str, torch.Tensor]:
    """Other entries of the official files: tokens of all 77 positions, the frozen CLIP, unused layers."""
    model, has_clip = trainer.student.backbone.model, OFFICIAL[method][0] != "prompt_learner" or method == "VPT"
    nested = "prompt_learner." if has_clip else ""
    state = {}
    if method not in ("VPT", "PromptKD"):
        context = OFFICIAL[method][1][f"{nested}ctx"][0]
        state |= {f"{nested}token_prefix": torch.randn(5, 1, 64)}
        state |= {f"{nested}token_suffix": torch.randn(5, 76 - context, 64)}
    if has_clip:
        state |= {f"image_encoder.{key}": value for key, value in model.visual.state_dict().items()}
        state["logit_scale"] = model.logit_scale.detach()
    if has_clip and method != "PromptKD":
        text = ("transformer.", "positional_embedding", "ln_final.", "text_projection")
        state |= {f"text_encoder.{key}": value for key, value in model.state_dict().items() if key.startswith(text)}
    if method == "PromptSRC":
        state |= {f"prompt_learner.ZS_image_encoder.{key}": value for key, value in model.visual.state_dict().items()}
    if method == "KgCoOp":
        state |= {"bias_vectors": torch.randn(1, 512), "token_midfix": torch.randn(5, 4, 64)}
        state |= {"meta_net.linear1.weight": torch.randn(512, 512), "meta_net.linear1.bias": torch.randn(512)}
    state = {key: value.half() for key, value in state.items()}
    return state | BATCHES if method == "PromptKD" else state


def write(folder: Path, method: str, state: dict, **more) -> str:
    """Write the best model of a method into a run folder."""
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


@pytest.mark.parametrize("form", ["complete", "trained only", "data parallel"])
def test_official_files_are_loaded(case, form, tmp_path):
    """A loaded checkpoint gives the same logits as parameters that are set one by one."""
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    trained = trained_state(case.method)
    parameters = case.module.state_dict(keep_vars=True)
    for key, value in trained.items():
        parameters[key].data.copy_(value)
    expected = logits(case.trainer, images)
    for key, value in trained.items():
        parameters[key].data.copy_(value.roll(1))
    assert not torch.allclose(logits(case.trainer, images), expected, atol=1e-3)

    state, more = dict(trained), {}
    if form != "trained only":
        state |= unused_entries(case.method, case.trainer)
        more = {"epoch": 20, "optimizer": {}, "scheduler": {}, "val_result": 71.3}
    elif case.method == "PromptKD":
        state |= BATCHES
    if form == "data parallel":
        state = {f"module.{key}": value for key, value in state.items()}
    tokens = [value.clone() for key, value in case.module.state_dict().items() if "token_" in key]
    case.trainer.load_model(write(tmp_path, case.method, state, **more))
    assert all(value.dtype == torch.float32 for value in case.module.parameters())
    assert torch.equal(logits(case.trainer, images), expected)
    assert same(tokens, [value for key, value in case.module.state_dict().items() if "token_" in key])


def test_checkpoints_of_other_methods_are_refused(case, untrained, tmp_path):
    """The other checkpoint is in the folder that this method reads."""
    before = state_of(case.trainer)
    for other in OFFICIAL.keys() - {case.method}:
        if frozenset((case.method, other)) in SAME_PARAMETERS:
            continue
        state = trained_state(other) | unused_entries(other, untrained(other))
        with pytest.raises(UserError, match="checkpoint of this method|has shape"):
            case.trainer.load_model(write(tmp_path, case.method, state))
        assert same(state_of(case.trainer), before), other


def test_missing_unexpected_and_wrong_entries_are_named(case, tmp_path):
    before, state = state_of(case.trainer), trained_state(case.method) | unused_entries(case.method, case.trainer)
    damaged = [(state | {"adapter.fc.0.weight": torch.zeros(3)}, "unexpected adapter.fc.0.weight"),
               (state | {"logit_scale": 4.6}, "state_dict")]  # fmt: skip
    for key in OFFICIAL[case.method][1]:
        damaged.append(({name: value for name, value in state.items() if name != key}, f"lacks {key}"))
        damaged.append((state | {key: torch.cat([state[key], state[key]])}, f"{key} has shape"))
    for content, message in damaged:
        with pytest.raises(UserError, match=message):
            case.trainer.load_model(write(tmp_path, case.method, content))
    assert same(state_of(case.trainer), before)


def test_class_specific_contexts_are_compared_by_the_tokens_of_their_names(build_shared, tmp_path):
    """CoOp's files contain the tokens of all 77 positions."""
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


def test_two_modules_are_loaded_together_or_not_at_all(build_shared, tmp_path):
    """FDBPL with a checkpoint of CoOp, which has no negative prompt space, and with one of another length."""
    trainer = build_shared("FDBPL", "both", bank=False)
    before, folder = state_of(trainer), write(tmp_path, "CoOp", trained_state("CoOp"))
    with pytest.raises(UserError, match="no checkpoint in .*negative_prompt_learner"):
        trainer.load_model(folder)
    negative = tmp_path / "negative_prompt_learner" / "model-best.pth.tar"
    negative.parent.mkdir()
    torch.save({"state_dict": {"ctx": torch.zeros(5, 64)}}, negative)
    with pytest.raises(UserError, match=r"ctx has shape \(5, 64\) in .*negative_prompt_learner.* \(4, 64\) here"):
        trainer.load_model(folder)
    assert same(state_of(trainer), before)
    torch.save({"state_dict": {"ctx": torch.zeros(4, 64)}}, negative)
    trainer.load_model(folder)
    assert torch.equal(trainer.student.prompt_learner.ctx, trained_state("CoOp")["ctx"].float())
    assert not trainer.negative_prompt_learner.ctx.any()
