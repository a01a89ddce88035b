#!/usr/bin/env bash
# Base-to-new: learn on the base classes, test on base and on new classes.
#
#   bash scripts/base2new_train.sh [DATASET] [SEED] [TRAINER] [DASSL OVERRIDES ...]
#   bash scripts/base2new_train.sh                                     # demo 1 FDBPL
#   bash scripts/base2new_train.sh demo 2 CoOp OPTIM.MAX_EPOCH 20
#
# LEARN=all learns from all classes, new ones included, and tests both halves: the published setting of PromptKD, with SHOTS=-1.
# Its runs lie in train_all and base2new_all, and its results have a table of their own.
# From the environment: DATA (data sets, default data), IMAGES (your own images, the data set folder), SYNTHETIC (the demo's
# data sets, default OUTPUT/synthetic), OUTPUT (default output), SHOTS (default 16; -1: all images), STUDENT (vit_b16, vit_b32,
# rn50, demo, demo_vit: which student's file) or CFG (that file itself: one of configs/trainers/<TRAINER>, without .yaml).
# Without either the demo's data sets take the demo models and all others CLIP's ViT-B/32.
# NPROC processes share each run (torchrun): one for every GPU.
# A finished run is not run again; an interrupted one goes on where it stopped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
protocol_arguments base2new "$@"
case "${LEARN:=base}" in
    base) LEARNT="base class, with the base half of the class names" ;;
    all) LEARNT="class, with all class names" ;;
esac
echo "Base-to-new: $TRAINER on $DATASET, seed $SEED, learns from $(images) of each $LEARNT; tested on all test images of the" \
    "base classes, and of the new classes with the other half of the names"

plan_steps
run_steps
"$PYTHON" -m fdbpl.runs base2new --learnt "$LEARN" "${RUNS[@]: -2}"
