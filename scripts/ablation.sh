#!/usr/bin/env bash
# What each part of FDBPL contributes: one table, every row the same trainer with a part left out or changed.
#
#   bash scripts/ablation.sh [DATASET] [SEEDS] [TRAINER] [DASSL OVERRIDES ...]            # demo, 1 2 3, FDBPL
#
# Environment as in compare.sh, which it is a special case of (EACH, JOBS, STUDENT, OUTPUT, LAUNCHER, DRY_RUN ...).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/grid.sh"
grid_arguments base2new "${1:-demo}" "${2:-1 2 3}" "${@:4}"
TRAINER="${3:-FDBPL}"

rows() {
    local key=TRAINER.FDBPL
    row "bank only" $key.REGION_WEIGHT False $key.NEGATIVE_WEIGHT 0 $key.COUPLING_WEIGHT 0 $key.PCD_WEIGHT 0
    row "+ w" $key.NEGATIVE_WEIGHT 0 $key.COUPLING_WEIGHT 0 $key.PCD_WEIGHT 0
    row "+ negative space" $key.PCD_WEIGHT 0
    row "+ PCD (= $TRAINER)"
    row "$TRAINER, inference s+ - s-" $key.TEST_LOGITS difference
    row "$TRAINER, 10 regions an image" REGIONS.PER_IMAGE 10
    row "$TRAINER, regions of 30 % and more" REGIONS.SCALE "(0.3, 0.936)"
}

all="$(for_each_dataset rows)"
run_grid "$all" "${@:4}"
