#!/usr/bin/env bash
# Train the demo world's CLIPs from nothing: ResNet student, ViT student (from the ResNet's embeddings), teacher.
# About 30 CPU minutes; a GPU is used where there is one. An interrupted training goes on where it stopped.
#
#   bash scripts/pretrain_demo.sh [FOLDER]      # default: fdbpl/backbones/weights, whose files it replaces
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
FOLDER="${1:-fdbpl/backbones/weights}"

export OMP_NUM_THREADS=1
"$PYTHON" -m fdbpl.demo.pretrain teacher --output "$FOLDER" &
"$PYTHON" -m fdbpl.demo.pretrain rn-student --output "$FOLDER"
"$PYTHON" -m fdbpl.demo.pretrain vit-student --output "$FOLDER"
wait %1
(cd "$FOLDER" && sha256sum -c SHA256SUMS)
