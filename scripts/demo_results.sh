#!/usr/bin/env bash
# The demo world's table: every trainer, four class splits, seeds 1-3; resumable, nothing finished is run again.
#
#   bash scripts/demo_results.sh [TRAINERS ...]        # default: ZeroshotCLIP CoOp CoOp_KDPL FDBPL
#
# DRAW (test; validation for tuning), OUTPUT (output/demo_results), DATA, CFG as in base2new_train.sh.
set -euo pipefail
SCRIPTS="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$SCRIPTS/environment.sh"
export OUTPUT="${OUTPUT:-output/demo_results}" DRAW="${DRAW:-test}"
make_environment requirements.txt

for split in 1 2 3 4; do
    for trainer in "${@:-ZeroshotCLIP CoOp CoOp_KDPL FDBPL}"; do
        for name in $trainer; do
            for seed in 1 2 3; do
                [ "$name" != ZeroshotCLIP ] || [ "$seed" = 1 ] || continue # nothing random in it
                bash "$SCRIPTS/base2new_train.sh" demo "$seed" "$name" \
                    DATASET.DEMO.CLASS_SPLIT "$split" DATASET.DEMO.DRAW "$DRAW" | tail -n 1 | sed "s/^/split $split: /"
            done
        done
    done
done
"$PYTHON" -m fdbpl.runs table "$OUTPUT" --pool DATASET.DEMO.CLASS_SPLIT
