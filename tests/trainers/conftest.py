"""A tiny data set of ten classes, tiny CLIPs as student and teacher, and trainers on them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

NAMES = [
    "cat",
    "golden retriever",
    "ramen",
    "wheel_chair",
    "fire lily",
    "yurt",
    "sea lion",
    "lemon",
    "espresso",
    "volcano",
]
SECTIONS = ["COOP", "COCOOP", "VPT", "IVLP", "MAPLE", "PROMPTSRC", "KGCOOP", "PROGRAD", "TCP", "PROMPTKD", "FDBPL",
         "ZEROSHOTCLIP"]  # fmt: skip


# settings of all methods for the tiny CLIPs, whose towers have two blocks
TINY = {
    **{f"TRAINER.{section}.PREC": "fp32" for section in SECTIONS},
    "TRAINER.COOP.CTX_INIT": "a photo of a",
    "TRAINER.COCOOP.N_CTX": 3,
    "TRAINER.VPT.N_CTX_VISION": 3,
    "TRAINER.VPT.PROMPT_DEPTH_VISION": 2,
    "TRAINER.IVLP.PROMPT_DEPTH_VISION": 2,
    "TRAINER.IVLP.PROMPT_DEPTH_TEXT": 2,
    "TRAINER.MAPLE.PROMPT_DEPTH": 2,
    "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION": 2,
    "TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT": 2,
    "TRAINER.PROMPTSRC.GPA_MEAN": 2.0,
    "TRAINER.PROGRAD.N_CTX": 5,
    "TRAINER.TCP.BLOCK": 1,
    "TRAINER.PROMPTKD.PROMPT_DEPTH_VISION": 2,
}


def tiny_clip(seed: int, embed_dim: int, vision_layers: int):
    from clip.model import CLIP

    torch.manual_seed(seed)
    model = CLIP(
        embed_dim=embed_dim, image_resolution=32, vision_layers=vision_layers, vision_width=64, vision_patch_size=16,
        context_length=77, vocab_size=49408, transformer_width=64, transformer_heads=1, transformer_layers=2,
    )  # fmt: skip
    with torch.no_grad():
        model.token_embedding.weight.mul_(10)
    return model


def tiny_clip_file(path: Path, seed: int, embed_dim: int, vision_layers: int) -> str:
    model = tiny_clip(seed, embed_dim, vision_layers)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return str(path)


@pytest.fixture(scope="session")
def student_file(tmp_path_factory) -> str:
    return tiny_clip_file(tmp_path_factory.mktemp("clip") / "student.safetensors", 1, 32, 2)


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory) -> str:
    return tiny_clip_file(tmp_path_factory.mktemp("clip") / "teacher.safetensors", 2, 16, 1)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """Ten classes of four training, two validation and two test images of different sizes."""
    root = tmp_path_factory.mktemp("data")
    images = root / "tiny" / "images"
    images.mkdir(parents=True)
    random = np.random.default_rng(0)
    split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(NAMES):
        for number in range(8):
            pixels = random.integers(0, 256, (random.integers(36, 60), random.integers(36, 60), 3), dtype=np.uint8)
            file = f"{label}_{number}.jpg"
            Image.fromarray(pixels // 2 + np.uint8(12 * label)).save(images / file, quality=95)
            split["train" if number < 4 else "val" if number < 6 else "test"].append([file, label, name])
    (root / "tiny" / "split.json").write_text(json.dumps(split))
    return root


def register_tiny_dataset() -> None:
    from dassl.data.datasets import DATASET_REGISTRY

    from fdbpl.data.split_dataset import SplitDataset

    if "TinyDataset" in DATASET_REGISTRY.registered_names():
        return

    class TinyDataset(SplitDataset):
        dataset_dir = "tiny"
        image_dir = "images"
        split_file = "split.json"
        template = "a drawing of a {}."

    DATASET_REGISTRY.register()(TinyDataset)


@pytest.fixture(scope="session")
def cfg_in(data_root: Path, student_file: str, teacher_file: str):
    """Return cfg_in(folder, trainer, output, {"KEY": value}), a frozen configuration of two-batch epochs."""
    from dassl.config import get_cfg_default

    import datasets
    from fdbpl.config import merge
    from fdbpl.engine import registry

    register_tiny_dataset()

    def make(folder: Path, trainer: str, output: str, overrides: dict):
        cfg = get_cfg_default()
        datasets.extend_cfg(cfg)
        registry.extend_cfg(cfg)
        values = {
            "TRAINER.NAME": trainer,
            "OUTPUT_DIR": str(folder / output),
            "SEED": 1,
            "USE_CUDA": False,
            "DATASET.NAME": "TinyDataset",
            "DATASET.ROOT": str(data_root),
            "DATASET.NUM_SHOTS": 2,
            "DATASET.FEWSHOT_DIR": str(folder / "few_shot"),
            "DATASET.SUBSAMPLE_CLASSES": "base",
            "DATALOADER.NUM_WORKERS": 0,
            "DATALOADER.TRAIN_X.BATCH_SIZE": 4,
            "INPUT.SIZE": (32, 32),
            "INPUT.INTERPOLATION": "bicubic",
            "INPUT.PIXEL_MEAN": [0.48145466, 0.4578275, 0.40821073],
            "INPUT.PIXEL_STD": [0.26862954, 0.26130258, 0.27577711],
            "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
            "MODEL.BACKBONE.NAME": student_file,
            "TEACHER.NAME": teacher_file,
            "REGIONS.ROOT": str(folder / "regions"),
            "TEST.FEATURE_CACHE_DIR": str(folder / "features"),
            "REGIONS.PER_IMAGE": 3,
            "REGIONS.PIPELINE": "torchvision",
            "OPTIM.NAME": "sgd",
            "OPTIM.LR": 0.05,
            "OPTIM.MAX_EPOCH": 4,
            "OPTIM.LR_SCHEDULER": "cosine",
            "OPTIM.WARMUP_EPOCH": 1,
            "OPTIM.WARMUP_TYPE": "constant",
            "OPTIM.WARMUP_CONS_LR": 1e-5,
            **TINY,
            **{key.replace("__", "."): value for key, value in overrides.items()},
        }
        merge(cfg, values, "the test")
        cfg.freeze()
        return cfg

    return make


def build_from(cfg, bank: bool = True):
    """Generate the region bank of a configuration unless it exists, and let Dassl build its trainer."""
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    from fdbpl.engine.bank_spec import ensure_bank
    from fdbpl.engine.registry import region_bank_spec

    plan = region_bank_spec(cfg) if bank else None
    if plan is not None:
        ensure_bank(plan)
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


@pytest.fixture
def make_cfg(cfg_in, tmp_path: Path):
    """Return make_cfg(trainer, output="run", **{"KEY.SUB": value}), which returns a frozen configuration."""
    return lambda trainer, output="run", **overrides: cfg_in(tmp_path, trainer, output, overrides)


@pytest.fixture
def build(make_cfg):
    """Return build(trainer, output, **overrides), which builds a trainer in a folder and with banks of this test."""

    def make(trainer: str, output: str = "run", bank: bool = True, **overrides):
        return build_from(make_cfg(trainer, output, **overrides), bank)

    return make


@pytest.fixture(scope="session")
def build_shared(cfg_in, tmp_path_factory):
    """Return build_shared(trainer, output, **overrides), which builds a trainer in a folder of the whole session."""
    folder = tmp_path_factory.mktemp("runs")

    def make(trainer: str, output: str, bank: bool = True, **overrides):
        return build_from(cfg_in(folder, trainer, output, overrides), bank)

    return make


class TrainPy:
    """train_py(trainer, output, *flags, **overrides) runs train.py in this process and returns the run folder."""

    def __init__(self, cfg_in, folder: Path, monkeypatch):
        self.cfg_in, self.folder, self.monkeypatch = cfg_in, folder, monkeypatch

    def __call__(self, trainer: str, output: str, *flags: object, **overrides) -> Path:
        import train

        cfg = self.cfg_in(self.folder, trainer, output, {"OPTIM.MAX_EPOCH": 2, **overrides})
        file = self.folder / f"{output}.yaml"
        file.write_text(cfg.dump())
        command = ["train.py", "--config-file", file, "--seed", cfg.SEED, *flags]
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "argv", list(map(str, command)))
            train.main()
        return self.folder / output

    @staticmethod
    def metrics(folder: Path) -> dict:
        return json.loads((folder / "metrics.json").read_text())


@pytest.fixture
def train_py(cfg_in, tmp_path, monkeypatch) -> TrainPy:
    return TrainPy(cfg_in, tmp_path, monkeypatch)
