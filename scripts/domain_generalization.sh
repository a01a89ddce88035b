#!/usr/bin/env bash
# Domain generalization: learn on all classes of one data set, test on other pictures of the same classes.
#
#   bash scripts/domain_generalization.sh [DATASET] [SEED] [TRAINER] [DASSL OVERRIDES ...]
#   bash scripts/domain_generalization.sh imagenet 1 CoOp              # -> ImageNetV2, -Sketch, -A, -R
#   TARGETS=imagenet_r bash scripts/domain_generalization.sh imagenet
#
# The training run is cross_dataset.sh's; everything else is as there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/protocol.sh"
protocol_arguments domain_generalization "$@"
echo "Domain generalization: $TRAINER, seed $SEED, learns from $(images) of each class of $DATASET, with all its class names;" \
    "tested on all test images of $TARGETS, each with the names of those classes that it has"

learn_and_transfer
