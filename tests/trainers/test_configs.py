"""Files of configs/trainers: validity and the values in their names; the registry of trainers."""

import re
from pathlib import Path

import pytest
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY

import datasets
import train
from fdbpl.config import flatten, for_dataset, merge, plain, read_yaml, split_per_dataset
from fdbpl.engine import registry
from fdbpl.engine.run import build_config

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "trainers").glob("*/*.yaml"))
EACH_FILE = pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
STUDENTS = {"demo_vit": "demo:vit-student", "demo": "demo:rn-student", "rn50": "RN50", "vit_b32": "ViT-B/32",
            "vit_b16": "ViT-B/16"}  # fmt: skip
DATASETS = {"ImageNet", "StanfordCars", "OxfordFlowers", "FGVCAircraft", "DescribableTextures", "EuroSAT", "", "Demo",
            "DemoColours", "DemoCorrupted", "DemoHard", "DemoSketch", "DemoWorld"}  # fmt: skip


def load(file: Path) -> tuple:
    """Return the configuration of a file and its PER_DATASET section."""
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    registry.extend_cfg(cfg)
    general, special = split_per_dataset(read_yaml(str(file)))
    merge(cfg, general, str(file))
    return cfg, special


@EACH_FILE
def test_a_configuration_is_complete(file):
    cfg, special = load(file)
    trainer = TRAINER_REGISTRY.get(file.parent.name)
    demo = file.stem.startswith("demo")
    assert tuple(cfg.INPUT.SIZE) == ((64, 64) if demo else (224, 224))
    assert ("fp32" if demo else "fp16") == trainer.settings(cfg).PREC
    student = next(name for name in STUDENTS if file.stem.startswith(name))
    assert STUDENTS[student] == cfg.MODEL.BACKBONE.NAME
    assert demo or cfg.DATALOADER.NUM_WORKERS == 8
    if not file.parent.name.startswith("Zeroshot"):
        assert ("adam" if file.parent.name == "TCP" else "sgd") == cfg.OPTIM.NAME
        assert cfg.OPTIM.LR_SCHEDULER == "cosine" and cfg.OPTIM.WARMUP_EPOCH == 1
        assert 0 < cfg.TRAIN.CHECKPOINT_FREQ <= cfg.OPTIM.MAX_EPOCH
    for condition, values in special.items():
        dataset, _, shots = condition.partition("/")
        assert dataset in DATASETS and (not shots or int(shots) in (1, 2, 4, 8, 16))
        merge(cfg, values, condition)


@EACH_FILE
def test_a_configuration_has_the_values_in_its_name(file):
    """vit_b16_c2_ep20_batch4_4+4ctx: 20 epochs, batches of 4, 4 visual and 4 textual context vectors."""
    cfg, _ = load(file)
    settings = TRAINER_REGISTRY.get(file.parent.name).settings(cfg)
    visual, textual = settings.get("N_CTX_VISION"), settings.get("N_CTX_TEXT", settings.get("N_CTX"))
    epochs, batch = re.search(r"_ep(\d+)", file.stem), re.search(r"_batch(\d+)", file.stem)
    both, one = re.search(r"_(\d+)\+(\d+)ctx", file.stem), re.search(r"_(\d+)ctx", file.stem)
    assert epochs is None or int(epochs[1]) == cfg.OPTIM.MAX_EPOCH
    assert batch is None or int(batch[1]) == cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    assert both is None or (int(both[1]), int(both[2])) == (visual, textual)
    assert one is None or both or int(one[1]) == (textual if visual is None else visual)
    assert "ctxv1" not in file.stem or settings.CTX_INIT == "a photo of a"


def test_every_method_has_a_configuration_for_every_student_it_can_train():
    names = registry.trainer_names()
    methods = {name for name in names if not name.startswith("FDBPL_") and not name.endswith("_KDPL")}
    assert {file.parent.name for file in FILES} == methods
    for method in methods:
        stems = " ".join(file.stem for file in FILES if file.parent.name == method)
        text_only = TRAINER_REGISTRY.get(method).student_class.frozen_image_tower
        for student in STUDENTS if text_only else ("demo_vit", "vit_b32", "vit_b16"):
            assert student in stems, f"{method} {student}"


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        (["DATASET.NUM_SHOTS", "16"], 200),
        (["DATASET.NUM_SHOTS", "1"], 50),
        (["DATASET.NUM_SHOTS", "4"], 100),
        (["DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "7"], 7),
    ],
)
def test_per_dataset_values_follow_the_shots_and_the_command_line_overrides_them(tmp_path, monkeypatch, words, epochs):
    files = ["--dataset-config-file", "configs/datasets/demo.yaml", "--config-file", "configs/trainers/CoOp/rn50.yaml"]
    monkeypatch.setattr("sys.argv", ["train.py", "--trainer", "CoOp", "--output-dir", str(tmp_path), *files, *words])
    monkeypatch.chdir(ROOT)
    assert epochs == build_config(train.parse_arguments()).OPTIM.MAX_EPOCH


def test_the_registry_finds_all_trainers():
    names = registry.trainer_names()
    methods = ["CoCoOp", "CoOp", "IVLP", "KgCoOp", "MaPLe", "PromptSRC", "TCP", "VPT"]
    assert {f"{method}_KDPL" for method in methods} <= set(names)
    assert {"FDBPL", *(f"FDBPL_{method}" for method in methods if method != "CoOp"), "FDBPL_PromptKD"} <= set(names)
    assert {*methods, "ZeroshotCLIP", "ZeroshotCLIP2", "ProGrad", "PromptKD"} <= set(names)
    assert names.index("MaPLe") + 1 == names.index("MaPLe_KDPL") == names.index("FDBPL_MaPLe") - 1


def test_a_registered_name_keeps_its_trainer():
    theirs = TRAINER_REGISTRY.get("CoOp")

    class CoOp:
        pass

    assert registry.register(CoOp) is CoOp
    assert TRAINER_REGISTRY.get("CoOp") is theirs


@pytest.mark.parametrize("student", STUDENTS)
def test_the_recommended_settings_change_the_regions_and_the_text_of_untrained_classes(student):
    folder = ROOT / "configs/trainers/FDBPL"
    cfg, special = load(folder / f"{student}_recommended.yaml")
    (paper,) = (
        file for file in FILES if re.fullmatch(rf"FDBPL/{student}(_ep50_ctxv1)?", f"{file.parent.name}/{file.stem}")
    )
    changed = {"REGIONS.PER_EPOCH": 4, "TEACHER.MATCH_RELATIONS": True}
    changed |= {"REGIONS.SCALE": [0.3, 1.0]} if student.startswith("demo") else {}
    theirs, own = flatten(plain(load(paper)[0])), flatten(plain(cfg))
    assert own == {**theirs, **changed}
    for shots, regions in ((1, 16), (2, 8), (4, 4), (8, 4), (16, 4)):
        assert {**own, **for_dataset(special, "", shots)}["REGIONS.PER_EPOCH"] == regions
