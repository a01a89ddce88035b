#!/usr/bin/env bash
# Create the environment and run the tests in JOBS processes (default: 2).   bash scripts/test.sh [PYTEST ARGUMENTS ...]
#   bash scripts/test.sh                        lint and all tests, about 8 minutes on 2 cores
#   bash scripts/test.sh -m "not slow"          without the slow tests, 2 minutes
#   bash scripts/test.sh tests/prompts -x       some files
# FDBPL_DASSL=<checkout of Dassl.pytorch> runs the same tests on upstream's Dassl.
# FDBPL_SHARED=<folder> adds tests on real photographs and on numbers of the official implementations.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if [ -n "${FDBPL_DASSL:-}" ]; then
    [ -d "$FDBPL_DASSL/dassl" ] || fail "no checkout of Dassl.pytorch at $FDBPL_DASSL. Check the path in FDBPL_DASSL"
    make_environment requirements-upstream-dassl.txt pytest hypothesis ruff grimp xdist open_clip submitit wilds pandas tabulate
else
    make_environment requirements-dev.txt pytest hypothesis ruff grimp xdist open_clip submitit
fi
[ $# -gt 0 ] || "$PYTHON" -m ruff check .
exec "$PYTHON" -m pytest --numprocesses "${JOBS:-2}" --dist loadfile --no-loadscope-reorder "$@"
