#!/usr/bin/env bash
# Ablation: one table whose rows leave out or change a part of the same trainer.
#
#   bash scripts/ablation.sh [PROTOCOL] [DATASETS] [SEEDS] [TRAINER] [KEY VALUE ...]   # base2new, demo, 1 2 3, FDBPL
#
# ROWS: a file of configs/ablations (default: parts; docs/PROTOCOLS.md lists them) or a .yaml file of your own with lines
# LABEL: [TRAINER] KEY VALUE ...
#
# A special case of compare.sh, with its environment variables (EACH, REFERENCE, JOBS, STUDENT, OUTPUT, LAUNCHER, DRY_RUN ...).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols ablation "$@"
