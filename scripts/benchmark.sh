#!/usr/bin/env bash
# Measure training steps of FDBPL and of the baselines on this machine.   bash scripts/benchmark.sh [PROFILE] [FLAGS]
#   quick (default): all performance targets, 25 minutes on 2 cores; full: more models and sizes, hours, resumable
#   FLAGS: --output DIR, --photos FOLDER, --device cpu|cuda
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m tools.benchmark "$@"
