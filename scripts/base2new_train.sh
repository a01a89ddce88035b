#!/usr/bin/env bash
# Base-to-new: train on the base classes, test on the base and the new classes.
#
#   bash scripts/base2new_train.sh [DATASET] [SEED] [TRAINER] [KEY VALUE ...]
#   bash scripts/base2new_train.sh                                     # demo 1 FDBPL
#   bash scripts/base2new_train.sh demo 2 CoOp OPTIM.MAX_EPOCH 20
#
# LEARN=all trains on all classes, including the new ones, and tests both halves: the published setting of PromptKD, with
# SHOTS=all. Its runs are in train_all and base2new_all, and its results have a table of their own.
#
# JOINT=1 also classifies the test images of both halves among all classes, as a deployed classifier does
# (python -m fdbpl.evaluate RUN --joint), and prints these accuracies.
#
# Environment variables: DATA (data sets; default data), IMAGES (your own images, the data set folder), SYNTHETIC (the
# demo's data sets; default OUTPUT/synthetic), OUTPUT (default output), SHOTS (default 16; all: all images), STUDENT
# (vit_b16, vit_b32, rn50, demo, demo_vit) or CFG (a file of configs/trainers/<TRAINER>, without .yaml); --help prints the
# rule. NPROC processes share each run (torchrun), one per GPU. DETERMINISTIC=1 adds train.py's --deterministic.
# Finished runs are not repeated; an interrupted run is resumed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols base2new "$@"
