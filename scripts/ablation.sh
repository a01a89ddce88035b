#!/usr/bin/env bash
# Ablation of FDBPL: one table whose rows leave out or change a part of the same trainer.
#
#   bash scripts/ablation.sh [DATASETS] [SEEDS] [TRAINER] [KEY VALUE ...]            # demo, 1 2 3, FDBPL
#
# A special case of compare.sh, with its environment variables (EACH, JOBS, STUDENT, OUTPUT, LAUNCHER, DRY_RUN ...).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols ablation "$@"
