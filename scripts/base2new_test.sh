#!/usr/bin/env bash
# Test a run of base2new_train.sh on the new (default) or the base classes.
#
#   bash scripts/base2new_test.sh [DATASET] [SEED] [TRAINER] [DASSL OVERRIDES ...]
#   SUB=base bash scripts/base2new_test.sh demo 1 CoOp
#
# SUB is new or base; LOADEP an epoch (default: the last); DATA, OUTPUT, CFG, SHOTS, LEARN as in base2new_train.sh. The overrides
# must be those that the run was trained with: they are part of its folder's name.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
protocol_arguments base2new "$@"
case "${SUB:=new}" in base | new) ;; *) fail "expected SUB to be base or new, found $SUB; e.g. SUB=new" ;; esac
[[ "${LOADEP:-1}" =~ ^[1-9][0-9]*$ ]] || fail "expected the number of an epoch as LOADEP, found '$LOADEP'; e.g. LOADEP=50"
echo "Base-to-new: $TRAINER on $DATASET, seed $SEED, as learnt from $(images) of each $([ "${LEARN:-}" = all ] || echo "base ")class; tested on" \
    "all test images of the $SUB classes, with the $SUB half of the class names"

TESTED_HALF="$SUB" EPOCH="${LOADEP:-}"
plan_steps
run_steps
