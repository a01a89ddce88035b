#!/usr/bin/env bash
# The demo's table with the ResNet student: four class splits, seeds 1-3. Finished runs are not repeated.
#
#   bash scripts/demo_results.sh [TRAINERS]        # default: "ZeroshotCLIP CoOp CoOp_KDPL FDBPL"
#
# DRAW (test; validation for tuning), OUTPUT (output/demo_results), SYNTHETIC, JOBS, STUDENT as in compare.sh.
set -euo pipefail
export OUTPUT="${OUTPUT:-output/demo_results}" STUDENT="${STUDENT:-demo}" EACH="DATASET.DEMO.CLASS_SPLIT=1,2,3,4"
bash "$(dirname "${BASH_SOURCE[0]}")/compare.sh" demo "1 2 3" "${1:-ZeroshotCLIP CoOp CoOp_KDPL FDBPL}" \
    DATASET.DEMO.DRAW "${DRAW:-test}"
