#!/usr/bin/env bash
# Domain generalization: train on all classes of one data set, test on other images of the same classes.
#
#   bash scripts/domain_generalization.sh [DATASET] [SEED] [TRAINER] [KEY VALUE ...]
#   bash scripts/domain_generalization.sh imagenet 1 CoOp              # tests on ImageNetV2, -Sketch, -A, -R
#   TARGETS=imagenet_r bash scripts/domain_generalization.sh imagenet
#
# The training run is that of cross_dataset.sh; everything else is as described there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols domain_generalization "$@"
