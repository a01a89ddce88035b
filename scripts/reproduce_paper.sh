#!/usr/bin/env bash
# The grid of the paper: 11 data sets, seeds 1 2 3, each method with labels, with KDPL and with FDBPL, four protocols.
#
#   bash scripts/reproduce_paper.sh [PROTOCOLS] [KEY VALUE ...]
#   DRY_RUN=1 bash scripts/reproduce_paper.sh                          # the plan: commands, missing data and weights
#   STUDENT=rn50 LAUNCHER=slurm JOBS=16 SLURM="partition=gpu gpus_per_node=1" bash scripts/reproduce_paper.sh base2new
#
# PROTOCOLS: by default all four; cross_dataset and domain_generalization train on imagenet. STUDENT: vit_b32 (default),
# vit_b16 or rn50; methods without a file for it are left out. TRAINERS, DATASETS and SEEDS narrow the grid; DATA, OUTPUT,
# JOBS, LAUNCHER, SLURM as in compare.sh. Finished runs are not repeated after an interruption.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols paper "$@"
