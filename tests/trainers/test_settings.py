"""Invalid settings: errors that name the key, raised before data is read if possible."""

import pytest
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY, build_trainer

from fdbpl.engine import registry
from fdbpl.engine.gaussian_average import GaussianAverage
from fdbpl.errors import UserError

from .methods import cfg_key_of, one_of_each_student, trained

NOWHERE = {"DATASET.ROOT": "/nowhere"}  # data is not read


def keys(prefix: str) -> list[tuple[str, str]]:
    """Return trainer and key of every setting that begins with `prefix`."""
    cfg = get_cfg_default()
    registry.extend_cfg(cfg)
    return [(name, f"TRAINER.{cfg_key_of(name)}.{key}") for name in one_of_each_student()
            for key in cfg.TRAINER[cfg_key_of(name)] if key.startswith(prefix)]  # fmt: skip


def check_refused(cfg, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_trainer(cfg)


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("name, key", keys("N_CTX"))
def test_the_number_of_prompts(make_cfg, name, key, number):
    check_refused(make_cfg(name, **{key: number}, **NOWHERE), f"{key} is {number}, .* at least 1")


@pytest.mark.parametrize("number", [0, -1, 3])
@pytest.mark.parametrize("name, key", keys("PROMPT_DEPTH"))
def test_the_depth_of_prompts(make_cfg, name, key, number):
    check_refused(make_cfg(name, **{key: number}), f"{key} is {number}, .* from 1 to the 2 blocks")


@pytest.mark.parametrize("block", [-1, 2])
def test_the_block_of_tcp(make_cfg, block):
    check_refused(make_cfg("TCP", **{"TRAINER.TCP.BLOCK": block}), f"TRAINER.TCP.BLOCK is {block}, .* 0 to 1")


RESNET = {"MODEL.BACKBONE.NAME": "demo:rn-student", "INPUT.SIZE": (64, 64)}


@pytest.mark.parametrize(
    "name", [name for name in trained() if not TRAINER_REGISTRY.get(name).student_class.frozen_image_tower]
)
def test_visual_prompts_need_a_vit(make_cfg, name):
    check_refused(make_cfg(name, **RESNET), "Visual prompts need a ViT, .* ResNet.* MODEL.BACKBONE.NAME")


@pytest.mark.parametrize("name", ["CoOp", "CoCoOp", "KgCoOp", "ProGrad", "TCP", "FDBPL", "ZeroshotCLIP"])
def test_text_prompts_work_with_a_resnet(build_shared, name):
    trainer = build_shared(name, f"resnet/{name}", **RESNET, **{"OPTIM.MAX_EPOCH": 1, "DATASET.NUM_SHOTS": 1})
    trainer.train()
    assert 0 <= trainer.results["accuracy"] <= 100


@pytest.mark.parametrize(
    "name, key, value, message",
    [
        ("TCP", "TRAINER.TCP.CLASS_TOKEN_POSITION", "middle", "is 'middle', but it must be end"),
        ("FDBPL_TCP", "TRAINER.TCP.CLASS_TOKEN_POSITION", "front", "is 'front', but it must be end"),
        ("KgCoOp", "TRAINER.KGCOOP.CLASS_TOKEN_POSITION", "top", "is 'top', but it must be one of end, middle, front"),
        ("PromptSRC", "TRAINER.PROMPTSRC.GPA_STD", 0.0, "above 0.0"),
        ("PromptSRC_KDPL", "TRAINER.PROMPTSRC.GPA_STD", -1.0, "above 0.0"),
        ("PromptKD", "TRAINER.PROMPTKD.TEMPERATURE", 0.0, "above 0.0"),
        ("PromptKD", "TRAINER.PROMPTKD.TEMPERATURE", -2.0, "above 0.0"),
        ("PromptKD", "DATALOADER.TRAIN_X.BATCH_SIZE", 1, "at least 2 for PromptKD's batch norm"),
        ("FDBPL_PromptKD", "DATALOADER.TRAIN_X.BATCH_SIZE", 1, "at least 2 for PromptKD's batch norm"),
        ("ProGrad", "TRAINER.PROGRAD.T", 0.0, "above 0.0"),
        ("ProGrad", "TRAINER.PROGRAD.LAMBDA", -0.5, "at least 0.0"),
        ("FDBPL", "TRAINER.FDBPL.ENTROPY_EPSILON", -1.0, "at least 0.0"),
        ("FDBPL_VPT", "TRAINER.FDBPL.TEST_LOGITS", "difference", "which FDBPL_VPT does not have"),
        ("FDBPL_MaPLe", "TRAINER.FDBPL.TEST_LOGITS", "negative", "positive or difference"),
        ("FDBPL", "REGIONS.SCALE", (0.9, 0.1), "a range above 0.0 and up to 1.0"),
        ("FDBPL", "REGIONS.RATIO", (1.0,), "a range above 0.0"),
        ("MaPLe_KDPL", "TRAINER.KDPL.K_MAX", 1, "at least 2"),
        ("CoOp_KDPL", "TEACHER.TEMPLATE", "a photo", "placeholder of the class name"),
        ("ZeroshotCLIP", "TRAINER.ZEROSHOTCLIP.TEMPLATE", "a photo", "placeholder of the class name"),
    ],
)
def test_invalid_values(make_cfg, name, key, value, message):
    check_refused(make_cfg(name, **{key: value}, **NOWHERE), f"{key}.*{message}")


@pytest.mark.parametrize("key, value", [("NAME", "nothing"), ("LR_SCHEDULER", "nothing"), ("LR", -1.0)])
def test_optimizer_settings_refused_by_dassl_or_torch(make_cfg, key, value):
    check_refused(make_cfg("MaPLe", **{f"OPTIM.{key}": value}), f"cannot be built from the OPTIM settings.*{value}")


def test_distillation_needs_a_weight(make_cfg):
    weights = {"TRAINER.KDPL.ALPHA": 0.0, "TRAINER.KDPL.BETA": 0.0}
    check_refused(make_cfg("CoOp_KDPL", **weights, **NOWHERE), "ALPHA and BETA are both 0.0")


@pytest.mark.parametrize("mean, epoch", [(1000.0, 4), (-1000.0, 1), (2.4, 2)])
def test_a_distant_mean_of_the_gaussian_average_selects_the_nearest_epoch(mean, epoch):
    weights = GaussianAverage(4, mean, 0.05).weights
    assert sum(weights) == pytest.approx(1) and weights[epoch - 1] == pytest.approx(1)


@pytest.mark.parametrize("name", ["CoOp", "CoOp_KDPL", "KgCoOp", "TCP", "FDBPL", "FDBPL_KgCoOp"])
def test_class_specific_contexts_cannot_start_from_words(make_cfg, name):
    key = f"TRAINER.{cfg_key_of(name)}"
    specific = {f"{key}.CSC": True, f"{key}.CTX_INIT": "a photo of a"}
    message = f"{key}.CSC True asks .*Set {key}.CTX_INIT '' for class-specific contexts"
    check_refused(make_cfg(name, **specific, **NOWHERE), message)


def test_class_specific_negative_contexts_cannot_start_from_words(make_cfg):
    specific = {"TRAINER.FDBPL.CSC": True, "TRAINER.FDBPL.CTX_INIT": ""}
    message = "Set TRAINER.FDBPL.NEGATIVE_CTX_INIT '' for class-specific contexts"
    check_refused(make_cfg("FDBPL", **specific, **NOWHERE), message)
