#!/usr/bin/env bash
# Few-shot: learn all classes from 1, 2, 4, 8 and 16 images of each, test on all classes.
#
#   bash scripts/few_shot.sh [DATASET] [SEED] [TRAINER] [DASSL OVERRIDES ...]
#   SHOTS="1 16" bash scripts/few_shot.sh demo 1 CoOp
#   SHOTS=16 bash scripts/few_shot.sh demo      # a model of all classes, for predict and export
#
# SHOTS: numbers of images, separated by spaces; -1: all images. DATA, OUTPUT, STUDENT, CFG, NPROC as in base2new_train.sh;
# without CFG the method's file for few shots is taken where it has one. A finished run is not run again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
protocol_arguments few_shot "$@"
echo "Few-shot: $TRAINER on $DATASET, seed $SEED, learns from $(images) of each class, with all class names; tested on all" \
    "test images of all classes"

plan_steps
run_steps
printf 'Run folder: %s\n' "${RUNS[@]}"
"$PYTHON" -m fdbpl.runs few-shot "${RUNS[@]}"
