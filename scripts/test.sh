#!/usr/bin/env bash
# Makes the environment and passes the tests, JOBS files at a time (2).   bash scripts/test.sh [PYTEST ARGUMENTS ...]
# FDBPL_DASSL=<checkout of Dassl.pytorch> runs the same tests on upstream's Dassl.
# FDBPL_SHARED=<folder> adds tests on real photographs and the official implementations' numbers.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if [ -n "${FDBPL_DASSL:-}" ]; then
    [ -d "$FDBPL_DASSL/dassl" ] || fail "expected a checkout of Dassl.pytorch in FDBPL_DASSL, found none at $FDBPL_DASSL; check the path"
    make_environment requirements-upstream-dassl.txt pytest hypothesis ruff xdist open_clip submitit wilds pandas tabulate
else
    make_environment requirements-dev.txt pytest hypothesis ruff xdist open_clip submitit
fi
if [ $# -gt 0 ]; then
    "$PYTHON" -m pytest "$@"
else
    "$PYTHON" -m ruff check .
    "$PYTHON" -m pytest --numprocesses "${JOBS:-2}" --dist loadfile
fi
