#!/usr/bin/env bash
# Compare trainers: run what is missing of a grid, then print its tables.
#
#   bash scripts/compare.sh [PROTOCOL] [DATASETS] [SEEDS] [TRAINERS] [KEY VALUE ...]
#   bash scripts/compare.sh                                           # base2new, demo, seeds 1 2 3, every trainer
#   bash scripts/compare.sh demo "1 2" "CoOp CoOp_KDPL FDBPL" OPTIM.MAX_EPOCH 20
#   bash scripts/compare.sh few_shot "caltech101 dtd" "1 2 3" "CoOp FDBPL"
#   DRY_RUN=1 bash scripts/compare.sh cross_dataset imagenet          # only print the commands, and what is missing
#
# PROTOCOL: base2new (default), few_shot, cross_dataset or domain_generalization; DATA, OUTPUT, SHOTS, STUDENT, CFG, TARGETS
# as in its script. TRAINERS: by default every one with a configuration file for the student; on the demo's data sets, whose
# student here is the ViT, fewer for the other protocols. LEARN=all: base-to-new trained on all classes (base2new_train.sh).
#
# JOBS: runs at a time (default 1; 2 for the demo's small models). EACH=KEY=A,B,...: run all values of a key and average over
# them as over seeds. REFERENCE=ROW adds the differences from that row with 95 % intervals. LAUNCHER=slurm submits the runs, JOBS at a time, with settings such as
# SLURM="partition=gpu gpus_per_node=1 timeout_min=240"; LAUNCHER=local rehearses that on this machine (docs/PROTOCOLS.md).
# Finished runs are not repeated after an interruption. All runs on a data set share one region bank.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment requirements.txt
exec "$PYTHON" -m fdbpl.protocols compare "$@"
