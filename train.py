"""Train or test a prompt learner: CoOp's train.py with its flags. `python train.py --help` lists them.

    python train.py --root output/synthetic --seed 1 --trainer FDBPL --dataset-config-file configs/datasets/demo.yaml \
        --config-file configs/trainers/FDBPL/demo.yaml --output-dir output/my_run DATASET.SUBSAMPLE_CLASSES base
"""

import argparse
import sys
from argparse import ArgumentParser

from fdbpl.errors import check_utf8_arguments, cli_error_handler

LESS_MEMORY = (
    "set MODEL.TEXT_CHUNK 100 (text in parts, with the same gradients), a smaller DATALOADER.TRAIN_X.BATCH_SIZE or "
    "DATALOADER.TEST.BATCH_SIZE (REGIONS.BATCH_SIZE where regions are labelled), or the trainer's PREC amp or bf16"
)


def main() -> None:
    arguments = parse_arguments()
    with cli_error_handler(memory=LESS_MEMORY):
        check_utf8_arguments(sys.argv)
        from fdbpl.engine.run import run  # here, so that --help is quick and errors of the import are reported

        run(arguments)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="", help="folder of the data sets")
    parser.add_argument("--output-dir", default="", help="run folder")
    parser.add_argument("--resume", default="", help="checkpoint folder to resume from (default: --output-dir)")
    parser.add_argument("--seed", type=int, default=-1, help="seed of everything random; -1 draws one for the run")
    parser.add_argument("--trainer", default="", help="registered trainer, e.g. FDBPL, CoOp, CoOp_KDPL, ZeroshotCLIP")
    parser.add_argument("--dataset-config-file", default="", help="configs/datasets/*.yaml")
    parser.add_argument("--config-file", default="", help="configs/trainers/<Trainer>/*.yaml")
    parser.add_argument("--backbone", default="", help="student CLIP: name, file, or demo:rn-student")
    parser.add_argument("--transforms", nargs="+", help="training transforms")
    parser.add_argument("--source-domains", nargs="+", help="source domains (Dassl)")
    parser.add_argument("--target-domains", nargs="+", help="target domains (Dassl)")
    parser.add_argument("--head", default="", help="name of a head (Dassl)")
    parser.add_argument("--eval-only", action="store_true", help="test the weights in --model-dir, train nothing")
    parser.add_argument("--model-dir", default="", help="run folder that holds the weights for --eval-only")
    parser.add_argument("--load-epoch", type=int, help="epoch of those weights (default: the last one)")
    parser.add_argument("--no-train", action="store_true", help="build everything, train nothing")
    parser.add_argument(
        "--generate-regions", action="store_true", help="label the regions this run would read with its teacher, stop"
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="only algorithms that repeat themselves bit for bit (for a GPU)"
    )
    parser.add_argument("--list-trainers", action="store_true", help="print the registered trainers, stop")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="Dassl config keys to override")
    return parser.parse_args()


if __name__ == "__main__":
    main()
