"""Inputs of all variants: synthetic images or photographs, class names, and a Dassl data set of them."""

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from fdbpl.config import merge
from fdbpl.distributed import barrier
from fdbpl.engine import registry
from fdbpl.engine.bank_spec import ensure_bank
from fdbpl.errors import UserError

# words that are one token
NOUNS = """cat dog car tree boat lamp chair table horse sheep bird fish bear wolf fox lion tiger mouse rabbit cow pig
goat duck swan eagle owl frog snake bee ant apple lemon orange cherry bread cheese pizza cake cup plate bottle spoon
knife clock phone camera piano guitar drum violin bridge tower castle church train bus truck bike plane kite""".split()  # noqa: SIM905
ADJECTIVES = """red blue green white black brown pink gray golden silver big small tall short long old young wild fast
slow hot cold wet dry soft hard round square flat sharp""".split()  # noqa: SIM905
FOLDER = "images"


def class_names(count: int) -> list[str]:
    """Return names of 1 to 3 words for the first 100 classes, as in Caltech101, and of up to 6 words for later ones."""
    names = []
    for number in range(count):
        noun, adjective = NOUNS[number // 2 % len(NOUNS)], ADJECTIVES[number % len(ADJECTIVES)]
        other = ADJECTIVES[number // len(NOUNS) % len(ADJECTIVES)]
        if number >= 100 and number % 100 == 99:
            names.append(f"{other} {adjective} {noun} with a {NOUNS[number // 7 % len(NOUNS)]}")
        elif number % 20 == 19 or number >= 2 * len(NOUNS):
            names.append(f"{other} {adjective} {noun}")
        else:
            names.append(f"{adjective} {noun}" if number % 2 else noun)
    return names


def draw_images(folder: Path, count: int) -> list[str]:
    """Write `count` JPEG files of 500 x 375 pixels with the detail of photographs; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        file = folder / f"{number:04}.jpg"
        if not file.is_file():
            random = np.random.default_rng(number)
            coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
            fine = random.normal(0, 12, (375, 500, 1))
            pixels = (np.asarray(coarse, np.float32) + fine).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(file, quality=90)
        paths.append(f"{folder.name}/{file.name}")
    return paths


def photographs(root: Path, count: int) -> list[str]:
    """Select `count` JPEG files below `root`, evenly from the sorted paths."""
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
    if len(files) < count:
        raise UserError(f"{root} holds {len(files)} JPEG files; the benchmark needs {count}. Give a folder with more.")
    return [file.relative_to(root).as_posix() for file in files[:: len(files) // count][:count]]


class SyntheticInputs:
    """Images, class names, and the trainers built on them.

    Args:
        folder: folder of all files that the benchmark writes.
        images: number of images.
        classes: number of class names.
        photos: folder of photographs to use instead of synthetic images.
        checkouts: folders of official code, by the names of `official_code.CODE`.
    """

    def __init__(
        self,
        folder: Path,
        images: int,
        classes: int,
        photos: Path | None = None,
        device: str = "cpu",
        checkouts: Mapping[str, Path] | None = None,
    ):
        self.folder, self.device, self.checkouts = folder, device, checkouts or {}
        self.root = photos or folder
        self.paths = photographs(photos, images) if photos else draw_images(folder / FOLDER, images)
        self.names = class_names(classes)
        _register()

    def config(self, trainer: str, student: str, teacher: str, classes: int, images: int, **values) -> CfgNode:
        """Return the frozen configuration of a run on the first `images` images with the first `classes` names.

        Args:
            values: further keys, with `__` instead of a dot.
        """
        from dassl.config import get_cfg_default

        from fdbpl.backbones.random_init import ARCHITECTURES

        cfg = get_cfg_default()
        registry.extend_cfg(cfg)
        cfg.BENCH = CfgNode({"CLASSES": classes, "IMAGES": images})
        size = ARCHITECTURES[student][1]
        precision = "fp16" if self.device == "cuda" else "fp32"
        nodes = [node for node, settings in cfg.TRAINER.items() if isinstance(settings, CfgNode) and "PREC" in settings]
        merge(
            cfg,
            {
                "TRAINER.NAME": trainer,
                "OUTPUT_DIR": str(self.folder / "runs" / trainer),
                "SEED": 1,
                "USE_CUDA": self.device == "cuda",
                "VERBOSE": False,
                "DATASET.NAME": "BenchmarkImages",
                "DATASET.ROOT": str(self.root),
                "DATALOADER.NUM_WORKERS": min(os.cpu_count() or 1, 8),
                "DATALOADER.TRAIN_X.BATCH_SIZE": images,
                "DATALOADER.TEST.BATCH_SIZE": 100,
                "INPUT.SIZE": (size, size),
                "INPUT.INTERPOLATION": "bicubic",
                "INPUT.PIXEL_MEAN": [0.48145466, 0.4578275, 0.40821073],
                "INPUT.PIXEL_STD": [0.26862954, 0.26130258, 0.27577711],
                "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
                "MODEL.BACKBONE.NAME": f"random:{student}",
                "TEACHER.NAME": f"random:{teacher}",
                "REGIONS.ROOT": str(self.folder / "regions"),
                "REGIONS.PER_IMAGE": 1,
                "TEST.FEATURE_CACHE_DIR": str(self.folder / "features"),
                "OPTIM.NAME": "sgd",
                "OPTIM.LR": 0.002,
                "OPTIM.MAX_EPOCH": 50,
                "TRAINER.COOP.CTX_INIT": "a photo of a",
                **{f"TRAINER.{node}.PREC": precision for node in nodes},
                **{key.replace("__", "."): value for key, value in values.items()},
            },
            "the benchmark",
        )
        cfg.freeze()
        return cfg

    def build_trainer(self, cfg: CfgNode):
        """Complete the region bank of a configuration, then build its trainer and prepare the first step."""
        from dassl.engine import build_trainer

        _here[:] = [self]
        with contextlib.redirect_stdout(io.StringIO()):
            plan = registry.region_bank_spec(cfg)
            if plan is not None:
                ensure_bank(plan)
                barrier()
            trainer = build_trainer(cfg)
            trainer.epoch = trainer.batch_idx = 0
            trainer.build_supervision()
            trainer.set_model_mode("train")
            trainer.before_epoch()
        return trainer


_here: list[SyntheticInputs] = []  # inputs that the registered data set reads: those of the trainer that is built


def _register() -> None:
    from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum

    if "BenchmarkImages" in DATASET_REGISTRY.registered_names():
        return

    class BenchmarkImages(DatasetBase):
        """Data set of the first images for training and all images for testing."""

        dataset_dir = FOLDER
        template = "a photo of a {}."
        distinct_names, test_only = True, False

        def __init__(self, cfg: CfgNode):
            inputs, names = _here[0], _here[0].names[: cfg.BENCH.CLASSES]
            self.root, self.all_classnames = str(inputs.root), inputs.names
            items = [
                Datum(impath=str(inputs.root / path), label=number % len(names), domain=0,
                      classname=names[number % len(names)])
                for number, path in enumerate(inputs.paths)
            ]  # fmt: skip
            super().__init__(train_x=items[: cfg.BENCH.IMAGES], test=items)
            self._classnames, self._num_classes = names, len(names)  # including classes without training images
            self._lab2cname = dict(enumerate(names))
            self.protocol: dict = {}

    DATASET_REGISTRY.register()(BenchmarkImages)


def synchronise(device: str) -> None:
    """Wait until the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()
