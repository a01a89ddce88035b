#!/usr/bin/env bash
# Few-shot: train on all classes with 1, 2, 4, 8 and 16 images of each, test on all classes.
#
#   bash scripts/few_shot.sh [DATASET] [SEED] [TRAINER] [KEY VALUE ...]
#   SHOTS="1 16" bash scripts/few_shot.sh demo 1 CoOp
#
# SHOTS: numbers of images, separated by spaces; all: all images. DATA, OUTPUT, STUDENT, CFG, NPROC as in base2new_train.sh;
# --help prints which configuration file is used. Finished runs are not repeated.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols few_shot "$@"
