"""A typical fork of CoOp with its own trainers, datasets and clip, and the two lines of the plug-in."""

import argparse

import clip  # noqa: F401 (its own, edited)
from dassl.config import get_cfg_default
from dassl.engine import build_trainer
from dassl.utils import set_random_seed, setup_logger
from yacs.config import CfgNode as CN

import datasets.pets  # noqa: F401
import fdbpl.plugin
import trainers.coop  # noqa: F401


def extend_cfg(cfg):
    cfg.TRAINER.COOP = CN()
    cfg.TRAINER.COOP.N_CTX = 7
    cfg.TRAINER.COOP.PREC = "fp32"
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"
    fdbpl.plugin.extend_cfg(cfg)


def main():
    parser = argparse.ArgumentParser()
    for flag in ("root", "output-dir", "trainer", "model-dir"):
        parser.add_argument(f"--{flag}", type=str, default="")
    parser.add_argument("--load-epoch", type=int)
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("opts", default=None, nargs=argparse.REMAINDER)
    args = parser.parse_args()
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.DATASET.ROOT, cfg.OUTPUT_DIR, cfg.TRAINER.NAME, cfg.SEED = args.root, args.output_dir, args.trainer, 1
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    set_random_seed(cfg.SEED)
    setup_logger(cfg.OUTPUT_DIR)
    trainer = build_trainer(cfg)
    print(f"COOP: {dict(cfg.TRAINER.COOP)}")
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        trainer.test()
    else:
        trainer.train()


if __name__ == "__main__":
    main()
