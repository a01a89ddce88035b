#!/usr/bin/env bash
# Test fault tolerance for MINUTES (default 30): kill commands at random moments, fill disks, change clocks, use bad input.
#
#   bash scripts/soak.sh [MINUTES] [--seed N] [--jobs N] [--only WORD]
#
# Prints progress and a final table. Exit code 1 and a message if anything was lost, made twice, left over or not refused;
# the folder of that scenario is kept. --seed repeats the moments, --only selects scenarios by a word in their name.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements-dev.txt pytest hypothesis
exec "$PYTHON" -m tools.soak "$@"
