#!/usr/bin/env bash
# Kill everything at random moments, fill disks, turn clocks back, try bad input, for MINUTES (default 30): is anything lost?
#
#   bash scripts/soak.sh [MINUTES] [--seed N] [--jobs N] [--only WORD]
#
# Prints what it does with the time left, then a table of kills and faults and all counts. Exit code 1 and a sentence where
# anything was lost, made twice, left over or not refused; its folder is kept then. --seed repeats the moments, --only takes scenarios with WORD in their name.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements-dev.txt pytest hypothesis
exec "$PYTHON" -m tools.soak "$@"
