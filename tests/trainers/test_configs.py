"""Every shipped configuration goes through the real configuration building; every module is found by itself."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "trainers").glob("*/*.yaml"))


def load(file: Path):
    from dassl.config import get_cfg_default

    import datasets
    from fdbpl.config import merge, read_yaml, split_per_dataset
    from fdbpl.engine import registry

    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    registry.extend_cfg(cfg)
    merge(cfg, split_per_dataset(read_yaml(str(file)))[0], str(file))
    return cfg


STUDENTS = {"demo_vit": "demo:vit-student", "demo": "demo:rn-student", "rn50": "RN50", "vit_b32": "ViT-B/32",
            "vit_b16": "ViT-B/16"}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_configuration_is_whole(file):
    from dassl.engine import TRAINER_REGISTRY

    cfg = load(file)
    trainer = TRAINER_REGISTRY.get(file.parent.name)
    demo = file.stem.startswith("demo")
    assert tuple(cfg.INPUT.SIZE) == ((64, 64) if demo else (224, 224))
    assert ("fp32" if demo else "fp16") == trainer.settings(cfg).PREC
    student = next(name for name in STUDENTS if file.stem.startswith(name))
    assert STUDENTS[student] == cfg.MODEL.BACKBONE.NAME
    if not demo:
        assert cfg.DATALOADER.NUM_WORKERS == 8
    if file.parent.name.startswith("Zeroshot"):
        return
    assert ("adam" if file.parent.name == "TCP" else "sgd") == cfg.OPTIM.NAME
    assert cfg.OPTIM.LR_SCHEDULER == "cosine" and cfg.OPTIM.WARMUP_EPOCH == 1
    assert 0 < cfg.TRAIN.CHECKPOINT_FREQ <= cfg.OPTIM.MAX_EPOCH


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_name_says_what_is_in_the_file(file):
    """vit_b16_c2_ep20_batch4_4+4ctx: 20 epochs, batches of 4, 4 visual and 4 textual context vectors."""
    from dassl.engine import TRAINER_REGISTRY

    cfg = load(file)
    settings = TRAINER_REGISTRY.get(file.parent.name).settings(cfg)
    visual, textual = settings.get("N_CTX_VISION"), settings.get("N_CTX_TEXT", settings.get("N_CTX"))
    epochs, batch = re.search(r"_ep(\d+)", file.stem), re.search(r"_batch(\d+)", file.stem)
    both, one = re.search(r"_(\d+)\+(\d+)ctx", file.stem), re.search(r"_(\d+)ctx", file.stem)
    assert epochs is None or int(epochs[1]) == cfg.OPTIM.MAX_EPOCH
    assert batch is None or int(batch[1]) == cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    assert both is None or (int(both[1]), int(both[2])) == (visual, textual)
    assert one is None or both or int(one[1]) == (textual if visual is None else visual)
    assert "ctxv1" not in file.stem or settings.CTX_INIT == "a photo of a"


def test_every_method_is_configured_for_every_student_it_can_train():
    from dassl.engine import TRAINER_REGISTRY

    from fdbpl.engine import registry

    names = registry.trainer_names()
    methods = {name for name in names if not name.startswith("FDBPL_") and not name.endswith("_KDPL")}
    assert {file.parent.name for file in FILES} == methods
    for method in methods:
        stems = " ".join(file.stem for file in FILES if file.parent.name == method)
        text_only = TRAINER_REGISTRY.get(method).student_class.frozen_image_tower
        for student in STUDENTS if text_only else ("demo_vit", "vit_b32", "vit_b16"):
            assert student in stems, f"{method} {student}"


def per_dataset(file: Path) -> dict:
    from fdbpl.config import read_yaml, split_per_dataset

    return split_per_dataset(read_yaml(str(file)))[1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_what_differs_for_a_data_set_fits_the_configuration(file):
    from fdbpl.config import merge

    known = {"ImageNet", "StanfordCars", "OxfordFlowers", "FGVCAircraft", "DescribableTextures", "EuroSAT", "", "Demo",
             "DemoColours", "DemoCorrupted", "DemoSketch", "DemoWorld"}  # fmt: skip
    for condition, values in per_dataset(file).items():
        dataset, _, shots = condition.partition("/")
        assert dataset in known and (not shots or int(shots) in (1, 2, 4, 8, 16))
        merge(load(file), values, condition)


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        (["DATASET.NUM_SHOTS", "16"], 200),
        (["DATASET.NUM_SHOTS", "1"], 50),
        (["DATASET.NUM_SHOTS", "4"], 100),
        (["DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "7"], 7),
    ],
)
def test_the_data_set_and_the_shots_choose_and_what_is_typed_wins(tmp_path, monkeypatch, words, epochs):
    import train
    from fdbpl.engine.run import build_config

    files = ["--dataset-config-file", "configs/datasets/demo.yaml", "--config-file", "configs/trainers/CoOp/rn50.yaml"]
    monkeypatch.setattr("sys.argv", ["train.py", "--trainer", "CoOp", "--output-dir", str(tmp_path), *files, *words])
    monkeypatch.chdir(ROOT)
    assert epochs == build_config(train.parse_arguments()).OPTIM.MAX_EPOCH


def test_the_trainers_are_found():
    from fdbpl.engine import registry

    names = registry.trainer_names()
    methods = ["CoCoOp", "CoOp", "IVLP", "KgCoOp", "MaPLe", "PromptSRC", "TCP", "VPT"]
    assert {f"{method}_KDPL" for method in methods} <= set(names)
    assert {"FDBPL", *(f"FDBPL_{method}" for method in methods if method != "CoOp"), "FDBPL_PromptKD"} <= set(names)
    assert {*methods, "ZeroshotCLIP", "ZeroshotCLIP2", "ProGrad", "PromptKD"} <= set(names)
    assert names.index("MaPLe") + 1 == names.index("MaPLe_KDPL") == names.index("FDBPL_MaPLe") - 1


def test_a_taken_name_is_left_alone():
    from dassl.engine import TRAINER_REGISTRY

    from fdbpl.engine.registry import register

    theirs = TRAINER_REGISTRY.get("CoOp")

    class CoOp:
        pass

    assert register(CoOp) is CoOp
    assert TRAINER_REGISTRY.get("CoOp") is theirs
