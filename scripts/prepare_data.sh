#!/usr/bin/env bash
# Get data sets into CoOp's layout, or check those that are there.
#
#   bash scripts/prepare_data.sh [DATASET ...] [--root DIR] [--keep-archives]     # default: all of them, into DATA or data
#   bash scripts/prepare_data.sh caltech101 dtd --root /path/to/datasets
#   bash scripts/prepare_data.sh [DATASET ...] [--root DIR] --check               # what is there, missing, broken
#   bash scripts/prepare_data.sh --list                                           # what is fetched from where
#
# Resumable: what is there is not fetched again. FDBPL_MIRROR=http://host/folder is asked first (docs/DATASETS.md).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt

# A relative --root is meant from where the user stands.
ARGUMENTS=() BEFORE=""
for ARGUMENT in "$@"; do
    case "$BEFORE:$ARGUMENT" in
        --root:/*) ;;
        --root:*) ARGUMENT="$CALLED_FROM/$ARGUMENT" ;;
        *:--root=/*) ;;
        *:--root=*) ARGUMENT="--root=$CALLED_FROM/${ARGUMENT#--root=}" ;;
    esac
    BEFORE="$ARGUMENT"
    ARGUMENTS+=("$ARGUMENT")
done
exec "$PYTHON" -m fdbpl.data.prepare ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}
