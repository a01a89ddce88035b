"""A data set of three colours and a linear model that learns them: a minimal user of Dassl's interface."""

import random
from pathlib import Path

import numpy as np
import torch
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX, build_trainer
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import set_random_seed, setup_logger
from PIL import Image
from torch import nn

COLOURS = {"red": (250, 40, 40), "green": (40, 250, 40), "blue": (40, 40, 250)}


class ToyColours(DatasetBase):
    """Nine training, three validation and six test images."""

    def __init__(self, cfg):
        parts = {
            part: [self.item(cfg, f"{part}-{name}-{number}.png", label, name)
                   for label, name in enumerate(COLOURS) for number in range(count)]
            for part, count in (("train", 3), ("val", 1), ("test", 2))
        }  # fmt: skip
        super().__init__(train_x=parts["train"], val=parts["val"], test=parts["test"])

    @staticmethod
    def item(cfg, file: str, label: int, name: str) -> Datum:
        path = Path(cfg.DATASET.ROOT, file)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 30), COLOURS[name]).save(path)
        return Datum(impath=str(path), label=label, classname=name)


class ToyTrainer(TrainerX):
    """A trainer written as in CoOp. `stop_before` is the epoch at which it is interrupted."""

    stop_before = None

    def build_model(self):
        torch.manual_seed(self.cfg.SEED)
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, len(COLOURS)))
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("prompt_learner", self.model, self.optim, self.sched)
        self.rates, self.seen = [], []

    def before_epoch(self):
        if self.epoch == self.stop_before:
            raise KeyboardInterrupt
        seed = 100 * self.cfg.SEED + self.epoch
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        self.rates.append(self.get_current_lr())
        self.seen.append([])

    def forward_backward(self, batch):
        self.seen[-1] += batch["index"].tolist()
        logits = self.model(batch["img"])
        loss = nn.functional.cross_entropy(logits, batch["label"])
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(logits, batch["label"])[0].item()}


DATASET_REGISTRY.register(ToyColours, force=True)
TRAINER_REGISTRY.register(ToyTrainer, force=True)


def config(folder, *overrides):
    """Return the configuration of a run in `folder`/run with data in `folder`/data; `overrides` are keys and values."""
    cfg = get_cfg_default()
    settings = {
        "OUTPUT_DIR": str(Path(folder, "run")), "SEED": 1, "USE_CUDA": False,
        "DATASET.ROOT": str(Path(folder, "data")), "DATASET.NAME": "ToyColours", "TRAINER.NAME": "ToyTrainer",
        "INPUT.SIZE": (8, 8), "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
        "DATALOADER.NUM_WORKERS": 0, "DATALOADER.TRAIN_X.BATCH_SIZE": 4, "DATALOADER.TEST.BATCH_SIZE": 4,
        "OPTIM.NAME": "sgd", "OPTIM.LR": 0.02, "OPTIM.MAX_EPOCH": 4, "OPTIM.LR_SCHEDULER": "cosine",
        "OPTIM.WARMUP_EPOCH": 1, "OPTIM.WARMUP_TYPE": "constant", "OPTIM.WARMUP_CONS_LR": 1e-5,
        "TRAIN.CHECKPOINT_FREQ": 1,
    }  # fmt: skip
    cfg.merge_from_list([word for pair in settings.items() for word in pair] + list(overrides))
    return cfg


def train(cfg) -> None:
    """Train as CoOp's train.py does."""
    setup_logger(cfg.OUTPUT_DIR)
    set_random_seed(cfg.SEED)
    build_trainer(cfg).train()
