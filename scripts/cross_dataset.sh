#!/usr/bin/env bash
# Cross-dataset: learn on all classes of one data set, test on other data sets with classes of their own.
#
#   bash scripts/cross_dataset.sh [DATASET] [SEED] [TRAINER] [DASSL OVERRIDES ...]
#   bash scripts/cross_dataset.sh imagenet 1 CoOp                      # -> the ten other data sets
#   TARGETS="dtd eurosat" bash scripts/cross_dataset.sh caltech101     # any source, with the targets named
#   IMAGES=my_photos TARGETS=folder bash scripts/cross_dataset.sh demo # tested on your own images
#
# DATASET is the source. DATA, IMAGES, OUTPUT, SHOTS, STUDENT, CFG, NPROC as in base2new_train.sh; without CFG the method's file
# for cross-dataset is taken where it has one. If folder is the source and a target, TARGET_IMAGES names the target's images.
# A finished run is not run again; a target that is missing does not stop the others.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
protocol_arguments cross_dataset "$@"
echo "Cross-dataset: $TRAINER, seed $SEED, learns from $(images) of each class of $DATASET, with all its class names; tested" \
    "on all test images of $TARGETS, each with its own class names"

learn_and_transfer
