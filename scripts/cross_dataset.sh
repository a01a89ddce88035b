#!/usr/bin/env bash
# Cross-dataset: learn on all classes of one data set, test on other data sets with classes of their own.
#
#   bash scripts/cross_dataset.sh [DATASET] [SEED] [TRAINER] [DASSL OVERRIDES ...]
#   bash scripts/cross_dataset.sh imagenet 1 CoOp                      # -> the ten other data sets
#   TARGETS="dtd eurosat" bash scripts/cross_dataset.sh caltech101     # any source, with the targets named
#
# DATASET is the source. DATA, OUTPUT, SHOTS, STUDENT, CFG, NPROC as in base2new_train.sh; without CFG the method's file for
# cross-dataset is taken where it has one. A finished run is not run again; a target that is missing does not stop the others.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
protocol_arguments cross_dataset "$@"
echo "Cross-dataset: $TRAINER, seed $SEED, learns from $SHOTS images of each class of $DATASET, with all its class names; tested" \
    "on all test images of $TARGETS, each with its own class names"

learn_and_transfer
