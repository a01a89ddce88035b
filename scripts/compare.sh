#!/usr/bin/env bash
# The comparison: every trainer on base and new classes, side by side in one table.
#
#   bash scripts/compare.sh [DATASET] [SEEDS] [TRAINERS] [DASSL OVERRIDES ...]
#   bash scripts/compare.sh demo                                      # every registered trainer, seeds 1 2 3
#   bash scripts/compare.sh demo "1 2" "CoOp CoOp_KDPL FDBPL" OPTIM.MAX_EPOCH 20
#
# JOBS runs at a time (default 1; 2 for the demo world's small models); EACH=KEY=A,B,... runs through the values of a key and
# averages over them as over seeds. DATA, OUTPUT, SHOTS, STUDENT as in base2new_train.sh; the demo world's student is the ViT
# here, which every method can train. Interrupt it as you like: what is finished is not run again. One region bank serves all.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
DATASET="${1:-demo}" SEEDS="${2:-1 2 3}" TRAINERS="${3:-}"
OUTPUT="${OUTPUT:-output}" SHOTS="${SHOTS:-16}"
[ "$DATASET" != demo ] || STUDENT="${STUDENT:-demo_vit}" JOBS="${JOBS:-2}"
check_dataset
make_environment requirements.txt
TRAINERS="${TRAINERS:-$("$PYTHON" train.py --list-trainers)}"

for TRAINER in $TRAINERS; do
    FOLDER="configs/trainers/$(config_folder)"
    printf '%s\t%s\t%s\n' "$TRAINER" "$TRAINER" "$(default_config)"
done | "$PYTHON" -m fdbpl.runs compare --output "$OUTPUT" --dataset "$DATASET" --seeds "$SEEDS" --shots "$SHOTS" --jobs "${JOBS:-1}" \
    --each "${EACH:-}" "${@:4}"
