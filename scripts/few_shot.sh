#!/usr/bin/env bash
# Few-shot: learn all classes from 1, 2, 4, 8 and 16 images of each, test on all classes.
#
#   bash scripts/few_shot.sh [DATASET] [SEED] [TRAINER] [DASSL OVERRIDES ...]
#   SHOTS="1 16" bash scripts/few_shot.sh demo 1 CoOp
#   SHOTS=16 bash scripts/few_shot.sh demo      # a model of all classes, for predict and export
#
# SHOTS: numbers of images, separated by spaces. DATA, OUTPUT, STUDENT, CFG, NPROC as in base2new_train.sh; without CFG the
# method's file for few shots is taken where it has one. A finished run is not run again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
protocol_arguments few_shot "$@"
[[ "$SHOTS" =~ ^([1-9][0-9]*\ *)+$ ]] || fail "expected numbers of images as SHOTS, found '$SHOTS'; e.g. SHOTS='1 2 4 8 16'"
echo "Few-shot: $TRAINER on $DATASET, seed $SEED, learns from $SHOTS images of each class, with all class names; tested on all" \
    "test images of all classes"

runs=()
for SHOTS in $SHOTS; do
    name_run
    learn "$OUTPUT/train_all/$RUN" all
    runs+=("$OUTPUT/train_all/$RUN")
done
printf 'Run folder: %s\n' "${runs[@]}"
"$PYTHON" -m fdbpl.runs few-shot "${runs[@]}"
