#!/usr/bin/env bash
# Measure training steps of FDBPL and of the baselines on this machine.   bash scripts/benchmark.sh [PROFILE] [FLAGS]
#   quick (default): performance targets, 25 minutes on 2 cores; runs: whole runs of several methods on the demo data,
#   seconds and accuracy; scale: large data sets; official: the own code of KDPL and of FDBPL's release next to our rewrites
#   (--kdpl CHECKOUT, --fdbpl CHECKOUT); full: more models and sizes, hours. All resume after an interruption.
#   FLAGS: --output DIR, --photos FOLDER, --device cpu|cuda
#   bash scripts/benchmark.sh document FILE ...: write docs/PERFORMANCE.md from the benchmark.json of these profiles
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m tools.benchmark "$@"
