#!/usr/bin/env bash
# Generate the region bank: the teacher processes random regions of the few-shot images once, for all later runs.
#
#   bash scripts/generate_regions.sh [DATASET] [SEED] [TRAINER] [KEY VALUE ...]
#   bash scripts/generate_regions.sh demo 2 FDBPL REGIONS.PER_IMAGE 100
#
# SUB (default all): all, base or new classes. DATA, OUTPUT, STUDENT, CFG, SHOTS as in base2new_train.sh.
# Regions that are in the bank are not processed again; an interrupted generation is resumed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols generate_regions "$@"
