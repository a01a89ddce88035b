#!/usr/bin/env bash
# Train a classifier of all classes and test it; print its folder and the commands that use it.
#
#   bash scripts/train.sh [DATASET] [SEED] [TRAINER] [KEY VALUE ...]
#   bash scripts/train.sh demo 1 CoOp
#   IMAGES=my_photos STUDENT=vit_b32 bash scripts/train.sh folder 1 FDBPL     # your own images
#
# SHOTS: number of training images per class (default all). DATA, IMAGES, OUTPUT, STUDENT, CFG, NPROC as in
# base2new_train.sh; --help prints which configuration file is used. Finished runs are not repeated.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols train "$@"
