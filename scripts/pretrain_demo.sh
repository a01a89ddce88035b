#!/usr/bin/env bash
# Pre-train the demo's CLIP models from scratch: teacher, ResNet student, and ViT student (distilled from the ResNet).
# About 35 minutes on a CPU; a GPU is used if available. An interrupted training resumes.
#
#   bash scripts/pretrain_demo.sh [FOLDER]      # default: fdbpl/backbones/weights, whose files it replaces
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
FOLDER="${1:-fdbpl/backbones/weights}"
case "$FOLDER" in /*) ;; *) [ -z "${1:-}" ] || FOLDER="$CALLED_FROM/$FOLDER" ;; esac

export OMP_NUM_THREADS=1
"$PYTHON" -m fdbpl.interruption "$PYTHON" -m tools.demo_pretraining teacher --output "$FOLDER" &
TEACHER=$!
trap 'kill "$TEACHER" 2>/dev/null || true' EXIT # where a student's training ends early
attached "$PYTHON" -m tools.demo_pretraining rn-student --output "$FOLDER"
attached "$PYTHON" -m tools.demo_pretraining vit-student --output "$FOLDER"
wait "$TEACHER"
(cd "$FOLDER" && sha256sum -c SHA256SUMS)
