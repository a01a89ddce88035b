#!/usr/bin/env bash
# How fast FDBPL is on this machine, beside what it replaces.   bash scripts/benchmark.sh [PROFILE] [FLAGS]
#   quick (default): every floor a CPU can show, 10 minutes on 2 cores; full: sweeps, hours, goes on where it was interrupted
#   FLAGS: --output DIR, --photos FOLDER, --device cpu|cuda
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m tools.benchmark "$@"
