#!/usr/bin/env bash
# Test a training of base2new_train.sh on the new (default) or the base classes.
#
#   bash scripts/base2new_test.sh [DATASET] [SEED] [TRAINER] [KEY VALUE ...]
#   SUB=base bash scripts/base2new_test.sh demo 1 CoOp
#
# SUB: new or base. LOADEP: an epoch (default: the last). DATA, OUTPUT, STUDENT, CFG, SHOTS, LEARN as in base2new_train.sh.
# Pass the same overrides as for the training: they are part of the name of its folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols base2new_test "$@"
