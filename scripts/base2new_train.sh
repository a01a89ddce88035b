#!/usr/bin/env bash
# Base-to-new: learn on the base classes, test on base and on new classes.
#
#   bash scripts/base2new_train.sh [DATASET] [SEED] [TRAINER] [DASSL OVERRIDES ...]
#   bash scripts/base2new_train.sh                                     # demo 1 FDBPL
#   bash scripts/base2new_train.sh demo 2 CoOp OPTIM.MAX_EPOCH 20
#
# From the environment: DATA (data sets, default data), IMAGES (your own images, the data set folder), SYNTHETIC (the demo's
# data sets, default OUTPUT/synthetic), OUTPUT (default output), SHOTS (default 16), STUDENT (vit_b16, vit_b32,
# rn50, demo, demo_vit: which student's file) or CFG (that file itself: one of configs/trainers/<TRAINER>, without .yaml).
# NPROC processes share each run (torchrun): one for every GPU.
# A finished run is not run again; an interrupted one goes on where it stopped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
protocol_arguments base2new "$@"
echo "Base-to-new: $TRAINER on $DATASET, seed $SEED, learns from $SHOTS images of each base class, with the base half of the" \
    "class names; tested on all test images of the base classes, and of the new classes with the other half of the names"

name_run
BASE="$OUTPUT/base2new/train_base/$RUN" NEW="$OUTPUT/base2new/test_new/$RUN"
learn "$BASE" base
train_py "$DATASET" "$NEW" new --eval-only --model-dir "$BASE"
"$PYTHON" -m fdbpl.runs base2new "$BASE" "$NEW"
