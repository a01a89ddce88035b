#!/usr/bin/env bash
# Label the random regions of the few-shot images with the teacher, once for all later runs (Region Information Lookup).
#
#   bash scripts/generate_regions.sh [DATASET] [SEED] [TRAINER] [DASSL OVERRIDES ...]
#   bash scripts/generate_regions.sh demo 2 FDBPL REGIONS.PER_IMAGE 100
#
# DATA, OUTPUT, CFG, SHOTS as in base2new_train.sh. SUB (default all) is the half of the classes whose images are labelled.
# What is labelled already is not labelled again; an interrupted generation goes on where it stopped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
protocol_arguments base2new "$@"
case "${SUB:=all}" in all | base | new) ;; *) fail "expected SUB to be all, base or new, found '$SUB'; e.g. SUB=all" ;; esac
echo "Region bank: $TRAINER on $DATASET, seed $SEED, regions of $(images) of each of $SUB classes"

plan_steps
train_py "$DATASET" "$OUTPUT/regions" "$SUB" "$SHOTS" --generate-regions
