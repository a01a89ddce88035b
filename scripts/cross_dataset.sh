#!/usr/bin/env bash
# Cross-dataset: train on all classes of one data set, test on other data sets with other classes.
#
#   bash scripts/cross_dataset.sh [DATASET] [SEED] [TRAINER] [KEY VALUE ...]
#   bash scripts/cross_dataset.sh imagenet 1 CoOp                      # tests on the ten other data sets
#   TARGETS="dtd eurosat" bash scripts/cross_dataset.sh caltech101     # any source, with explicit targets
#   IMAGES=my_photos TARGETS=folder bash scripts/cross_dataset.sh demo # tests on your own images
#
# DATASET is the source. DATA, IMAGES, OUTPUT, SHOTS, STUDENT, CFG, NPROC as in base2new_train.sh; --help prints which
# configuration file is used. If folder is both the source and a target, TARGET_IMAGES names the images of the target.
# Finished runs are not repeated; a target without data does not stop the others.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols cross_dataset "$@"
