"""What cannot work is refused in one sentence that names the key: before data is read wherever the key alone tells."""

import pytest
from dassl.engine import TRAINER_REGISTRY, build_trainer

from fdbpl.errors import UserError

from .methods import node_of, one_of_each_student, trained


def keys(prefix: str) -> list[tuple[str, str]]:
    """Trainer and key of every setting whose name begins so; new methods are in it by themselves."""
    from dassl.config import get_cfg_default

    from fdbpl.engine import registry

    cfg = get_cfg_default()
    registry.extend_cfg(cfg)
    return [(name, f"TRAINER.{node_of(name)}.{key}") for name in one_of_each_student()
            for key in cfg.TRAINER[node_of(name)] if key.startswith(prefix)]  # fmt: skip


def with_a_resnet() -> list[str]:
    """Trainers that learn something inside a ViT."""
    return [name for name in trained() if not TRAINER_REGISTRY.get(name).student_class.frozen_image_tower]


def refused(cfg, said: str) -> None:
    with pytest.raises(UserError, match=said):
        build_trainer(cfg)


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("name, key", keys("N_CTX"))
def test_prompts_have_a_length(make_cfg, name, key, number):
    refused(make_cfg(name, **{key: number, "DATASET.ROOT": "/nowhere"}), f"{key} is {number}, .* at least 1")


@pytest.mark.parametrize("number", [0, -1, 3])
@pytest.mark.parametrize("name, key", keys("PROMPT_DEPTH"))
def test_prompts_stand_in_blocks_that_there_are(make_cfg, name, key, number):
    refused(make_cfg(name, **{key: number}), f"{key} is {number}, .* from 1 to the 2 blocks")


@pytest.mark.parametrize("name", with_a_resnet())
def test_visual_prompts_need_a_vit(build, name):
    with pytest.raises(UserError, match="Visual prompts need a ViT, .* ResNet.* MODEL.BACKBONE.NAME"):
        build(name, **{"MODEL.BACKBONE.NAME": "demo:rn-student", "INPUT.SIZE": (64, 64)})


@pytest.mark.parametrize("name", ["CoOp", "CoCoOp", "KgCoOp", "ProGrad", "TCP", "FDBPL", "ZeroshotCLIP"])
def test_prompts_of_the_text_need_none(build, name):
    small = {"MODEL.BACKBONE.NAME": "demo:rn-student", "INPUT.SIZE": (64, 64), "OPTIM.MAX_EPOCH": 1}
    trainer = build(name, **small, **{"DATASET.NUM_SHOTS": 1})
    trainer.train()
    assert 0 <= trainer.results["accuracy"] <= 100


@pytest.mark.parametrize("block", [-1, 2])
def test_tcp_s_block_is_one_of_the_text_tower(make_cfg, block):
    refused(make_cfg("TCP", **{"TRAINER.TCP.BLOCK": block}), f"TRAINER.TCP.BLOCK is {block}, .* 0 to 1")


@pytest.mark.parametrize(
    "name, key, value, said",
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
        ("FDBPL", "REGIONS.PER_IMAGE", 0, "at least 1"),
        ("FDBPL", "REGIONS.BATCH_SIZE", 0, "at least 1"),
        ("FDBPL", "REGIONS.FLIP", 1.5, "from 0.0 to 1.0"),
        ("FDBPL", "REGIONS.SCALE", (0.9, 0.1), "a range above 0.0 and up to 1.0"),
        ("FDBPL", "REGIONS.SCALE", (0.5, 1.5), "a range above 0.0 and up to 1.0"),
        ("FDBPL", "REGIONS.RATIO", (0.0, 1.0), "a range above 0.0"),
        ("FDBPL", "REGIONS.RATIO", (1.0,), "a range above 0.0"),
        ("MaPLe_KDPL", "TRAINER.KDPL.K_MAX", 1, "at least 2"),
        ("CoOp_KDPL", "TEACHER.TEMPLATE", "a photo", "placeholder of the class name"),
        ("CoOp", "OPTIM.MAX_EPOCH", 0, "at least 1"),
        ("CoOp", "DATALOADER.TRAIN_X.BATCH_SIZE", 0, "at least 1"),
        ("ZeroshotCLIP", "DATALOADER.TEST.BATCH_SIZE", 0, "at least 1"),
        ("ZeroshotCLIP", "TRAINER.ZEROSHOTCLIP.TEMPLATE", "a photo", "placeholder of the class name"),
    ],
)
def test_a_setting_that_cannot_work(make_cfg, name, key, value, said):
    cfg = make_cfg(name, **{key: value, "DATASET.ROOT": "/nowhere"})
    with pytest.raises(UserError, match=said) as error:
        build_trainer(cfg)
    assert key in str(error.value)


@pytest.mark.parametrize("key, value", [("NAME", "nothing"), ("LR_SCHEDULER", "nothing"), ("LR", -1.0)])
def test_an_optimiser_that_there_is_not(make_cfg, key, value):
    """The reasons are Dassl's and torch's own."""
    refused(make_cfg("MaPLe", **{f"OPTIM.{key}": value}), f"cannot be built from the OPTIM settings.*{value}")


def test_distillation_with_no_weight_teaches_nothing(make_cfg):
    weights = {"TRAINER.KDPL.ALPHA": 0.0, "TRAINER.KDPL.BETA": 0.0}
    refused(make_cfg("CoOp_KDPL", **weights, **{"DATASET.ROOT": "/nowhere"}), "ALPHA and BETA are both 0.0")


@pytest.mark.parametrize("mean, epoch", [(1000.0, 4), (-1000.0, 1), (2.4, 2)])
def test_a_gaussian_average_far_off_is_the_nearest_epoch(mean, epoch):
    from trainers.promptsrc import GaussianAverage

    weights = GaussianAverage(4, mean, 0.05).weights
    assert sum(weights) == pytest.approx(1) and weights[epoch - 1] == pytest.approx(1)


@pytest.mark.parametrize("name", ["CoOp", "CoOp_KDPL", "KgCoOp", "TCP", "FDBPL", "FDBPL_KgCoOp"])
def test_words_cannot_start_class_specific_contexts(make_cfg, name):
    node = f"TRAINER.{node_of(name)}"
    specific = {f"{node}.CSC": True, f"{node}.CTX_INIT": "a photo of a", "DATASET.ROOT": "/nowhere"}
    refused(make_cfg(name, **specific), f"{node}.CSC True asks .*Set {node}.CTX_INIT '' for class-specific contexts")


def test_words_cannot_start_class_specific_negative_contexts(make_cfg):
    specific = {"TRAINER.FDBPL.CSC": True, "TRAINER.FDBPL.CTX_INIT": "", "DATASET.ROOT": "/nowhere"}
    refused(make_cfg("FDBPL", **specific), "Set TRAINER.FDBPL.NEGATIVE_CTX_INIT '' for class-specific contexts")
