#!/usr/bin/env bash
# The comparison: trainers side by side. Runs whatever is missing of the grid, then prints its tables.
#
#   bash scripts/compare.sh [PROTOCOL] [DATASETS] [SEEDS] [TRAINERS] [DASSL OVERRIDES ...]
#   bash scripts/compare.sh                                           # base2new, demo, seeds 1 2 3, every trainer
#   bash scripts/compare.sh demo "1 2" "CoOp CoOp_KDPL FDBPL" OPTIM.MAX_EPOCH 20
#   bash scripts/compare.sh few_shot "caltech101 dtd" "1 2 3" "CoOp FDBPL"
#   DRY_RUN=1 bash scripts/compare.sh cross_dataset imagenet          # only what would run, and what is missing for it
#
# PROTOCOL: base2new (may be left out), few_shot, cross_dataset or domain_generalization, each a script that takes DATA, OUTPUT,
# SHOTS, STUDENT, CFG, TARGETS as it says there. TRAINERS: by default every one that has a file for the student; on the demo
# world, whose student here is the ViT, for few_shot ZeroshotCLIP CoOp CoOp_KDPL FDBPL MaPLe FDBPL_MaPLe, and for the
# last two protocols PromptSRC FDBPL_PromptSRC as well.
# LEARN=all: base-to-new whose trainings see all classes (base2new_train.sh).
# JOBS runs at a time (default 1; 2 for the demo world's small models). EACH=KEY=A,B,... runs through the values of a key and
# averages over them as over seeds. LAUNCHER=slurm submits the runs, JOBS at a time, with settings such as
# SLURM="partition=gpu gpus_per_node=1 timeout_min=240"; LAUNCHER=local rehearses that on this machine (docs/PROTOCOLS.md).
# Interrupt it as you like: what is finished is not run again. One region bank serves all of a data set.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/grid.sh"
PROTOCOL=base2new
case "${1:-}" in
    base2new | few_shot | cross_dataset | domain_generalization) PROTOCOL="$1" && shift ;;
    *) for DATASET in ${1:-}; do
        check_dataset "$DATASET" "a protocol (base2new,few_shot,cross_dataset,domain_generalization) or data sets"
    done ;;
esac
grid_arguments "$PROTOCOL" "${1:-demo}" "${2:-1 2 3}" "${@:4}"
NAMED="${3:-}"

# The trainers of DATASET: those that were named, or the defaults that have a file for its student
trainers() {
    local chosen
    if [ -n "$NAMED" ]; then
        echo "$NAMED"
        return
    fi
    chosen="$("$PYTHON" train.py --list-trainers)" || exit
    if is_demo "$DATASET"; then
        case "$PROTOCOL" in
            few_shot) chosen="ZeroshotCLIP CoOp CoOp_KDPL FDBPL MaPLe FDBPL_MaPLe" ;;
            cross_dataset | domain_generalization)
                chosen="ZeroshotCLIP CoOp CoOp_KDPL FDBPL MaPLe FDBPL_MaPLe PromptSRC FDBPL_PromptSRC" ;;
        esac
    fi
    for TRAINER in $chosen; do
        FOLDER="configs/trainers/$(config_folder)"
        if [ -f "$FOLDER/${CFG:-$(default_config)}.yaml" ]; then echo "$TRAINER"; fi
    done
}

rows() {
    local list STUDENT="${STUDENT:-$(default_student)}"
    list="$(trainers)" || exit
    for TRAINER in $list; do row "$TRAINER"; done
}

all="$(for_each_dataset rows)"
run_grid "$all" "${@:4}"
